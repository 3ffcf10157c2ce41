package txn

import (
	"math"
	"time"

	"varve/broker/coord"
)

// EndRequest is EndTxn.
type EndRequest struct {
	Producer
	Commit  bool
	Version Version
}

// ending is what EndTxn comes to.
type ending int

const (
	decide   ending = iota // the transaction ends here
	repeated               // it had ended in the same way: the answer got lost
	unfinished
	fenced
	foreign
	invalid
)

// endWithV1 decides EndTxn of a producer that keeps its epoch: state and result alone tell a retry.
func (t *txn) endWithV1(req EndRequest) ending {
	switch {
	case t.producerID != req.ID:
		return foreign
	case t.epoch != req.Epoch:
		return fenced
	}
	switch t.state {
	case ongoing:
		return decide
	case prepareCommit, prepareAbort:
		if t.commits() == req.Commit {
			return unfinished
		}
	case completeCommit, completeAbort:
		if (t.state == completeCommit) == req.Commit {
			return repeated
		}
	default: // empty takes neither
	}
	return invalid
}

// endWithV2 decides EndTxn where each end bumps the epoch, so that a retry shows the epoch before
// (KIP-890). With P fenced, I invalid, D decide, R repeated:
//
//	               abort            commit
//	               retry current    retry current
//	Empty          P     D          P     I
//	CompleteAbort  R     D          I     I
//	CompleteCommit I     D          R     I
func (t *txn) endWithV2(req EndRequest) ending {
	bumped := req.Epoch < math.MaxInt16 && t.epoch == req.Epoch+1 && t.producerID == req.ID
	overflowed := t.prevID == req.ID && req.Epoch == math.MaxInt16-1 && t.epoch == 0 && t.producerID != req.ID
	retry := bumped || overflowed
	if t.producerID != req.ID && !overflowed {
		return foreign
	}
	switch t.state {
	case ongoing, empty:
		if t.epoch != req.Epoch {
			return fenced
		}
		if t.state == empty && req.Commit {
			return invalid
		}
		return decide
	case prepareCommit, prepareAbort:
		switch {
		case !bumped:
			return fenced
		case t.commits() == req.Commit:
			return unfinished
		}
		return invalid
	default: // complete
	}
	switch same := (t.state == completeCommit) == req.Commit; {
	case !retry && t.epoch != req.Epoch:
		return fenced
	case retry && same:
		return repeated
	case retry || req.Commit:
		return invalid
	}
	return decide // an abort of nothing
}

// end answers when the decision is committed; the markers follow.
func (m *Machine) end(req EndRequest, spare int64, now time.Time, reply func(Producer, error)) coord.Step {
	t := m.txns[req.TxnID]
	if t == nil {
		return refuse(reply, ErrMapping)
	}
	what := t.endWithV1(req)
	if req.Version >= V2 {
		what = t.endWithV2(req)
	}
	switch what {
	case decide:
		return m.decide(t, req, spare, now, reply)
	case repeated:
		done := Producer{t.id, t.producerID, t.epoch}
		return coord.Step{Then: func(err error) { reply(done, err) }}
	case unfinished:
		if !m.hold(t, waiter{
			deadline: now.Add(waitFor), refuse: func(err error) { reply(Producer{}, err) },
			retry: func(mm coord.Machine, now time.Time) coord.Step {
				return mm.(*Machine).end(req, spare, now, reply)
			},
		}) {
			return refuse(reply, ErrConcurrent)
		}
		return coord.Step{}
	case fenced:
		return refuse(reply, ErrFenced)
	case foreign:
		return refuse(reply, ErrMapping)
	case invalid:
	}
	return refuse(reply, ErrInvalidState)
}

func (m *Machine) decide(t *txn, req EndRequest, spare int64, now time.Time, reply func(Producer, error)) coord.Step {
	nextID := noID
	if req.Version >= V2 && exhausted(t.epoch) {
		if spare == noID {
			return refuse(reply, errNeedID)
		}
		nextID = spare
	}
	next := t.prepared(req.Commit, req.Version, nextID, now.UnixMilli())
	after := next.completed(now.UnixMilli()) // what the producer goes on with
	decided := m.whenDecided(t)
	return coord.Step{Records: []coord.Record{next.record(t.id)}, Then: func(err error) {
		decided(err)
		reply(Producer{t.id, after.producerID, after.epoch}, err)
	}}
}
