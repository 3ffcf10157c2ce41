package commitlog

import (
	"slices"

	"varve/broker/record"
)

// StableEnd is LSO: the end of what no open transaction can still change, at most hw, the high
// watermark. A transaction that has ended holds it until its marker lies below hw, for until then
// a crash can take the marker back:
//
//	StableEnd(hw) <= hw      rises with hw, and with nothing else
func (l *Log) StableEnd(hw int64) int64 {
	// hw was read before unstable: a transaction that this does not see begins at or above hw, and
	// one that it sees no more was pruned for an hw that covers its marker.
	if l.unstable.Load() == 0 {
		return hw
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pruneEndedLocked(hw)
	end := hw
	if first := l.mu.producers.firstUnstable(); first >= 0 {
		end = min(end, first)
	}
	for i := range l.mu.ended {
		end = min(end, l.mu.ended[i].First)
	}
	return end
}

// LSO is the first offset of the oldest open transaction, or LEO: what StableEnd comes to once HW
// has reached LEO.
func (l *Log) LSO() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if first := l.mu.producers.firstUnstable(); first >= 0 {
		return first
	}
	return l.leo.Load()
}

// SetHW forgets the ended transactions whose marker lies below hw. Whoever moves HW calls it, so
// that a partition which nobody reads does not collect them.
func (l *Log) SetHW(hw int64) {
	if l.unstable.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pruneEndedLocked(hw)
}

// pruneEndedLocked forgets the ended transactions whose marker lies below hw.
func (l *Log) pruneEndedLocked(hw int64) {
	n := 0
	for n < len(l.mu.ended) && l.mu.ended[n].Last < hw {
		n++
	}
	if n > 0 {
		l.mu.ended = slices.Delete(l.mu.ended, 0, n)
		if len(l.mu.ended) == 0 {
			l.mu.ended = nil // an idle partition keeps no memory
		}
	}
	l.countUnstableLocked()
}

func (l *Log) countUnstableLocked() {
	l.unstable.Store(int32(len(l.mu.producers.open) + len(l.mu.ended)))
}

// takeProducerLocked takes an appended batch of a producer into the producer state.
func (l *Log) takeProducerLocked(s *segment, b record.Batch, nowMS int64) {
	ended, ok := l.mu.producers.apply(b, nowMS)
	if ok {
		if !ended.commit {
			s.aborted = append(s.aborted, ended.AbortedTxn)
		}
		l.mu.ended = append(l.mu.ended, ended)
	}
	l.countUnstableLocked()
}

// setProducersLocked puts another table in place, for a log that now ends at end. What recovery
// finds was made durable by it, so ended transactions are remembered from appends alone.
func (l *Log) setProducersLocked(table *producerTable, end int64) {
	l.mu.producers = *table
	l.mu.ended = slices.DeleteFunc(l.mu.ended, func(t endedTxn) bool { return t.Last >= end })
	l.countUnstableLocked()
}

// endAll takes every open transaction as ended; false if there is none.
func (t *producerTable) endAll() bool {
	for id := range t.open {
		t.byID[id].txnFirst, t.byID[id].txnSince = -1, 0
	}
	any := len(t.open) > 0
	t.open = nil
	return any
}

// ProducerState is what DescribeProducers tells of a producer id.
type ProducerState struct {
	ID               int64
	Epoch            int16
	LastSequence     int32 // -1 none
	LastTimestamp    int64 // of its last batch, -1 none
	CoordinatorEpoch int32 // of its last marker, -1 none
	TxnFirst         int64 // first offset of its open transaction, -1 none
	TxnSince         int64 // wall clock ms of its begin; 0 without one
}

// ProducerStates lists the known producers by rising id.
func (l *Log) ProducerStates() []ProducerState {
	return l.producerStates(func(*producer) bool { return true })
}

// OpenTransactions lists the producers whose transaction began before the given wall clock time.
func (l *Log) OpenTransactions(beforeMS int64) []ProducerState {
	if l.unstable.Load() == 0 {
		return nil
	}
	return l.producerStates(func(p *producer) bool { return p.txnFirst >= 0 && p.txnSince < beforeMS })
}

func (l *Log) producerStates(want func(*producer) bool) []ProducerState {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []ProducerState
	for id, p := range l.mu.producers.byID {
		if !want(p) {
			continue
		}
		st := ProducerState{
			ID: id, Epoch: p.epoch, LastSequence: p.lastSeq(), LastTimestamp: p.lastSeen,
			CoordinatorEpoch: p.coordEpoch, TxnFirst: p.txnFirst, TxnSince: p.txnSince,
		}
		if p.n > 0 {
			st.LastTimestamp = p.batches[p.n-1].timestamp
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b ProducerState) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return out
}
