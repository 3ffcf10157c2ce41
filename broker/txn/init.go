package txn

import (
	"time"

	"varve/broker/coord"
)

// InitRequest is InitProducerId with a transactional id. Producer.ID and Epoch are -1 for a producer
// that begins, else what it has and wants bumped (KIP-360).
type InitRequest struct {
	Producer
	TimeoutMS int32
}

// initProducer answers by reply, perhaps later. spare is a producer id to use if one is needed, -1
// if the caller has none.
func (m *Machine) initProducer(req InitRequest, spare int64, now time.Time, reply func(Producer, error)) coord.Step {
	t := m.txns[req.TxnID]
	if t == nil {
		return m.initNew(req, spare, now, reply)
	}
	if !t.mayInit(req.Producer) {
		return refuse(reply, ErrFenced)
	}
	again := waiter{
		deadline: now.Add(waitFor), refuse: func(err error) { reply(Producer{}, err) },
		retry: func(mm coord.Machine, now time.Time) coord.Step {
			return mm.(*Machine).initProducer(req, spare, now, func(p Producer, err error) { reply(p, err) })
		},
	}
	switch {
	case t.preparing():
		if !m.hold(t, again) {
			return refuse(reply, ErrConcurrent)
		}
		return coord.Step{}
	case t.state == ongoing:
		// The epoch that ends the old producer's transaction is never given to anybody; the
		// request comes again when it is aborted, and bumps once more.
		next := t.fenced(now.UnixMilli())
		decided := m.whenDecided(t)
		return coord.Step{Records: []coord.Record{next.record(t.id)}, Then: func(err error) {
			if err != nil {
				reply(Producer{}, err)
				return
			}
			if again.deadline = now.Add(waitFor); req.ID != noID || !m.hold(t, again) {
				reply(Producer{}, ErrConcurrent)
			}
			decided(nil)
		}}
	}
	next, err := t.initNext(req, spare, now.UnixMilli())
	if err != nil {
		return refuse(reply, err)
	}
	return initStep(next, req.TxnID, reply)
}

func refuse(reply func(Producer, error), err error) coord.Step {
	return coord.Step{Then: func(lost error) {
		if lost != nil {
			err = lost
		}
		reply(Producer{}, err)
	}}
}

func initStep(next status, id string, reply func(Producer, error)) coord.Step {
	return coord.Step{Records: []coord.Record{next.record(id)}, Then: func(err error) {
		reply(Producer{id, next.producerID, next.epoch}, err)
	}}
}

func (m *Machine) initNew(req InitRequest, spare int64, now time.Time, reply func(Producer, error)) coord.Step {
	switch {
	case len(m.txns) >= maxIDs:
		return refuse(reply, ErrTooMany)
	case spare == noID:
		return refuse(reply, errNeedID)
	}
	s := status{state: empty, producerID: spare, prevID: noID, nextID: noID, epoch: noEpoch, lastEpoch: noEpoch, startMS: -1}
	expected := noEpoch
	if req.ID != noID {
		expected = req.Epoch // a producer whose id was forgotten here (KIP-360)
	}
	next, err := s.initialised(expected, req.TimeoutMS, now.UnixMilli())
	if err != nil {
		return refuse(reply, err)
	}
	next.prevID = noID
	return initStep(next, req.TxnID, reply)
}

// mayInit: a producer that names its id must have the current one, or the one before it with its
// epochs used up: it may have missed the answer that told it the new one. One with an old epoch may
// not abort what the newer one has open.
func (t *txn) mayInit(p Producer) bool {
	switch {
	case p.ID == noID:
		return true
	case p.ID == t.producerID:
		return t.state != ongoing || p.Epoch == t.epoch
	}
	return p.ID == t.prevID && exhausted(p.Epoch)
}

func (t *txn) initNext(req InitRequest, spare, nowMS int64) (status, error) {
	expected := noEpoch
	if req.ID != noID {
		expected = req.Epoch
	}
	if exhausted(t.epoch) && (req.ID == noID || expected == t.epoch) {
		if spare == noID {
			return status{}, errNeedID
		}
		return t.rotated(spare, req.ID != noID, req.TimeoutMS, nowMS), nil
	}
	return t.initialised(expected, req.TimeoutMS, nowMS)
}
