package commitlog

import (
	"slices"

	"varve/broker/record"
)

// lastOfProducer is the newest of a producer that the log knows: the last offset of its last data
// batch, or -1 where only a marker is known.
type lastOfProducer struct {
	offset int64
	epoch  int16
}

func (l *Log) lastOfProducers() map[int64]lastOfProducer {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[int64]lastOfProducer, len(l.mu.producers.byID))
	for id, p := range l.mu.producers.byID {
		last := lastOfProducer{-1, p.epoch}
		if p.n > 0 {
			last.offset = p.batches[p.n-1].lastOffset
		}
		out[id] = last
	}
	return out
}

// isLast tells whether a batch is what the state of an active producer rests on.
func (c *cleaner) isLast(b record.Batch) bool {
	if b.ProducerID() < 0 {
		return false
	}
	last, ok := c.last[b.ProducerID()]
	switch {
	case !ok:
		return false
	case last.offset >= 0:
		return last.offset == b.LastOffset()
	}
	return b.Attributes().Control() && b.ProducerEpoch() == last.epoch
}

// txnTrail tells, on a walk from the start of the log, which batches were aborted and whether a marker
// still has a batch of its transaction before it.
type txnTrail struct {
	aborted map[int64][]AbortedTxn // of each producer, rising
	left    map[int64]bool         // producers with a batch of the transaction at hand that stays
}

func newTxnTrail(aborted []AbortedTxn) txnTrail {
	t := txnTrail{aborted: map[int64][]AbortedTxn{}, left: map[int64]bool{}}
	for _, a := range aborted {
		t.aborted[a.ProducerID] = append(t.aborted[a.ProducerID], a)
	}
	return t
}

// isAborted tells whether a data batch belongs to an aborted transaction.
func (t *txnTrail) isAborted(b record.Batch) bool {
	if !b.Attributes().Transactional() {
		return false
	}
	txns := t.aborted[b.ProducerID()]
	i, _ := slices.BinarySearchFunc(txns, b.BaseOffset(), func(a AbortedTxn, at int64) int {
		if a.Last < at {
			return -1
		}
		return 1
	})
	return i < len(txns) && txns[i].First <= b.BaseOffset()
}

// seen notes a batch that stays.
func (t *txnTrail) seen(b record.Batch) {
	if b.Attributes().Transactional() {
		t.left[b.ProducerID()] = true
	}
}

// endedEmpty tells whether a control batch ends a transaction of which no batch is left.
func (t *txnTrail) endedEmpty(b record.Batch) bool {
	if _, ok := parseMarker(b); !ok {
		return false
	}
	left := t.left[b.ProducerID()]
	delete(t.left, b.ProducerID())
	return !left
}
