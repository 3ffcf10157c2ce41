package commitlog

import (
	"errors"
	"fmt"
	"io"

	"varve/broker/record"
)

// SegmentReader reads a sealed segment for an upload, verifying every batch. It pins the segment
// until Close. It is for one goroutine.
type SegmentReader struct {
	log     *Log
	view    segView
	meta    segmentMeta
	first   int64
	start   int64
	scan    *scanner
	next    int64
	history epochHistory
	done    bool
}

// SealedReader reads from the batch that contains from to the end of the sealed segment that holds
// it. It answers *OutOfRangeError if no sealed segment does.
func (l *Log) SealedReader(from int64) (*SegmentReader, error) {
	for {
		list := l.list()
		i := find(list, from)
		if i < 0 || !list[i].sealed.Load() || from >= list[i].meta.next || from < l.LocalStart() {
			return nil, &OutOfRangeError{from, l.LocalStart(), l.sealedEnd()}
		}
		r, err := l.openSealed(list[i], from)
		if errors.Is(err, errRetired) {
			if err := l.awaitChange(); err != nil {
				return nil, err
			}
			continue
		}
		return r, err
	}
}

// sealedEnd is the end of the last sealed segment.
func (l *Log) sealedEnd() int64 {
	list := l.list()
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].sealed.Load() {
			return list[i].meta.next
		}
	}
	return l.LocalStart()
}

func (l *Log) openSealed(s *segment, from int64) (*SegmentReader, error) {
	v, err := l.view(s)
	if err != nil {
		return nil, err
	}
	pos, base, err := v.locate(from)
	if err != nil {
		s.unpin()
		return nil, err
	}
	return &SegmentReader{
		log: l, view: v, meta: s.meta, first: base, start: pos, next: base,
		scan: newScanner(v.file, pos, v.size), history: l.Epochs(),
	}, nil
}

// Next returns the next batch and its position; the view is valid until the next call. io.EOF ends
// it, exactly at the end of the segment. A batch with a wrong CRC, offset or epoch is a
// *DamagedError.
func (r *SegmentReader) Next() (record.Batch, int64, error) {
	if r.scan.pos == r.view.size && r.next == r.view.next {
		return nil, 0, io.EOF
	}
	h, err := r.view.step(r.scan, r.next)
	if err != nil {
		return nil, 0, err
	}
	if want, ok := r.history.at(h.base); ok && want != h.epoch {
		return nil, 0, damagedf(r.view.seg.logName(), h.pos, h.base, "epoch %d where the history says %d", h.epoch, want)
	}
	b, err := r.view.read(r.scan, h)
	if err != nil {
		return nil, 0, err
	}
	r.next = h.next
	r.scan.skip(h)
	return b, h.pos, nil
}

// Size is the bytes that Next will return in all.
func (r *SegmentReader) Size() int64 { return r.view.size - r.start }

// First is the base offset of the first batch.
func (r *SegmentReader) First() int64 { return r.first }

// Info describes the whole segment.
func (r *SegmentReader) Info() SegmentInfo { return r.meta.info(true) }

// Producers is the producer snapshot as of the end of the segment.
func (r *SegmentReader) Producers() ([]byte, error) { return r.log.snapshotAfter(r.view.seg) }

// Aborted lists the aborted transactions that overlap the range, those that began before it too.
func (r *SegmentReader) Aborted() ([]AbortedTxn, error) {
	return r.log.Aborted(r.first, r.view.next)
}

// Epochs is the epoch history of the range, its first entry clipped to First.
func (r *SegmentReader) Epochs() []EpochStart { return r.history.between(r.first, r.view.next) }

// Close unpins the segment. A second call does nothing.
func (r *SegmentReader) Close() {
	if !r.done {
		r.done = true
		r.scan.close()
		r.view.seg.unpin()
	}
}

// MarkDamaged refuses every further append with err, after a reader found damage: the replica
// gives up its seats and copies again. Reads go on, each as far as it can be verified.
func (l *Log) MarkDamaged(err error) {
	err = fmt.Errorf("log is damaged: %w", err)
	l.damaged.CompareAndSwap(nil, &err)
}

// Damaged is what MarkDamaged was told, or nil.
func (l *Log) Damaged() error {
	if p := l.damaged.Load(); p != nil {
		return *p
	}
	return nil
}
