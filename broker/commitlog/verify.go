package commitlog

import (
	"errors"
	"fmt"

	"varve/broker/record"
)

// verification is a producer that asked to begin a transaction in this log (KIP-890, part 1). The
// guard is given out before the coordinator is asked whether that transaction is open, and goes
// when the transaction begins or a marker comes: an append that was verified for a transaction
// which has ended meanwhile shows a guard that is gone, and is refused.
type verification struct {
	guard  uint64
	epoch  int16
	lowest int32 // lowest sequence that asked: a later one must not get in before it
	atMS   int64
}

// maxVerifying bounds the table for a log without MaxProducers.
const maxVerifying = 100_000

// BeginVerification tells whether a transactional batch of a producer begins a transaction here. If
// so, needed is true, and the batch is appended by AppendClient with the guard, after the
// coordinator has said that the transaction is open. A guard is never 0.
func (l *Log) BeginVerification(id int64, epoch int16, firstSeq int32, nowMS int64) (guard uint64, needed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &l.mu.producers
	if p := t.byID[id]; p != nil && p.txnFirst >= 0 && p.epoch == epoch {
		return 0, false
	}
	v, known := t.verifying[id]
	switch {
	case !known || epoch > v.epoch:
		if !known {
			t.makeRoomToVerify(l.config().MaxProducers)
		}
		v = verification{guard: l.env.guards.Add(1), epoch: epoch, lowest: firstSeq}
	case epoch == v.epoch:
		v.lowest = min(v.lowest, firstSeq)
	}
	v.atMS = nowMS
	t.verifying[id] = v
	return v.guard, true
}

// makeRoomToVerify keeps the table below limit: it forgets any one entry, whose producer is then
// refused once and has to verify again.
func (t *producerTable) makeRoomToVerify(limit int) {
	if t.verifying == nil {
		t.verifying = make(map[int64]verification)
	}
	if limit <= 0 {
		limit = maxVerifying
	}
	for id := range t.verifying {
		if len(t.verifying) < limit {
			return
		}
		delete(t.verifying, id)
	}
}

// Verified tells whether the guard still stands: nothing ended or began a transaction of that
// producer since it was given out.
func (l *Log) Verified(id int64, guard uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, ok := l.mu.producers.verifying[id]
	return ok && guard != 0 && v.guard == guard
}

// condition is what an append has to show beside its bytes; zero asks nothing.
type condition struct {
	client bool    // transactional batches begin a transaction only under guard
	guard  uint64  // see BeginVerification; 0: none
	marker *Marker // the batch is its marker
}

// errEnded says that a marker has nothing to end: it is there already.
var errEnded = errors.New("transaction has ended")

// holds decides what condition adds to the producer rules. p is the producer, or nil, and known
// what earlier batches of the same append leave of it.
func (c condition) holds(t *producerTable, b record.Batch, p *producer, known pendingProducer) error {
	if c.marker != nil {
		return c.marker.follows(p)
	}
	attrs := b.Attributes()
	if !c.client || !attrs.Transactional() || attrs.Control() || known.inTxn && known.epoch == b.ProducerEpoch() {
		return nil
	}
	v, ok := t.verifying[b.ProducerID()]
	switch first := b.BaseSequence(); {
	case !ok || c.guard == 0 || v.guard != c.guard:
		return fmt.Errorf("producer %d: the transaction was not verified, or has ended meanwhile: %w", b.ProducerID(), ErrInvalidTxnState)
	case b.ProducerEpoch() == v.epoch && first > v.lowest:
		return fmt.Errorf("producer %d begins a transaction with sequence %d, but %d is still to come: %w",
			b.ProducerID(), first, v.lowest, ErrOutOfOrderSequence)
	}
	return nil
}

// AppendClient is AppendLeader for a batch of a client: if it begins a transaction, the guard of
// its verification must still stand.
func (l *Log) AppendClient(b []byte, epoch int32, nowMS int64, guard uint64) (AppendInfo, error) {
	return l.appendLeader(b, epoch, nowMS, condition{client: true, guard: guard})
}

// Marker ends the transaction of a producer in one log.
type Marker struct {
	ProducerID       int64
	ProducerEpoch    int16
	CoordinatorEpoch int32
	Commit           bool
	// Bumped: ProducerEpoch is above that of every batch of the transaction (transaction version 2),
	// so a marker whose epoch the log already knows is late, and must not end the next transaction.
	Bumped bool
	// Hanging: end only the transaction that begins at First, which the coordinator does not know.
	Hanging bool
	First   int64
}

func (m *Marker) follows(p *producer) error {
	switch {
	case m.Hanging && (p == nil || p.txnFirst != m.First):
		return errEnded
	case m.Bumped && p != nil && p.epoch == m.ProducerEpoch && p.txnFirst < 0:
		return errEnded
	case m.Bumped && p != nil && p.epoch == m.ProducerEpoch:
		return fmt.Errorf("producer %d: a marker of epoch %d after data of it: %w", m.ProducerID, m.ProducerEpoch, ErrInvalidProducerEpoch)
	}
	return nil
}

// AppendMarker appends a control batch as the leader of epoch. Duplicate in the answer says that the
// transaction had ended and nothing was appended; Last is then the end of the log.
//
// Errors: those of AppendLeader, ErrCoordinatorFenced.
func (l *Log) AppendMarker(m Marker, epoch int32, nowMS int64) (AppendInfo, error) {
	b := record.NewEndTxnMarker(m.Commit, m.ProducerID, m.ProducerEpoch, m.CoordinatorEpoch, nowMS)
	info, err := l.appendLeader(b, epoch, nowMS, condition{marker: &m})
	if errors.Is(err, errEnded) {
		return AppendInfo{Last: l.LEO() - 1, LogAppendTime: -1, Duplicate: true}, nil
	}
	return info, err
}
