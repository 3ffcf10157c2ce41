package commitlog

import (
	"errors"
	"fmt"
	"io"

	"varve/broker/internal/vfs"
)

// growth is how far the file of an active segment is prepared beyond its data.
//
//	meta.size <= alloc     (before each write)     meta.size <= zero where zeroed ahead
type growth struct {
	alloc int64 // bytes with disk space
	zero  int64 // bytes that were written before: overwriting them needs no journal commit
	small uint8 // flushes of little data in a row, saturating
	// recycled files keep their length when they seal; others are trimmed to their data.
	recycled bool
}

// A growing file gets its space in steps, so that running out of space is an error of getting
// space. The first step is small because 10,000 partitions of one record may take 400 MiB in all;
// the last keeps the cost of a full segment to some 20 calls.
func allocStep(have int64) int64 {
	switch {
	case have < 16<<10:
		return 16 << 10
	case have < 1<<20:
		return 64 << 10
	case have < 16<<20:
		return 1 << 20
	}
	return 8 << 20
}

const (
	// A sync of at most smallFlush bytes is dominated by the journal commit that growing the
	// file costs; after zeroAfter of them in a row the file is zeroed ahead by zeroStep, and
	// fdatasync takes half the time (performance.md 2.4). Fewer would zero the files of
	// partitions that get a few records and rest; a smaller step would put the journal commit
	// into the p99 again.
	smallFlush = 64 << 10
	zeroAfter  = 8
	zeroStep   = 256 << 10
	// Files first written in 64 KiB pieces overwrite best (performance.md 2.3).
	zeroPiece = 64 << 10
)

var zeros [zeroPiece]byte

// allocate gets disk space up to end. The caller holds Log.mu and a pin.
func (s *segment) allocate(f vfs.File, end, segmentBytes int64) error {
	if end <= s.grow.alloc {
		return nil
	}
	to := max(end, s.grow.alloc+allocStep(s.grow.alloc))
	to = (to + 4095) &^ 4095
	if limit := (segmentBytes + 4095) &^ 4095; end <= limit {
		to = min(to, limit)
	}
	at := s.env.watch.begin()
	err := f.Allocate(s.grow.alloc, to-s.grow.alloc)
	s.env.watch.end(at)
	if err != nil {
		return fmt.Errorf("allocate segment: %w", err)
	}
	if to-s.grow.alloc >= 1<<20 {
		s.env.checkSpace()
	}
	s.grow.alloc = to
	return nil
}

// noteSyncedLocked takes a finished sync into account.
func (s *segment) noteSyncedLocked(size int64) {
	if size-s.synced > smallFlush {
		s.grow.small = 0
	} else if s.grow.small < zeroAfter {
		s.grow.small++
	}
	s.synced = max(s.synced, size)
}

// zeroAhead writes zeros ahead of the data of a growing file that is flushed in small pieces. It
// runs after the flush was told, on the flush worker. Want of space is no error here.
func (l *Log) zeroAhead() {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.activeLocked()
	cfg := l.config()
	if s == nil || s.grow.small < zeroAfter || cfg.WriteCaching || s.grow.zero-s.meta.size > zeroStep/4 || l.usableLocked() != nil {
		return
	}
	from := max(s.grow.zero, s.meta.size)
	to := min(s.meta.size+zeroStep, cfg.SegmentBytes)
	if to <= from {
		return
	}
	f, err := s.pin()
	if err != nil {
		return // the next append says so
	}
	defer s.unpin()
	if s.allocate(f, to, cfg.SegmentBytes) != nil {
		return
	}
	at := l.env.watch.begin()
	defer l.env.watch.end(at)
	for from < to {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), to-from)], from)
		if err != nil {
			if !isNoSpace(err) {
				_ = l.env.fail(fmt.Errorf("zero ahead: %w", err)) // the latch reports it
			}
			return
		}
		from += int64(n)
		s.grow.zero = from
	}
}

// isZero tells whether [pos, end) of a file holds only zeros.
func isZero(f io.ReaderAt, pos, end int64) (bool, error) {
	p := scanBuffers.Get().(*[]byte)
	defer scanBuffers.Put(p)
	for pos < end {
		n, err := f.ReadAt((*p)[:min(int64(len(*p)), end-pos)], pos)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, fmt.Errorf("read at %d: %w", pos, err)
		}
		for _, b := range (*p)[:n] {
			if b != 0 {
				return false, nil
			}
		}
		if n == 0 {
			return true, nil
		}
		pos += int64(n)
	}
	return true, nil
}
