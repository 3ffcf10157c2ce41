package txn

import (
	"log/slog"
	"time"

	"varve/broker/coord"
)

// txn is one transactional id: what the log says, and what only this coordinator keeps.
type txn struct {
	id string
	status

	left    map[Partition]bool // in Prepare: partitions without a marker; true while one is under way
	sent    bool               // in Prepare: the decision is committed, markers may go
	retryAt time.Time          // when markers are sent again; zero: nothing to send
	waiting []waiter           // requests that wait for the end of the transaction

	slot int // place in timers, -1 none
	at   time.Time
}

// waiter is a request that is held back. Its event is run again when the transaction is complete;
// at its deadline it is told ErrConcurrent.
type waiter struct {
	deadline time.Time
	retry    coord.Event
	refuse   func(error)
}

// Machine is one partition of __transaction_state. It implements coord.Machine.
type Machine struct {
	cfg       Config
	partition int32
	epoch     int32 // leader epoch: the coordinator epoch of its markers
	log       *slog.Logger
	// send gives markers away; what becomes of each comes back as the event markerDone. requeue gives
	// an event back to the shard's own queue. Both return at once.
	send    func(m *Machine, id string, markers []Marker)
	requeue func(partition int32, w waiter)

	txns   map[string]*txn
	byID   map[int64]*txn // by producer id
	timers timers
}

var _ coord.Machine = (*Machine)(nil)

// SetEpoch is told the leader epoch before the first call of any other method.
func (m *Machine) SetEpoch(epoch int32) { m.epoch = epoch }

// Apply implements coord.Machine.
func (m *Machine) Apply(rec coord.Record, _ coord.Info) error {
	id, ok, err := decodeKey(rec.Key)
	if err != nil || !ok {
		return err
	}
	t := m.txns[id]
	if rec.Value == nil {
		if t != nil {
			m.forget(t)
		}
		return nil
	}
	next, err := decodeValue(rec.Value)
	if err != nil {
		return err
	}
	if t == nil {
		t = &txn{id: id, slot: -1}
		m.txns[id] = t
	} else if m.byID[t.producerID] == t {
		delete(m.byID, t.producerID)
	}
	t.status = next
	m.byID[t.producerID] = t
	t.left, t.sent, t.retryAt = nil, false, time.Time{}
	if t.preparing() {
		t.left = make(map[Partition]bool, len(t.parts))
		for _, p := range t.parts {
			t.left[p] = false
		}
	}
	m.schedule(t)
	return nil
}

func (m *Machine) forget(t *txn) {
	delete(m.txns, t.id)
	if m.byID[t.producerID] == t {
		delete(m.byID, t.producerID)
	}
	m.timers.remove(t)
	m.release(t)
}

// Marker implements coord.Machine; nothing here is part of a transaction.
func (m *Machine) Marker(int64, int16, bool) error { return nil }

// Loaded implements coord.Machine: what was decided before is carried on.
func (m *Machine) Loaded(now time.Time) coord.Step {
	for _, t := range m.txns {
		if t.preparing() {
			t.sent, t.retryAt = true, now
			m.schedule(t)
		}
	}
	return coord.Step{}
}

// NextTimer implements coord.Machine.
func (m *Machine) NextTimer() time.Time { return m.timers.next() }

// Tick implements coord.Machine: it sends markers, aborts what took too long, gives up waiting
// requests, and forgets ids that are not used.
func (m *Machine) Tick(now time.Time) coord.Step {
	var step coord.Step
	var then []func(error)
	var done []*txn
	size := 0
	for n := 0; n < maxDue && size < maxTickBytes; n++ {
		t := m.timers.due(now)
		if t == nil {
			break
		}
		then = append(then, m.expireWaiting(t, now)...)
		rec, decided := m.dueRecord(t, now)
		if rec == nil {
			done = append(done, t)
			continue
		}
		// Its timer is set when the record is applied.
		step.Records = append(step.Records, *rec)
		size += len(rec.Value)
		if decided {
			then = append(then, m.whenDecided(t))
		}
	}
	for _, t := range done {
		m.schedule(t)
	}
	step.Then = inOrder(then)
	return step
}

// inOrder calls every function with what it is called with.
func inOrder(fs []func(error)) func(error) {
	return func(err error) {
		for _, f := range fs {
			f(err)
		}
	}
}

// dueRecord does what is due for t, and returns the record that it takes, if any; decided if that
// record is a decision, after which markers go.
func (m *Machine) dueRecord(t *txn, now time.Time) (rec *coord.Record, decided bool) {
	nowMS := now.UnixMilli()
	switch {
	case t.preparing():
		if !t.sent || t.retryAt.IsZero() || now.Before(t.retryAt) {
			return nil, false
		}
		if len(t.left) == 0 {
			r := m.complete(t, nowMS)
			return &r, false
		}
		m.sendMarkers(t)
	case t.state == ongoing && !now.Before(t.abortAt()):
		m.log.Info("transaction timed out, aborting it", "transactional_id", t.id, "producer_id", t.producerID,
			"epoch", t.epoch, "timeout", t.timeout().String())
		next := t.fenced(nowMS)
		r := next.record(t.id)
		return &r, true
	case t.idle() && len(t.waiting) == 0 && !now.Before(m.expiresAt(t)):
		return &coord.Record{Key: encodeKey(t.id)}, false
	}
	return nil, false
}

func (t *txn) abortAt() time.Time { return time.UnixMilli(t.startMS).Add(t.timeout()) }

func (t *txn) idle() bool {
	return t.state == empty || t.state == completeCommit || t.state == completeAbort
}

func (m *Machine) expiresAt(t *txn) time.Time {
	return time.UnixMilli(t.updateMS).Add(m.cfg.Expiration())
}

// schedule sets when t wants the next Tick.
func (m *Machine) schedule(t *txn) {
	if m.txns[t.id] != t {
		return
	}
	var at time.Time
	switch {
	case t.preparing():
		at = t.retryAt
	case t.state == ongoing:
		at = t.abortAt()
	default:
		at = m.expiresAt(t)
	}
	for _, w := range t.waiting {
		if at.IsZero() || w.deadline.Before(at) {
			at = w.deadline
		}
	}
	if at.IsZero() {
		m.timers.remove(t)
		return
	}
	m.timers.set(t, at)
}

// hold keeps a request until the transaction is complete; false if too many wait already.
func (m *Machine) hold(t *txn, w waiter) bool {
	if len(t.waiting) >= maxWaiting {
		return false
	}
	t.waiting = append(t.waiting, w)
	m.schedule(t)
	return true
}

func (m *Machine) expireWaiting(t *txn, now time.Time) (refused []func(error)) {
	kept := t.waiting[:0]
	for _, w := range t.waiting {
		if now.Before(w.deadline) {
			kept = append(kept, w)
			continue
		}
		refused = append(refused, func(err error) {
			if err == nil {
				err = ErrConcurrent
			}
			w.refuse(err)
		})
	}
	clear(t.waiting[len(kept):])
	t.waiting = kept
	return refused
}

// release runs the held requests again.
func (m *Machine) release(t *txn) {
	held := t.waiting
	t.waiting = nil
	for _, w := range held {
		m.requeue(m.partition, w)
	}
}

// Stopped implements coord.Machine.
func (m *Machine) Stopped() {
	for _, t := range m.txns {
		for _, w := range t.waiting {
			w.refuse(coord.ErrNotCoordinator)
		}
		t.waiting = nil
	}
}
