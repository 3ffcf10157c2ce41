package commitlog

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"varve/broker/internal/vfs"
)

// Part is a range of one segment file that holds whole batches.
type Part struct {
	File     vfs.File
	Pos, Len int64
}

// Span is a run of whole batches in the log's files. The files stay open and their bytes stay what
// they are until Release, whatever happens to the log meanwhile.
type Span struct {
	Parts []Part
	First int64 // base offset of the first batch; at most the offset asked for
	Next  int64 // offset after the last batch; the offset asked for if there is none
	Bytes int   // sum of the parts

	segs     []*segment // pinned, one a part
	released atomic.Bool
	part1    [2]Part // most spans need no more: one allocation for all
	seg1     [2]*segment
}

// Release gives the files back. It must be called exactly once.
func (s *Span) Release() {
	if s.released.Swap(true) {
		panic("commitlog: Span released twice")
	}
	for _, seg := range s.segs {
		seg.unpin()
	}
}

// MarkSent says that bytes of the span go out by sendfile: pages of the file may then sit in a
// socket's queue long after Release, and the file is recycled only with proof that none does. Call
// it before the first byte is sent.
func (s *Span) MarkSent() {
	for _, seg := range s.segs {
		seg.markSent()
	}
}

// ReadAll appends the bytes of the span to dst.
func (s *Span) ReadAll(dst []byte) ([]byte, error) {
	at := len(dst)
	if need := at + s.Bytes; cap(dst) < need {
		dst = append(make([]byte, 0, need), dst...)
	}
	dst = dst[:at+s.Bytes]
	for _, p := range s.Parts {
		n, err := p.File.ReadAt(dst[at:at+int(p.Len)], p.Pos)
		if int64(n) < p.Len {
			if err == nil || errors.Is(err, io.EOF) {
				err = damagedf(p.File.Name(), p.Pos+int64(n), -1, "file ends inside a segment")
			}
			return nil, fmt.Errorf("read segment: %w", err)
		}
		at += n
	}
	return dst, nil
}

// segView is what a reader sees of a segment: for the active one as of the moment of the view.
type segView struct {
	seg     *segment
	file    vfs.File
	entries []indexEntry
	base    int64
	next    int64
	size    int64
}

// view pins a segment and takes what a lookup needs. The caller unpins.
func (l *Log) view(s *segment) (segView, error) {
	f, err := s.pin()
	if err != nil {
		return segView{}, err
	}
	v := segView{seg: s, file: f, base: s.base}
	if !s.sealed.Load() {
		l.mu.Lock()
		// It may have been sealed since; meta is final then, and entries moved to the index.
		if !s.sealed.Load() {
			if !s.loaded {
				if err := l.loadActiveLocked(s); err != nil {
					l.mu.Unlock()
					s.unpin()
					return segView{}, err
				}
			}
			v.entries, v.next, v.size = s.entries, s.meta.next, s.meta.size
			l.mu.Unlock()
			return v, nil
		}
		l.mu.Unlock()
	}
	x, err := l.indexOf(s)
	if err != nil {
		s.unpin()
		return segView{}, err
	}
	v.entries, v.next, v.size = x.entries, s.meta.next, s.meta.size
	return v, nil
}

// Read finds whole batches: from the one that contains from, none that reaches past end, at most
// maxBytes unless minOne lets the first one be larger. It reads headers only near the borders and
// no payload. With nothing to give it answers an empty Span.
//
// Errors: *OutOfRangeError if from lies outside [LocalStart, LEO], *DamagedError.
func (l *Log) Read(from, end int64, maxBytes int, minOne bool) (*Span, error) {
	for {
		span, err := l.tryRead(from, end, int64(maxBytes), minOne)
		if errors.Is(err, errRetired) {
			if err := l.awaitChange(); err != nil {
				return nil, err
			}
			continue // the log dropped or cut a segment meanwhile
		}
		return span, err
	}
}

// awaitChange waits for a truncation under way to publish the new segment list. One that failed half
// way has published nothing, and a removed log never will.
func (l *Log) awaitChange() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.removed {
		return ErrClosed
	}
	return l.env.Failed()
}

func (l *Log) tryRead(from, end, maxBytes int64, minOne bool) (*Span, error) {
	list := l.list()
	start, leo := l.LocalStart(), l.LEO()
	if from < start || from > leo {
		return nil, &OutOfRangeError{from, start, leo}
	}
	end = min(end, leo)
	span := &Span{First: from, Next: from}
	span.Parts, span.segs = span.part1[:0], span.seg1[:0]
	if from >= end {
		return span, nil
	}
	for i := find(list, from); i >= 0 && i < len(list); i++ {
		more, err := l.readSegment(span, list[i], end, maxBytes, minOne)
		if err != nil {
			span.Release()
			return nil, err
		}
		if !more {
			break
		}
	}
	return span, nil
}

// readSegment adds what it can of one segment to the span. more says that the span reached the
// segment's end and may go on in the next one.
func (l *Log) readSegment(span *Span, s *segment, end, maxBytes int64, minOne bool) (more bool, err error) {
	v, err := l.view(s)
	if err != nil {
		return false, err
	}
	pos, first := int64(0), v.base
	if len(span.Parts) == 0 {
		if span.Next >= v.next {
			s.unpin()
			return false, nil
		}
		if pos, first, err = v.locate(span.Next); err != nil {
			s.unpin()
			return false, err
		}
	} else if first != span.Next {
		s.unpin()
		return false, damagedf(s.logName(), 0, span.Next, "segment begins at offset %d", first)
	}
	to, next, err := v.limit(pos, first, end, maxBytes-int64(span.Bytes), minOne && len(span.Parts) == 0)
	if err != nil || to == pos {
		s.unpin()
		return false, err
	}
	if len(span.Parts) == 0 {
		span.First = first
	}
	span.Parts = append(span.Parts, Part{v.file, pos, to - pos})
	span.segs = append(span.segs, s)
	span.Bytes += int(to - pos)
	span.Next = next
	return to == v.size && next < end && int64(span.Bytes) < maxBytes, nil
}

// lookupBytes is the first read of a lookup: an index interval of headers and small batches.
const lookupBytes = 8 << 10

// locate finds the batch that contains offset: its position and base offset.
func (v segView) locate(offset int64) (pos, base int64, err error) {
	i := floorOffset(v.entries, offset-v.base)
	if i < 0 {
		return 0, 0, damagedf(v.seg.logName(), 0, offset, "index has no entry for the offset")
	}
	pos, base = int64(v.entries[i].pos), v.base+int64(v.entries[i].rel)
	if base == offset {
		return pos, base, nil
	}
	w := newScanner(v.file, pos, v.size)
	defer w.close()
	w.chunk = lookupBytes
	for {
		h, err := v.step(w, base)
		if err != nil {
			return 0, 0, err
		}
		if offset < h.next {
			return h.pos, h.base, nil
		}
		base = h.next
		w.skip(h)
	}
}

// limit finds where the batches from pos, base have to stop: before the first that reaches past
// end or beyond max bytes.
func (v segView) limit(pos, base, end, maxBytes int64, minOne bool) (to, next int64, err error) {
	if v.next <= end && v.size-pos <= maxBytes {
		return v.size, v.next, nil
	}
	to, next = pos, base
	if i := min(floorPos(v.entries, pos+maxBytes), floorOffset(v.entries, end-v.base)); i >= 0 && int64(v.entries[i].pos) > pos {
		to, next = int64(v.entries[i].pos), v.base+int64(v.entries[i].rel)
	}
	w := newScanner(v.file, to, v.size)
	defer w.close()
	w.chunk = lookupBytes
	for w.pos < v.size {
		h, err := v.step(w, next)
		if err != nil {
			return 0, 0, err
		}
		fits := h.pos+int64(h.size)-pos <= maxBytes || minOne && h.pos == pos
		if h.next > end || !fits {
			break
		}
		to, next = h.pos+int64(h.size), h.next
		w.skip(h)
	}
	return to, next, nil
}

// step reads the header at the walk's position, which must be the batch with the given base:
// anything else inside a segment's logical length is damage, and never served.
func (v segView) step(w *scanner, base int64) (batchHead, error) {
	h, err := w.head()
	switch {
	case errors.Is(err, errNoBatch):
		return h, damagedf(v.seg.logName(), w.pos, base, "no batch where one must be")
	case err != nil:
		return h, err
	case h.base != base || h.next > v.next:
		return h, damagedf(v.seg.logName(), w.pos, base, "batch [%d, %d) where [%d, ...) must be", h.base, h.next, base)
	}
	return h, nil
}
