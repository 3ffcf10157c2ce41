package commitlog

import (
	"errors"
	"fmt"

	"varve/broker/record"
)

// recordLimit bounds what is decompressed of one batch for a timestamp: no client sends a batch
// that grows more, and one that does costs an error, not memory.
const recordLimit = 1 << 30

// OffsetForTimestamp finds the first record in [from, end) whose timestamp is at least ts.
func (l *Log) OffsetForTimestamp(ts, from, end int64) (offset, timestamp int64, ok bool, err error) {
	err = l.eachSegment(from, end, func(v segView, meta segmentMeta) (done bool, err error) {
		if meta.maxTime < ts {
			return false, nil
		}
		offset, timestamp, ok, err = v.firstAt(ts, from, end)
		return ok, err
	})
	return offset, timestamp, ok, err
}

// MaxTimestamp finds the first record in [from, end) that has the largest timestamp (KIP-734). It
// answers -1, -1 if there is no record with one.
func (l *Log) MaxTimestamp(from, end int64) (offset, ts int64, err error) {
	offset, ts = -1, -1
	err = l.eachSegment(from, end, func(v segView, meta segmentMeta) (bool, error) {
		if meta.maxTime <= ts {
			return false, nil
		}
		o, t, err := v.maxTime(meta, from, end)
		if err == nil && t > ts {
			offset, ts = o, t
		}
		return false, err
	})
	return offset, ts, err
}

// eachSegment calls f for every segment that overlaps [from, end), oldest first.
func (l *Log) eachSegment(from, end int64, f func(v segView, meta segmentMeta) (done bool, err error)) error {
	end = min(end, l.LEO())
	for from < end {
		list := l.list()
		i := find(list, max(from, l.LocalStart()))
		if i < 0 {
			return nil
		}
		next, done, err := l.oneSegment(list[i], f)
		if errors.Is(err, errRetired) {
			if err := l.awaitChange(); err != nil {
				return err
			}
			continue
		}
		if err != nil || done || next <= from {
			return err
		}
		from = next
	}
	return nil
}

func (l *Log) oneSegment(s *segment, f func(v segView, meta segmentMeta) (bool, error)) (next int64, done bool, err error) {
	v, err := l.view(s)
	if err != nil {
		return 0, false, err
	}
	defer s.unpin()
	l.mu.Lock()
	meta := s.meta
	l.mu.Unlock()
	meta.next, meta.size = v.next, v.size
	done, err = f(v, meta)
	return v.next, done, err
}

// firstAt finds the first record at or after from, below end, with timestamp >= ts.
func (v segView) firstAt(ts, from, end int64) (offset, timestamp int64, ok bool, err error) {
	i := floorTime(v.entries, ts)
	if j := floorOffset(v.entries, from-v.base); j > i {
		i = j
	}
	if i < 0 {
		return 0, 0, false, nil
	}
	err = v.walk(i, end, func(w *scanner, h batchHead) (bool, error) {
		if h.maxTime < ts || h.next <= from {
			return false, nil
		}
		b, err := v.read(w, h)
		if err != nil {
			return false, err
		}
		offset, timestamp, ok, err = firstRecordAt(b, ts, from, end)
		return ok, err
	})
	return offset, timestamp, ok, err
}

// maxTime finds the first record of the largest timestamp in the part of the segment inside
// [from, end).
func (v segView) maxTime(meta segmentMeta, from, end int64) (offset, ts int64, err error) {
	offset, ts = -1, -1
	start, stop := max(floorOffset(v.entries, from-v.base), 0), end
	if from <= v.base && v.next <= end { // the whole segment counts: its one batch is known
		start, stop = floorOffset(v.entries, meta.maxTimeBase-v.base), meta.maxTimeBase+1
	}
	err = v.walk(start, stop, func(w *scanner, h batchHead) (bool, error) {
		if h.maxTime <= ts || h.next <= from {
			return false, nil
		}
		b, err := v.read(w, h)
		if err != nil {
			return false, err
		}
		o, t, err := maxRecord(b, from, end)
		if t > ts {
			offset, ts = o, t
		}
		return false, err
	})
	return offset, ts, err
}

// walk visits the batches from index entry i on whose base is below end.
func (v segView) walk(i int, end int64, f func(w *scanner, h batchHead) (done bool, err error)) error {
	if i < 0 || i >= len(v.entries) {
		return nil
	}
	w := newScanner(v.file, int64(v.entries[i].pos), v.size)
	defer w.close()
	base := v.base + int64(v.entries[i].rel)
	for w.pos < v.size && base < end {
		h, err := v.step(w, base)
		if err != nil {
			return err
		}
		done, err := f(w, h)
		if done || err != nil {
			return err
		}
		base = h.next
		w.skip(h)
	}
	return nil
}

// read reads and verifies one batch.
func (v segView) read(w *scanner, h batchHead) (record.Batch, error) {
	b, err := w.batch(h)
	if err == nil {
		err = b.CheckCRC()
	}
	if err != nil {
		if errors.Is(err, errNoBatch) || errors.Is(err, record.ErrCorrupt) {
			return nil, damagedf(v.seg.logName(), h.pos, h.base, "%v", err)
		}
		return nil, err
	}
	return b, nil
}

func firstRecordAt(b record.Batch, ts, from, end int64) (offset, timestamp int64, ok bool, err error) {
	for rec, err := range b.Records(recordLimit) {
		if err != nil {
			return 0, 0, false, fmt.Errorf("records of batch %d: %w", b.BaseOffset(), err)
		}
		if rec.Offset >= from && rec.Offset < end && rec.Timestamp >= ts {
			return rec.Offset, rec.Timestamp, true, nil
		}
	}
	return 0, 0, false, nil
}

func maxRecord(b record.Batch, from, end int64) (offset, ts int64, err error) {
	offset, ts = -1, -1
	for rec, err := range b.Records(recordLimit) {
		if err != nil {
			return -1, -1, fmt.Errorf("records of batch %d: %w", b.BaseOffset(), err)
		}
		if rec.Offset >= from && rec.Offset < end && rec.Timestamp > ts {
			offset, ts = rec.Offset, rec.Timestamp
		}
	}
	return offset, ts, nil
}
