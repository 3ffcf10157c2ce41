package vfs

import (
	"math/rand/v2"
	"slices"
)

// memPageBytes is the page of the cache: the unit that a failed sync loses. memPieceBytes is the
// sector: the unit that a power cut writes whole or not at all.
const (
	memPageBytes  = 4096
	memPieceBytes = 512
)

type memPage [memPageBytes]byte

// memSlot is one page of a file as readers see it and as the disk has it. A nil page is zeros.
// A page that is not dirty is never written in place, so clones share it.
type memSlot struct {
	cur, disk *memPage
	dirty     bool // cur differs from disk and the next sync writes it
	resident  bool // what mincore would say
	alloc     bool // takes up space on the disk
}

// memData is the content of one file.
//
//	floor <= min(size, diskSize)
//	bytes of cur at and past size are zero; bytes of disk at and past diskSize are zero
//
// A slot with cur != disk that is not dirty was lost by a failed sync: readers see cur until the
// cache is dropped, and the disk never gets it.
type memData struct {
	size     int64
	diskSize int64
	floor    int64 // the smallest length since the last sync: what lies past it on disk may be gone
	slots    []memSlot
	dirty    []int // indexes of the dirty slots, in the order they became dirty
}

func (d *memData) readAt(p []byte, off int64) int {
	p = p[:min(int64(len(p)), max(d.size-off, 0))]
	for n := 0; n < len(p); {
		i, at := int((off+int64(n))/memPageBytes), int((off+int64(n))%memPageBytes)
		part := p[n:min(len(p), n+memPageBytes-at)]
		if i < len(d.slots) && d.slots[i].cur != nil {
			copy(part, d.slots[i].cur[at:])
			d.slots[i].resident = true
		} else {
			clear(part)
		}
		n += len(part)
	}
	return len(p)
}

func (d *memData) writeAt(p []byte, off int64) {
	d.grow(pagesUpTo(off + int64(len(p))))
	for n := 0; n < len(p); {
		i, at := int((off+int64(n))/memPageBytes), int((off+int64(n))%memPageBytes)
		n += copy(d.own(i)[at:], p[n:])
	}
	d.size = max(d.size, off+int64(len(p)))
}

func (d *memData) truncate(size int64) {
	for i := pagesUpTo(size); i < len(d.slots); i++ {
		s := &d.slots[i]
		if s.cur != nil || s.disk != nil {
			d.markDirty(i)
		}
		s.cur, s.resident = nil, false
	}
	if at := size % memPageBytes; at != 0 && size < d.size && size/memPageBytes < int64(len(d.slots)) {
		clear(d.own(int(size / memPageBytes))[at:])
	}
	d.size = size
	d.floor = min(d.floor, size)
}

func (d *memData) sync() {
	for _, i := range d.dirty {
		s := &d.slots[i]
		s.disk, s.dirty = s.cur, false
	}
	d.dirty = nil
	d.diskSize, d.floor = d.size, d.size
}

// loseUnsynced is what Linux does after a failed fdatasync: the pages become clean as they are.
func (d *memData) loseUnsynced() {
	for _, i := range d.dirty {
		d.slots[i].dirty = false
	}
	d.dirty = nil
}

// dropCache forgets clean pages that lie wholly in [off, end).
func (d *memData) dropCache(off, end int64) {
	for i := pagesUpTo(off); i < min(len(d.slots), pagesUpTo(d.size)) && int64(i)*memPageBytes < end; i++ {
		if s := &d.slots[i]; !s.dirty && min((int64(i)+1)*memPageBytes, d.size) <= end {
			s.cur, s.resident = s.disk, false
		}
	}
	// The disk may have a longer file, which must not show through past the length.
	if at := d.size % memPageBytes; at != 0 && d.size < d.diskSize && d.size/memPageBytes < int64(len(d.slots)) {
		clear(d.own(int(d.size / memPageBytes))[at:])
	}
}

func (d *memData) resident(off, end int64) bool {
	for i := int(off / memPageBytes); i < len(d.slots) && int64(i)*memPageBytes < end; i++ {
		if d.slots[i].resident {
			return true
		}
	}
	return false
}

// own makes page i dirty and returns it for writing in place.
func (d *memData) own(i int) *memPage {
	s := &d.slots[i]
	if !s.dirty || s.cur == nil {
		p := new(memPage)
		if s.cur != nil {
			*p = *s.cur
		}
		s.cur = p
		d.markDirty(i)
	}
	s.resident = true
	return s.cur
}

func (d *memData) markDirty(i int) {
	if !d.slots[i].dirty {
		d.slots[i].dirty = true
		d.dirty = append(d.dirty, i)
	}
}

func (d *memData) grow(pages int) {
	if pages > len(d.slots) {
		d.slots = append(d.slots, make([]memSlot, pages-len(d.slots))...)
	}
}

// copyAll is the same content with the same unsynced part, sharing no page that may be written.
func (d *memData) copyAll() *memData {
	c := &memData{size: d.size, diskSize: d.diskSize, floor: d.floor, slots: slices.Clone(d.slots), dirty: slices.Clone(d.dirty)}
	for _, i := range c.dirty {
		if p := c.slots[i].cur; p != nil {
			own := *p
			c.slots[i].cur = &own
		}
	}
	return c
}

// crash is what a power cut leaves. rng nil loses everything unsynced.
func (d *memData) crash(rng *rand.Rand) *memData {
	size, cut, limit := d.crashLength(rng)
	c := &memData{slots: make([]memSlot, pagesUpTo(size))}
	for i := range min(len(c.slots), len(d.slots)) {
		c.slots[i].disk = d.slots[i].disk
	}
	c.zeroFrom(cut)
	if rng != nil {
		c.tear(d, limit, rng)
	}
	c.zeroFrom(size)
	for i := range c.slots {
		s := &c.slots[i]
		s.cur, s.alloc, s.dirty = s.disk, s.disk != nil, false
	}
	c.size, c.diskSize, c.floor = size, size, size
	return c
}

// crashLength draws the length after the cut, where the old content ends (cut), and up to where
// unsynced pieces may show (limit). A truncation that was not synced happened or did not; if it
// did not, what was written past it was written to blocks that the file never got.
func (d *memData) crashLength(rng *rand.Rand) (size, cut, limit int64) {
	if rng == nil || (d.floor < d.diskSize && rng.IntN(2) == 0) {
		return d.diskSize, d.diskSize, d.floor
	}
	size = d.floor
	switch rng.IntN(4) {
	case 0: // the least
	case 1:
		size = d.size
	default:
		size += rng.Int64N(d.size - d.floor + 1)
	}
	return size, d.floor, size
}

// tear lets unsynced pieces of from survive in c: none, all, or each by its own coin, because
// real disks do all three and a coin for each piece alone would hardly ever show the first two.
func (c *memData) tear(from *memData, limit int64, rng *rand.Rand) {
	mode := rng.IntN(4)
	for _, i := range slices.Sorted(slices.Values(from.dirty)) {
		src := from.slots[i].cur
		for at := int64(0); at < memPageBytes; at += memPieceBytes {
			survives := mode == 1 || (mode > 1 && rng.IntN(2) == 0)
			pos := int64(i)*memPageBytes + at
			if !survives || pos >= limit {
				continue
			}
			c.grow(i + 1)
			dst := c.ownDisk(i)[at:min(at+memPieceBytes, at+limit-pos)]
			if src == nil {
				clear(dst)
			} else {
				copy(dst, src[at:])
			}
		}
	}
}

// zeroFrom clears what the disk has at and past pos.
func (c *memData) zeroFrom(pos int64) {
	for i := int(pos / memPageBytes); i < len(c.slots); i++ {
		at := max(pos-int64(i)*memPageBytes, 0)
		if c.slots[i].disk == nil {
			continue
		}
		if at == 0 {
			c.slots[i].disk = nil
		} else {
			clear(c.ownDisk(i)[at:])
		}
	}
}

// ownDisk is a page of a clone for writing in place; dirty marks it as copied until crash is done.
func (c *memData) ownDisk(i int) *memPage {
	s := &c.slots[i]
	if !s.dirty {
		p := new(memPage)
		if s.disk != nil {
			*p = *s.disk
		}
		s.disk, s.dirty = p, true
	}
	return s.disk
}

func pagesUpTo(size int64) int { return int((size + memPageBytes - 1) / memPageBytes) }
