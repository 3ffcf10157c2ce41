package partition

import (
	"errors"
	"fmt"

	"varve/broker/commitlog"
)

// Ack is one parked acks=all append. It belongs to the leader epoch of the append: when the epoch
// ends it is answered ErrNotLeader (an unknown outcome), and never completed by a later HW, also
// if this broker leads again (design 7).
type Ack struct {
	Owner AckOwner // set by the caller
	Tag   int32    // the owner's own
	End   int64    // completed when HW reaches it
	next  *Ack
}

// AckOwner is told once of each Ack it parked; it must not block.
type AckOwner interface{ Acked(a *Ack, err error) }

// ackQueue holds Acks in rising order of End.
type ackQueue struct{ first, last *Ack }

func (q *ackQueue) push(a *Ack) {
	a.next = nil
	if q.last == nil {
		q.first = a
	} else {
		q.last.next = a
	}
	q.last = a
}

// popTo takes the Acks that end at or below hw.
func (q *ackQueue) popTo(hw int64) ackQueue {
	var out ackQueue
	for q.first != nil && q.first.End <= hw {
		a := q.first
		q.first = a.next
		out.push(a)
	}
	if q.first == nil {
		q.last = nil
	}
	return out
}

// finish answers every Ack; no lock may be held.
func (q ackQueue) finish(err error) {
	for a := q.first; a != nil; {
		next := a.next
		a.next = nil
		a.Owner.Acked(a, err)
		a = next
	}
}

// Append writes validated batches as the leader; base offsets and the leader epoch are patched in
// place. With ack not nil the caller is answered when HW covers the append: parked tells whether
// that is still to come.
//
// Errors: ErrNotLeader, ErrNotEnoughReplicas, ErrStorage, and the log's own
// (commitlog.ErrFull, ErrOutOfOrderSequence, ErrInvalidProducerEpoch).
func (r *Replica) Append(b []byte, ack *Ack) (info commitlog.AppendInfo, parked bool, err error) {
	return r.AppendIn(anyEpoch, b, ack)
}

// anyEpoch as the epoch of AppendIn is whichever this replica leads.
const anyEpoch = -1

// AppendIn is Append for a caller whose state belongs to one leader epoch: in any other it is
// ErrNotLeader, also if this broker leads again.
func (r *Replica) AppendIn(epoch int32, b []byte, ack *Ack) (info commitlog.AppendInfo, parked bool, err error) {
	return r.append(appending{epoch: epoch, batch: b}, ack)
}

// appending is what one append is: a batch of a coordinator or an ordinary one, one of a client that
// may begin a transaction, or a marker.
type appending struct {
	epoch  int32
	batch  []byte
	client bool
	guard  uint64
	marker *commitlog.Marker
}

func (a *appending) to(l *commitlog.Log, epoch int32, nowMS int64) (commitlog.AppendInfo, error) {
	switch {
	case a.marker != nil:
		return l.AppendMarker(*a.marker, epoch, nowMS)
	case a.client:
		return l.AppendClient(a.batch, epoch, nowMS, a.guard)
	}
	return l.AppendLeader(a.batch, epoch, nowMS)
}

func (r *Replica) append(a appending, ack *Ack) (info commitlog.AppendInfo, parked bool, err error) {
	l, err := r.Log()
	if err != nil {
		return info, false, err
	}
	var done ackQueue
	r.mu.Lock()
	switch {
	case !r.mu.leader || a.epoch != anyEpoch && a.epoch != r.mu.assigned.LeaderEpoch:
		err = ErrNotLeader
	case ack != nil && !r.enoughReplicasLocked():
		err = ErrNotEnoughReplicas
	default:
		info, err = a.to(l, r.mu.assigned.LeaderEpoch, r.cfg.Now().UnixMilli())
	}
	if err == nil {
		if r.conf.Load().Log.WriteCaching {
			done = r.advanceHWLocked()
		}
		if ack != nil && info.Last+1 > r.hw.Load() {
			ack.End, parked = info.Last+1, true
			r.pushAckLocked(ack, info.Duplicate)
		}
	}
	r.mu.Unlock()
	done.finish(nil)
	if err != nil && errors.Is(err, commitlog.ErrFailed) {
		err = fmt.Errorf("append to %s: %w: %w", r.cfg.ID, ErrStorage, err)
	}
	return info, parked, err
}

// pushAckLocked keeps the queue in order: only a duplicate can end below the last one.
func (r *Replica) pushAckLocked(a *Ack, duplicate bool) {
	q := &r.mu.acks
	if !duplicate || q.last == nil || q.last.End <= a.End {
		q.push(a)
		return
	}
	p := &q.first
	for *p != nil && (*p).End <= a.End {
		p = &(*p).next
	}
	a.next, *p = *p, a
}

func (r *Replica) enoughReplicasLocked() bool {
	a := &r.mu.assigned
	return a.ISR >= min(r.conf.Load().MinISR, a.Replicas)
}

// onDurable is the flusher's call after an fdatasync.
func (r *Replica) onDurable(int64) {
	r.mu.Lock()
	done := r.advanceHWLocked()
	r.mu.Unlock()
	done.finish(nil)
}

// advanceHWLocked moves HW to the smallest Durable over the maximal ISR, which on one broker is
// its own; LEO where write.caching. HW moves only while min ISR holds (KIP-966). It returns the
// Acks that are now covered, for the caller to finish without the lock.
func (r *Replica) advanceHWLocked() ackQueue {
	l := r.log.Load()
	if l == nil || !r.mu.leader || !r.enoughReplicasLocked() {
		return ackQueue{}
	}
	hw := l.Durable()
	if r.conf.Load().Log.WriteCaching {
		hw = l.LEO()
	}
	old := r.hw.Load()
	if hw <= old {
		return ackQueue{}
	}
	r.hw.Store(hw)
	l.SetHW(hw)
	r.wakeSubs(hw - old)
	return r.mu.acks.popTo(hw)
}
