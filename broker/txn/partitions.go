package txn

import (
	"time"

	"varve/broker/coord"
)

// addPartitions makes partitions part of the producer's transaction, which begins with the first.
func (m *Machine) addPartitions(p Producer, parts []Partition, v Version, now time.Time, reply func(error)) coord.Step {
	t, err := m.current(p)
	if err != nil {
		return answer(reply, err)
	}
	if t.preparing() {
		if !m.hold(t, waiter{
			deadline: now.Add(waitFor), refuse: reply,
			retry: func(mm coord.Machine, now time.Time) coord.Step {
				return mm.(*Machine).addPartitions(p, parts, v, now, reply)
			},
		}) {
			return answer(reply, ErrConcurrent)
		}
		return coord.Step{}
	}
	if t.state == ongoing && t.hasAll(parts) {
		return answer(reply, nil)
	}
	next := t.withPartitions(parts, v, now.UnixMilli())
	if len(next.parts) > maxPartitions {
		return answer(reply, ErrTooMany)
	}
	return coord.Step{Records: []coord.Record{next.record(t.id)}, Then: reply}
}

// current finds the transactional id of a producer that is the current one.
func (m *Machine) current(p Producer) (*txn, error) {
	t := m.txns[p.TxnID]
	switch {
	case t == nil || t.producerID != p.ID:
		return nil, ErrMapping
	case t.epoch != p.Epoch:
		return nil, ErrFenced
	}
	return t, nil
}

func (s *status) hasAll(parts []Partition) bool {
	for _, p := range parts {
		if !s.has(p) {
			return false
		}
	}
	return true
}

// answer replies when what the decision rests on is committed.
func answer(reply func(error), err error) coord.Step {
	return coord.Step{Then: func(lost error) {
		if lost != nil {
			err = lost
		}
		reply(err)
	}}
}

// verify tells for each partition whether it is part of the producer's open transaction.
func (m *Machine) verify(p Producer, parts []Partition, reply func([]error, error)) coord.Step {
	t, err := m.current(p)
	if err == nil && t.preparing() {
		err = ErrConcurrent
	}
	each := make([]error, len(parts))
	if err == nil {
		for i := range parts {
			if t.state != ongoing || !t.has(parts[i]) {
				each[i] = ErrNotAdded
			}
		}
	}
	return answer(func(err error) { reply(each, err) }, err)
}

// knows tells whether a partition is part of a transaction of the producer id that is not finished.
func (m *Machine) knows(producerID int64, p Partition) bool {
	t := m.byID[producerID]
	if t == nil {
		return false
	}
	if t.preparing() {
		_, left := t.left[p]
		return left
	}
	return t.state == ongoing && t.has(p)
}
