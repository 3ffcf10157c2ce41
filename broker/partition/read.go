package partition

import (
	"context"
	"errors"
	"fmt"
	"time"

	"varve/broker/commitlog"
	"varve/tiering"
)

// Bounds is what a reader sees of a partition at one moment.
type Bounds struct{ LogStart, HW, LSO int64 }

// Bounds takes HW before LSO, so that LSO <= HW holds in the answer.
func (r *Replica) Bounds() Bounds {
	b := Bounds{HW: r.hw.Load(), LogStart: r.logStart.Load()}
	b.LSO = b.HW
	if l := r.log.Load(); l != nil {
		// An open transaction whose begin was deleted holds back only what is left.
		b.LSO = max(l.StableEnd(b.HW), min(b.LogStart, b.HW))
	}
	return b
}

// Hot is the answer of ReadHot.
type Hot struct {
	Bounds
	Span    *commitlog.Span // nil if there is nothing; the caller releases it
	Cold    bool            // the offset lies below LocalStart: ask ReadCold
	Aborted []commitlog.AbortedTxn
}

// ReadHot reads whole batches from the local log: from the one that holds offset up to HW, or LSO
// with committed. At most maxBytes, but the first batch whole if minOne. Between HW and LEO the
// answer is empty; ErrOffsetOutOfRange is answered only below LogStart or above LEO (design 7).
func (r *Replica) ReadHot(offset int64, maxBytes int, minOne, committed bool) (Hot, error) {
	l, err := r.Log()
	if err != nil {
		return Hot{}, err
	}
	h := Hot{Bounds: r.Bounds()}
	if offset < h.LogStart || offset > l.LEO() {
		return h, ErrOffsetOutOfRange
	}
	end := h.HW
	if committed {
		end = h.LSO
	}
	if offset >= end {
		return h, nil
	}
	if offset < l.LocalStart() {
		return r.belowLocal(h, offset)
	}
	h.Span, err = l.Read(offset, end, maxBytes, minOne)
	switch {
	case errors.Is(err, commitlog.ErrOutOfRange), r.passDamage(l, offset, err): // local retention passed by meanwhile
		return r.belowLocal(h, offset)
	case err != nil:
		return h, fmt.Errorf("read %s at %d: %w: %w", r.cfg.ID, offset, ErrStorage, err)
	}
	if committed && h.Span != nil {
		if h.Aborted, err = l.Aborted(offset, h.Span.Next); err != nil {
			h.Span.Release()
			return h, fmt.Errorf("aborted transactions of %s at %d: %w: %w", r.cfg.ID, offset, ErrStorage, err)
		}
	}
	return h, nil
}

func (r *Replica) belowLocal(h Hot, offset int64) (Hot, error) {
	h.LogStart = r.logStart.Load()
	if offset < h.LogStart {
		return h, ErrOffsetOutOfRange
	}
	if r.cold == nil || offset >= r.tierEnd.Load() {
		return h, fmt.Errorf("read %s at %d: %w: neither on local disk nor tiered", r.cfg.ID, offset, ErrStorage)
	}
	h.Cold = true
	return h, nil
}

// ColdAt tells whether a record is to be read from the tier, from what is in memory alone.
func (r *Replica) ColdAt(offset int64) bool {
	l := r.log.Load()
	return l != nil && r.cold != nil && offset < l.LocalStart() && offset >= r.logStart.Load() && offset < r.tierEnd.Load()
}

// TryReadCold is ReadCold of what is in memory: nil if it is not there, and then the read that it starts
// goes on.
func (r *Replica) TryReadCold(offset int64, maxBytes int, minOne bool) (*tiering.Data, error) {
	d, err := r.cold.TryRead(offset, maxBytes, minOne)
	if errors.Is(err, tiering.ErrPending) {
		return nil, nil
	}
	return d, r.coldError(offset, err)
}

// coldFault is the last cold read that failed.
type coldFault struct {
	offset int64
	err    error
	until  time.Time
}

// SetColdFault remembers that a cold read at offset failed, for readers to leave the store alone until
// then. One fault a replica is kept: readers elsewhere go on.
func (r *Replica) SetColdFault(offset int64, err error, until time.Time) {
	r.fault.Store(&coldFault{offset, err, until})
}

// ColdFault is what SetColdFault was told last, nil if it was of another offset.
func (r *Replica) ColdFault(offset int64) (until time.Time, err error) {
	if f := r.fault.Load(); f != nil && f.offset == offset {
		return f.until, f.err
	}
	return time.Time{}, nil
}

// ReadCold reads whole batches from the tier. It waits for the object store as long as ctx allows;
// the read itself goes on into the cache after that. The caller releases the data.
func (r *Replica) ReadCold(ctx context.Context, offset int64, maxBytes int, minOne bool) (*tiering.Data, error) {
	d, err := r.cold.Read(ctx, offset, maxBytes, minOne)
	return d, r.coldError(offset, err)
}

func (r *Replica) coldError(offset int64, err error) error {
	switch {
	case err == nil:
		return nil
	case offset < r.logStart.Load():
		return ErrOffsetOutOfRange
	}
	return fmt.Errorf("read %s at %d from the tier: %w: %w", r.cfg.ID, offset, ErrStorage, err)
}

// Sub is one reader's interest in a partition: Owner is woken when HW, LogStart or the role moves.
// It is intrusive, so that an idle partition with waiters costs no allocation.
type Sub struct {
	Owner      SubOwner
	Tag        int64 // the owner's own
	replica    *Replica
	prev, next *Sub
}

// SubOwner is called under the replica's subscriber lock, and perhaps under its own; it must not
// block nor call back. grown is by how many offsets HW moved, 0 for any other change.
type SubOwner interface{ Wake(s *Sub, grown int64) }

// Subscribe adds s until Unsubscribe; a Sub is in one replica at a time.
func (r *Replica) Subscribe(s *Sub) {
	r.subs.Lock()
	defer r.subs.Unlock()
	s.replica, s.prev, s.next = r, nil, r.subs.first
	if s.next != nil {
		s.next.prev = s
	}
	r.subs.first = s
}

// Unsubscribe removes s from wherever it is; after it Owner is not called for it.
func (s *Sub) Unsubscribe() {
	r := s.replica
	if r == nil {
		return
	}
	r.subs.Lock()
	defer r.subs.Unlock()
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		r.subs.first = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	s.replica, s.prev, s.next = nil, nil, nil
}

func (r *Replica) wakeSubs(grown int64) {
	r.subs.Lock()
	for s := r.subs.first; s != nil; s = s.next {
		s.Owner.Wake(s, grown)
	}
	r.subs.Unlock()
}

func (r *Replica) wakeAll() { r.wakeSubs(0) }
