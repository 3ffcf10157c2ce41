package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
)

// A compacted segment takes the place of one or more neighbours in these steps, each durable before
// the next:
//
//	data and index under temporary names    nothing has happened: an open removes them
//	the swap file                           from here on an open completes what follows
//	data and index get their names, the files of the other segments go
//	the swap file goes
//
// Each step may be done again, so a crash inside one does no harm.
const (
	swapName           = "swap"
	cleanedSuffix      = ".cleaned" + tempSuffix
	cleanedIndexSuffix = ".cleaned-index" + tempSuffix

	swapMagic   = "VARVEswp"
	swapVersion = 1
	swapHead    = 8 + 2 + 2 + 8 + 8 + 4
	// maxSwapBases bounds the segments that become one: as many of the smallest as fit the largest.
	maxSwapBases = 1 << 20
)

// swapFile says which segments become the one that begins at base and ends at next.
//
//	8 bytes magic "VARVEswp", uint16 version 1, uint16 0, int64 base, int64 next
//	uint32 n, n x int64 base of a segment that goes, rising    uint32 CRC32C of all before
type swapFile struct {
	base, next int64
	gone       []int64 // base < gone[i] < next
}

var errSwap = errors.New("swap file is corrupt")

func (s *swapFile) encode() []byte {
	be := binary.BigEndian
	b := make([]byte, 0, swapHead+8*len(s.gone)+4)
	b = append(b, swapMagic...)
	b = be.AppendUint16(b, swapVersion)
	b = be.AppendUint16(b, 0)
	b = be.AppendUint64(b, uint64(s.base))
	b = be.AppendUint64(b, uint64(s.next))
	b = be.AppendUint32(b, uint32(len(s.gone)))
	for _, g := range s.gone {
		b = be.AppendUint64(b, uint64(g))
	}
	return be.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeSwap(b []byte) (*swapFile, error) {
	be := binary.BigEndian
	if len(b) < swapHead+4 || string(b[:8]) != swapMagic {
		return nil, fmt.Errorf("%d bytes: %w", len(b), errSwap)
	}
	body, sum := b[:len(b)-4], be.Uint32(b[len(b)-4:])
	n := int64(be.Uint32(b[swapHead-4:]))
	switch {
	case crc32.Checksum(body, castagnoli) != sum:
		return nil, fmt.Errorf("checksum: %w", errSwap)
	case be.Uint16(b[8:]) != swapVersion || be.Uint16(b[10:]) != 0:
		return nil, fmt.Errorf("version %d: %w", be.Uint16(b[8:]), errSwap)
	case int64(len(body)) != swapHead+8*n:
		return nil, fmt.Errorf("%d segments in %d bytes: %w", n, len(b), errSwap)
	}
	s := &swapFile{base: int64(be.Uint64(b[12:])), next: int64(be.Uint64(b[20:]))}
	before := s.base
	for i := range n {
		g := int64(be.Uint64(body[swapHead+8*i:]))
		if g <= before || g >= s.next {
			return nil, fmt.Errorf("segment %d in [%d, %d): %w", g, s.base, s.next, errSwap)
		}
		s.gone, before = append(s.gone, g), g
	}
	if s.base < 0 || s.next <= s.base {
		return nil, fmt.Errorf("range [%d, %d): %w", s.base, s.next, errSwap)
	}
	return s, nil
}

// checkRun answers errMoved if neighbours in the segment list are not there any more as they were.
func (l *Log) checkRun(run []*segment) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.findRunLocked(run)
	return err
}

// findRunLocked is the place of neighbours in the segment list, or errMoved.
func (l *Log) findRunLocked(run []*segment) (at int, err error) {
	if err := l.usableLocked(); err != nil {
		return 0, err
	}
	list := l.list()
	at = find(list, run[0].base)
	if at < 0 || at+len(run) > len(list) || !slices.Equal(list[at:at+len(run)], run) {
		return 0, errMoved
	}
	for _, s := range run {
		if !s.persisted || s.sealing != nil {
			return 0, errMoved // its index is being rebuilt
		}
	}
	return at, nil
}

// swapIn puts a finished output in the place of the segments that it was made of.
func (l *Log) swapIn(old []*segment, out *cleanOutput, mark *cleanMark) error {
	l.filesMu.Lock()
	defer l.filesMu.Unlock()
	if err := l.checkRun(old); err != nil {
		return err
	}
	x, err := l.cleanedIndex(old, out, mark)
	if err != nil {
		return err
	}
	e, swap := l.env, &swapFile{base: out.seg.base, next: x.next}
	for _, s := range old[1:] {
		swap.gone = append(swap.gone, s.base)
	}
	at := e.watch.begin()
	defer e.watch.end(at)
	// The directory sync in it makes the name of the data durable too.
	if err := writeFileSynced(e.cfg.FS, l.dir, l.dir+"/"+segmentName(swap.base, cleanedIndexSuffix), x.encode(), nil); err != nil {
		return e.writeError(fmt.Errorf("write index of compacted segment %d: %w", swap.base, err))
	}
	e.step("compact.prepared")
	if err := writeFileSynced(e.cfg.FS, l.dir, l.dir+"/"+swapName, swap.encode(), nil); err != nil {
		_ = e.cfg.FS.Remove(l.dir + "/" + segmentName(swap.base, cleanedIndexSuffix)) // a leftover is removed at the next open
		return e.writeError(fmt.Errorf("begin swap of segment %d: %w", swap.base, err))
	}
	e.step("compact.marked")
	l.publishSwap(old, out, x, mark)
	if err := l.finishSwap(swap); err != nil {
		return e.fail(err)
	}
	e.step("compact.done")
	s := out.seg
	l.mu.Lock()
	s.sealing = nil
	l.mu.Unlock()
	if idx := s.index.Load(); idx != nil {
		e.indexes.add(s, idx.bytes())
	}
	s.unpin()
	s.closeIdle() // the next reader opens it by its name
	return nil
}

// cleanedIndex makes the index file of an output: its own entries and times, the state at its end
// from the last segment that it was made of.
func (l *Log) cleanedIndex(old []*segment, out *cleanOutput, mark *cleanMark) (*indexFile, error) {
	end, err := l.readIndex(old[len(old)-1])
	if err != nil {
		return nil, l.indexLost(old[len(old)-1], err)
	}
	s := out.seg
	if s.meta.next != end.next || s.meta.size != out.wrote {
		panic(fmt.Sprintf("commitlog: compaction made [%d, %d) in %d bytes of [%d, %d), wrote %d", s.base, s.meta.next, s.meta.size, s.base, end.next, out.wrote))
	}
	var aborted []AbortedTxn
	maxTime := int64(-1)
	for _, o := range old {
		txns, err := l.abortedOf(o)
		if err != nil {
			return nil, err
		}
		for _, a := range txns {
			if _, ok := slices.BinarySearch(out.markers, a.Last); ok {
				aborted = append(aborted, a)
			}
		}
		maxTime = max(maxTime, o.meta.maxTime)
	}
	s.meta.baseTime, s.meta.abortedCount = old[0].meta.baseTime, uint32(len(aborted))
	if s.meta.maxTime < 0 {
		s.meta.maxTime, s.meta.maxTimeBase = maxTime, s.base // no record is left, but retention by time goes on
	}
	x := &indexFile{
		indexFooter: indexFooter{segmentMeta: s.meta, kind: kindSegment},
		index:       s.entries, history: end.history, abortedBy: aborted, snapshot: end.snapshot,
	}
	if mark != nil {
		x.flags, x.horizon = flagCleaned, mark.horizon
	}
	return x, nil
}

// publishSwap makes readers see the new segment. Until its file has its name it is pinned, and what
// its index file will say is taken from memory. Readers of the old ones go on with what they hold.
func (l *Log) publishSwap(old []*segment, out *cleanOutput, x *indexFile, mark *cleanMark) {
	s := out.seg
	s.io.Lock()
	s.setFileLocked(out.file)
	s.io.pins++
	s.io.Unlock()
	out.file = nil // the segment's from here on
	s.index.Store(&segIndex{entries: x.index, aborted: x.abortedBy})
	s.entries, s.sealing = nil, x
	s.synced, s.persisted = s.meta.size, true
	s.cleaned.Store(mark)
	s.sealed.Store(true)

	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.list()
	at := find(list, s.base) // filesMu keeps them there; only appends change the list meanwhile
	next := append(slices.Clone(list[:at]), s)
	l.setListLocked(append(next, list[at+len(old):]...))
	for _, o := range old {
		o.retire() // from here on nobody opens the old files by their names
	}
}

// finishSwap does what a swap file says. It may have been done before, wholly or in part.
func (l *Log) finishSwap(s *swapFile) error {
	fs := l.env.cfg.FS
	path := func(base int64, suffix string) string { return l.dir + "/" + segmentName(base, suffix) }
	for from, to := range map[string]string{cleanedSuffix: logSuffix, cleanedIndexSuffix: indexSuffix} {
		if err := fs.Rename(path(s.base, from), path(s.base, to)); err != nil && !isNotExist(err) {
			return fmt.Errorf("put compacted segment %d in place: %w", s.base, err)
		}
	}
	l.env.step("compact.renamed")
	for _, g := range s.gone {
		for _, suffix := range []string{indexSuffix, logSuffix} {
			if err := fs.Remove(path(g, suffix)); err != nil && !isNotExist(err) {
				return fmt.Errorf("remove segment %d, merged into %d: %w", g, s.base, err)
			}
		}
	}
	if err := asSyncError(fs.SyncDir(l.dir)); err != nil {
		return err
	}
	l.env.step("compact.removed")
	if err := fs.Remove(l.dir + "/" + swapName); err != nil && !isNotExist(err) {
		return fmt.Errorf("end swap of segment %d: %w", s.base, err)
	}
	return asSyncError(fs.SyncDir(l.dir))
}

// completeSwap finishes a swap that a crash interrupted, and lists the directory anew.
func (l *Log) completeSwap() (dirFiles, error) {
	name := l.dir + "/" + swapName
	f, err := l.env.cfg.FS.Open(name)
	if err != nil {
		return dirFiles{}, fmt.Errorf("open swap file: %w", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return dirFiles{}, fmt.Errorf("size of swap file: %w", err)
	}
	if size > swapHead+8*maxSwapBases+4 {
		return dirFiles{}, damagedf(name, -1, -1, "%d bytes", size)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return dirFiles{}, fmt.Errorf("read swap file: %w", err)
	}
	s, err := decodeSwap(b)
	if err != nil {
		return dirFiles{}, damagedf(name, -1, -1, "%v", err)
	}
	if err := l.finishSwap(s); err != nil {
		return dirFiles{}, fmt.Errorf("complete compaction of %s: %w", strings.TrimSuffix(name, "/"+swapName), err)
	}
	return l.listFiles()
}
