package partition

import (
	"fmt"

	"varve/tiering"
)

// Apply takes what raft says of this replica. The caller has seen its own registration applied, so
// a leader epoch that names this broker was entered in this incarnation (design 6, Incarnations).
// It is called in raft's order and does no I/O. changed tells whether there may be work.
func (r *Replica) Apply(a Assignment) (changed bool) {
	r.mu.Lock()
	old := r.mu.assigned
	if r.mu.stopped || a.LeaderEpoch < old.LeaderEpoch {
		r.mu.Unlock()
		return false
	}
	r.mu.assigned = a
	oldConf := r.conf.Swap(a.Config)
	moved := r.raiseLocked(a)
	var done ackQueue
	wake := moved
	switch lead := a.Leader == r.cfg.NodeID; {
	case lead && (!r.mu.leader || a.LeaderEpoch != old.LeaderEpoch):
		done = r.becomeLeaderLocked(a)
		wake = true
	case !lead && r.mu.leader:
		done = r.resignLocked()
		wake = true
	}
	covered := r.advanceHWLocked()
	r.mu.Unlock()
	done.finish(ErrNotLeader)
	covered.finish(nil)
	reconfigured := oldConf != a.Config
	if l := r.log.Load(); l != nil {
		if reconfigured {
			l.SetConfig(a.Config.Log)
		}
		if moved {
			l.SetTieredEnd(r.tierEnd.Load())
			l.SetLogStart(r.logStart.Load())
		}
	}
	if wake {
		r.wakeAll()
	}
	return wake || reconfigured
}

// raiseLocked takes over LogStart and TieredEnd, which never go back.
func (r *Replica) raiseLocked(a Assignment) (moved bool) {
	if a.LogStart > r.logStart.Load() {
		r.logStart.Store(a.LogStart)
		moved = true
		if r.cold != nil {
			r.cold.SetLogStart(a.LogStart)
		}
	}
	if r.cold != nil && a.Tier != (tiering.Pointer{}) {
		r.cold.SetPointer(a.Tier)
	}
	if end := max(a.Tier.TieredEnd, 0); end > r.tierEnd.Load() {
		r.tierEnd.Store(end)
		moved = true
	}
	return moved
}

// becomeLeaderLocked enters the epoch. What was parked in the epoch before is returned, to be
// answered ErrNotLeader.
func (r *Replica) becomeLeaderLocked(a Assignment) ackQueue {
	done := r.mu.acks
	r.mu.acks = ackQueue{}
	r.mu.leader = true
	r.epoch.Store(a.LeaderEpoch)
	return done
}

func (r *Replica) resignLocked() ackQueue {
	done := r.mu.acks
	r.mu.acks = ackQueue{}
	r.mu.leader = false
	r.epoch.Store(-1)
	return done
}

// IsLeader tells whether this broker leads the partition.
func (r *Replica) IsLeader() bool { return r.epoch.Load() >= 0 }

// CheckLeader verifies that this replica leads, in the epoch the client names (-1: any). KIP-320.
func (r *Replica) CheckLeader(currentEpoch int32) error {
	epoch := r.epoch.Load()
	switch {
	case epoch < 0:
		return ErrNotLeader
	case currentEpoch >= 0 && currentEpoch < epoch:
		return ErrFencedEpoch
	case currentEpoch > epoch:
		return ErrUnknownEpoch
	}
	return nil
}

// check panics when the inequalities over Replica do not hold. Tests call it after every step.
func (r *Replica) check() {
	l := r.log.Load()
	if l == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	hw, start, end := r.hw.Load(), r.logStart.Load(), r.tierEnd.Load()
	durable, leo, local := l.Durable(), l.LEO(), l.LocalStart()
	hole := local > max(start, end)
	stable := max(l.StableEnd(hw), start)
	if hw > leo || durable > leo || start > hw || hole ||
		r.mu.leader && (end > stable || !r.conf.Load().Log.WriteCaching && hw > durable) {
		panic(fmt.Sprintf("partition %s: LogStart %d LocalStart %d TieredEnd %d LSO %d HW %d Durable %d LEO %d leader %v",
			r.cfg.ID, start, local, end, stable, hw, durable, leo, r.mu.leader))
	}
}
