package commitlog

import (
	"errors"
	"fmt"

	"varve/broker/internal/vfs"
)

// replay walks a segment file and rebuilds what the log knows of it. It accepts a batch only as
// the next one:
//
//	base offset == expected next      leader epoch >= that of the batch before
//	where the history is known, leader epoch == the history's at that offset      CRC32C right
//
// In a recycled file old batches follow the data; their offsets lie below the segment's base, so the
// first rule ends the walk. Files of other partitions were zeroed before.
type replay struct {
	file     vfs.File
	end      int64 // bytes of the file that may be looked at
	seg      *segment
	interval int64

	history  epochHistory // as of seg.meta.next; extended by each accepted batch
	known    epochHistory // what else is known of the epochs of offsets below knownEnd
	knownEnd int64
	table    *producerTable // as of seg.meta.next; nil: do not look at producers
	nowMS    int64
	why      string // why the walk ended
}

// run accepts batches from seg.meta.size on until something is not the next batch, or until stop is
// reached (-1: none). Only I/O errors are errors.
func (r *replay) run(stop int64) error {
	w := newScanner(r.file, r.seg.meta.size, r.end)
	defer w.close()
	for stop < 0 || r.seg.meta.next < stop {
		h, err := w.head()
		if err == nil {
			err = r.accept(w, h)
		}
		if errors.Is(err, errNoBatch) {
			r.why = err.Error()
			return nil
		}
		if err != nil {
			return err
		}
		w.skip(h)
	}
	return nil
}

func (r *replay) accept(w *scanner, h batchHead) error {
	if err := r.isNext(h); err != nil {
		return err
	}
	b, err := w.batch(h)
	if err != nil {
		return err
	}
	if err := b.CheckCRC(); err != nil {
		return fmt.Errorf("%w: %w", errNoBatch, err)
	}
	if r.table != nil {
		if t, ok := r.table.apply(b, r.nowMS); ok && !t.commit {
			r.seg.aborted = append(r.seg.aborted, t.AbortedTxn)
		}
	}
	r.take(h)
	return nil
}

func (r *replay) isNext(h batchHead) error {
	if h.base != r.seg.meta.next {
		return fmt.Errorf("%w: offset %d where %d is next", errNoBatch, h.base, r.seg.meta.next)
	}
	if h.epoch < max(r.history.last(), 0) {
		return fmt.Errorf("%w: epoch %d after %d", errNoBatch, h.epoch, r.history.last())
	}
	if want, ok := r.known.at(h.base); ok && h.base < r.knownEnd && want != h.epoch {
		return fmt.Errorf("%w: epoch %d where the history says %d", errNoBatch, h.epoch, want)
	}
	return nil
}

func (r *replay) take(h batchHead) {
	r.seg.addBatch(h, r.interval)
	if h.epoch > r.history.last() {
		r.history = r.history.with(h.epoch, h.base)
	}
}

// runHeads is run without reading payloads, up to exactly position stop, for bytes that a
// checkpoint has proven. It tells whether the headers lead there.
func (r *replay) runHeads(stop int64) (bool, error) {
	w := newScanner(r.file, r.seg.meta.size, stop)
	defer w.close()
	for w.pos < stop {
		h, err := w.head()
		if err == nil {
			err = r.isNext(h)
		}
		if errors.Is(err, errNoBatch) {
			r.why = err.Error()
			return false, nil
		}
		if err != nil {
			return false, err
		}
		r.take(h)
		w.skip(h)
	}
	return true, nil
}

// loadActiveLocked reads the index of an active segment that a clean start left unread. What it
// finds must be exactly what the checkpoint said.
func (l *Log) loadActiveLocked(s *segment) error {
	f, err := s.pin()
	if err != nil {
		return err
	}
	defer s.unpin()
	fresh := newSegment(l.env, l.dir, s.base, s.meta.createdMS)
	r := &replay{file: f, end: s.meta.size, seg: fresh, interval: int64(l.config().IndexInterval)}
	if before, ok := l.mu.epochs.at(s.base - 1); ok {
		r.history = epochHistory{{before, 0}}
	}
	r.known, r.knownEnd = l.mu.epochs, s.meta.next
	ok, err := r.runHeads(s.meta.size)
	if err != nil {
		return err
	}
	if !ok || fresh.meta.next != s.meta.next {
		return damagedf(s.logName(), fresh.meta.size, fresh.meta.next, "the clean stop left [%d, %d) in %d bytes here: %s", s.base, s.meta.next, s.meta.size, r.why)
	}
	w := newScanner(f, fresh.last.pos, s.meta.size)
	defer w.close()
	b, err := w.batch(fresh.last)
	if err == nil {
		err = b.CheckCRC()
	}
	if err != nil {
		return damagedf(s.logName(), fresh.last.pos, fresh.last.base, "%v", err)
	}
	s.entries, s.lastEntry, s.last = fresh.entries, fresh.lastEntry, fresh.last
	s.meta.baseTime, s.meta.maxTime, s.meta.maxTimeBase = fresh.meta.baseTime, fresh.meta.maxTime, fresh.meta.maxTimeBase
	s.loaded = true
	return nil
}
