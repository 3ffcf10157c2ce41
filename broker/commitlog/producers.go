package commitlog

import (
	"fmt"
	"math"
	"slices"

	"varve/broker/record"
)

// producerWindow is how many batches of a producer are remembered, for answering retries with
// the original offset. Kafka keeps 5 because a client has at most 5 requests in flight.
const producerWindow = 5

// noSequence marks an append by a coordinator, which has a producer id but no sequence.
const noSequence int32 = -1

// producerBatch is one remembered append. Its sequences are [lastSeq-delta, lastSeq], wrapping
// from MaxInt32 to 0.
type producerBatch struct {
	lastSeq    int32
	delta      int32
	lastOffset int64
	timestamp  int64 // max timestamp, for LogAppendTime in the answer to a retry
}

func (b producerBatch) firstSeq() int32 { return sequenceAdd(b.lastSeq, -b.delta) }

// sequenceAdd adds n in the ring 0..MaxInt32.
func sequenceAdd(seq, n int32) int32 {
	return int32((int64(seq) + int64(n)) & math.MaxInt32)
}

// producer is what the log knows of one producer id.
type producer struct {
	epoch      int16
	n          uint8 // batches in use, oldest first
	coordEpoch int32 // of the last transaction marker, -1 none
	lastSeen   int64 // wall clock ms of the last append, for expiry; not a record timestamp, which may lie years back
	txnFirst   int64 // first offset of the open transaction, -1 none
	txnSince   int64 // wall clock ms of its first append; after a restart that of the last one before it
	batches    [producerWindow]producerBatch
}

func (p *producer) lastSeq() int32 {
	if p.n == 0 {
		return noSequence
	}
	return p.batches[p.n-1].lastSeq
}

func (p *producer) remember(b producerBatch) {
	if p.n == producerWindow {
		copy(p.batches[:], p.batches[1:])
		p.n--
	}
	p.batches[p.n] = b
	p.n++
}

// producerTable is the producer state of one log as of its end. The zero value is empty.
//
// Rules on a leader (Kafka 4: ProducerAppendInfo.checkSequence, KIP-98, KIP-360):
//
//	unknown producer id                  any first sequence (its records may have been deleted)
//	epoch below the known one            ErrInvalidProducerEpoch
//	epoch above the known one            first sequence must be 0, else ErrOutOfOrderSequence
//	same epoch, known range of the last 5  a retry: answered with the original offsets
//	same epoch, else                     first sequence must follow the last one, wrapping
//	                                     MaxInt32 -> 0, else ErrOutOfOrderSequence
//	plain batch in an open transaction   ErrInvalidTxnState
//	marker of an older coordinator epoch ErrCoordinatorFenced
//	first batch of a transaction         only under the guard of its verification (verify.go)
//
// Followers and recovery apply without these checks: the leader made them.
type producerTable struct {
	byID map[int64]*producer
	open map[int64]int64 // producer id -> first offset of its open transaction
	// verifying holds who asked to begin a transaction here (KIP-890). It is not kept over a restart:
	// whoever has no entry verifies again.
	verifying map[int64]verification
}

// AbortedTxn is an aborted transaction: records of ProducerID in [First, Last] are not to be
// delivered to read_committed consumers. Last is the offset of the abort marker.
type AbortedTxn struct {
	ProducerID int64 `json:"producer_id"`
	First      int64 `json:"first"`
	Last       int64 `json:"last"`
}

// pendingProducer is the state that earlier batches of the same append would leave.
type pendingProducer struct {
	id      int64
	epoch   int16
	lastSeq int32
	inTxn   bool
}

// check decides one batch of a leader append. pending holds what the batches before it in the
// same append will change, and must what the append has to show beside its bytes. A retry is returned
// as dup.
func (t *producerTable) check(b record.Batch, pending []pendingProducer, must condition) (dup *producerBatch, err error) {
	id, epoch := b.ProducerID(), b.ProducerEpoch()
	p := t.byID[id]
	known := pendingProducer{id: id, epoch: -1, lastSeq: noSequence}
	if p != nil {
		known.epoch, known.lastSeq, known.inTxn = p.epoch, p.lastSeq(), p.txnFirst >= 0
	}
	for i := range pending {
		if pending[i].id == id {
			known = pending[i]
		}
	}
	if known.epoch < 0 {
		return nil, must.holds(t, b, p, known)
	}
	if epoch < known.epoch {
		return nil, fmt.Errorf("producer %d epoch %d below %d: %w", id, epoch, known.epoch, ErrInvalidProducerEpoch)
	}
	if b.Attributes().Control() {
		if err := checkMarker(b, p); err != nil {
			return nil, err
		}
		return nil, must.holds(t, b, p, known)
	}
	if known.inTxn && epoch == known.epoch && !b.Attributes().Transactional() {
		return nil, fmt.Errorf("producer %d: plain batch in an open transaction: %w", id, ErrInvalidTxnState)
	}
	first := b.BaseSequence()
	if first != noSequence && p != nil && epoch == p.epoch {
		if dup := p.duplicate(first, b.LastSequence()); dup != nil {
			return dup, nil
		}
	}
	if err := must.holds(t, b, p, known); err != nil || first == noSequence {
		return nil, err
	}
	return nil, checkSequence(b, known)
}

func checkSequence(b record.Batch, known pendingProducer) error {
	first := b.BaseSequence()
	switch {
	case b.ProducerEpoch() != known.epoch && first != 0:
		return fmt.Errorf("producer %d begins epoch %d with sequence %d: %w", known.id, b.ProducerEpoch(), first, ErrOutOfOrderSequence)
	case b.ProducerEpoch() != known.epoch:
		return nil
	case known.lastSeq == noSequence && first != 0:
		return fmt.Errorf("producer %d begins with sequence %d after a marker: %w", known.id, first, ErrOutOfOrderSequence)
	case known.lastSeq != noSequence && first != sequenceAdd(known.lastSeq, 1):
		return fmt.Errorf("producer %d sequence %d after %d: %w", known.id, first, known.lastSeq, ErrOutOfOrderSequence)
	}
	return nil
}

func checkMarker(b record.Batch, p *producer) error {
	if m, ok := parseMarker(b); ok && p != nil && m.CoordinatorEpoch < p.coordEpoch {
		return fmt.Errorf("producer %d marker of coordinator epoch %d below %d: %w", b.ProducerID(), m.CoordinatorEpoch, p.coordEpoch, ErrCoordinatorFenced)
	}
	return nil
}

func (p *producer) duplicate(first, last int32) *producerBatch {
	for i := range p.batches[:p.n] {
		if b := &p.batches[i]; b.lastSeq == last && b.firstSeq() == first {
			return b
		}
	}
	return nil
}

// endedTxn is a transaction that a marker ended, at its offset Last.
type endedTxn struct {
	AbortedTxn
	commit bool
}

// apply takes a batch that is in the log into the table. A transaction that it ends is returned.
func (t *producerTable) apply(b record.Batch, nowMS int64) (ended endedTxn, ok bool) {
	id := b.ProducerID()
	if id < 0 {
		return endedTxn{}, false
	}
	p := t.byID[id]
	if p == nil {
		if t.byID == nil {
			t.byID = make(map[int64]*producer)
		}
		p = &producer{epoch: -1, coordEpoch: -1, txnFirst: -1}
		t.byID[id] = p
	}
	if p.epoch != b.ProducerEpoch() {
		p.epoch, p.n = b.ProducerEpoch(), 0
	}
	p.lastSeen = max(p.lastSeen, nowMS)
	if b.Attributes().Control() {
		return t.applyMarker(id, p, b)
	}
	if b.BaseSequence() != noSequence {
		p.remember(producerBatch{b.LastSequence(), b.LastOffsetDelta(), b.LastOffset(), b.MaxTimestamp()})
	}
	if b.Attributes().Transactional() && p.txnFirst < 0 {
		p.txnFirst, p.txnSince = b.BaseOffset(), nowMS
		if t.open == nil {
			t.open = make(map[int64]int64)
		}
		t.open[id] = p.txnFirst
		delete(t.verifying, id)
	}
	return endedTxn{}, false
}

func (t *producerTable) applyMarker(id int64, p *producer, b record.Batch) (endedTxn, bool) {
	m, ok := parseMarker(b)
	if !ok {
		return endedTxn{}, false
	}
	p.coordEpoch = m.CoordinatorEpoch
	first := p.txnFirst
	p.txnFirst, p.txnSince = -1, 0
	delete(t.open, id)
	delete(t.verifying, id) // what was verified belongs to the transaction that ends here
	if first < 0 {
		return endedTxn{}, false
	}
	return endedTxn{AbortedTxn{ProducerID: id, First: first, Last: b.BaseOffset()}, m.Commit}, true
}

// firstUnstable is the first offset of the oldest open transaction, -1 if there is none.
func (t *producerTable) firstUnstable() int64 {
	first := int64(-1)
	for _, at := range t.open {
		if first < 0 || at < first {
			first = at
		}
	}
	return first
}

// expire forgets producers that were last seen before the given time and have no transaction
// open.
func (t *producerTable) expire(beforeMS int64) {
	for id, p := range t.byID {
		if p.lastSeen < beforeMS && p.txnFirst < 0 {
			delete(t.byID, id)
		}
	}
	for id, v := range t.verifying {
		if v.atMS < beforeMS {
			delete(t.verifying, id)
		}
	}
}

// bound keeps the table at most limit large. It forgets an eighth more than it must, oldest first,
// so that a log at its limit does not sort for every new producer.
func (t *producerTable) bound(limit int) {
	if limit <= 0 || len(t.byID) <= limit {
		return
	}
	type seen struct{ id, at int64 }
	idle := make([]seen, 0, len(t.byID))
	for id, p := range t.byID {
		if p.txnFirst < 0 {
			idle = append(idle, seen{id, p.lastSeen})
		}
	}
	slices.SortFunc(idle, func(a, b seen) int { return int(min(max(a.at-b.at, -1), 1)) })
	excess := min(len(t.byID)-limit+limit/8, len(idle))
	for _, s := range idle[:excess] {
		delete(t.byID, s.id)
	}
}
