package api

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"varve/broker/coord"
	"varve/broker/partition"
	"varve/broker/record"
	"varve/broker/txn"
)

// verdict is what became of the verification of one partition of a transactional Produce: the guard
// under which its batch may begin a transaction there, 0 if none is needed, or why not.
type verdict struct {
	guard uint64
	err   error
}

// versionV2 is the first Produce version whose producers leave it to the broker to add partitions
// to their transaction (KIP-890, part 2); versionAbortable the first that knows
// TRANSACTION_ABORTABLE.
const (
	versionAbortable = 11
	versionV2        = 12
)

var errNoTransactionalID = errors.New("a transactional batch in a request without transactional id")

// toVerify are the partitions of a request where one producer's batch begins a transaction.
type toVerify struct {
	producer txn.Producer
	parts    []txn.Partition
	at       []int // places in verdict
}

// verify asks the coordinator about every partition where a batch of the request begins a
// transaction, before any is appended: once for all of them. The guards are taken first, so that a
// transaction that ends meanwhile takes them away.
func (p *produceReply) verify(r reader, count int) {
	if cap(p.verdict) < count {
		p.verdict = make([]verdict, 0, count)
	}
	var groups []toVerify
	flexible := p.version >= 9
	for n := r.array(flexible, 1); n > 0; n-- {
		var t *partition.Topic
		if p.version >= 13 {
			t = p.api.cfg.Set.ByID(r.uuid())
		} else {
			t = p.api.cfg.Set.ByName(string(r.str(flexible)))
		}
		for m := r.array(flexible, 5); m > 0; m-- {
			index, b := r.int32(), r.bytes(flexible)
			r.tags(flexible)
			p.verdict = append(p.verdict, verdict{})
			if t != nil {
				groups = p.guard(groups, t, index, record.Batch(b))
			}
		}
		r.tags(flexible)
	}
	if len(groups) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(p.req.Conn.Context(), requestTimeout)
	defer cancel()
	for _, g := range groups {
		p.ask(ctx, g)
	}
}

// guard takes the guard for one batch, which is not validated yet: what is wrong with it is told
// later.
func (p *produceReply) guard(groups []toVerify, t *partition.Topic, index int32, b record.Batch) []toVerify {
	rep := t.Partition(index)
	if rep == nil || len(b) < record.HeaderLen || !b.Attributes().Transactional() {
		return groups
	}
	v := &p.verdict[len(p.verdict)-1]
	var needed bool
	v.guard, needed, v.err = rep.BeginVerification(b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	if v.err != nil || !needed {
		return groups
	}
	who := txn.Producer{TxnID: p.txnID, ID: b.ProducerID(), Epoch: b.ProducerEpoch()}
	i := len(groups) - 1
	if i < 0 || groups[i].producer != who { // one request is of one producer, or it is garbage
		groups = append(groups, toVerify{producer: who})
		i++
	}
	groups[i].parts = append(groups[i].parts, txn.Partition{Topic: t.Name, Partition: index})
	groups[i].at = append(groups[i].at, len(p.verdict)-1)
	return groups
}

func (p *produceReply) ask(ctx context.Context, g toVerify) {
	each, err := p.api.beginInPartitions(ctx, g.producer, g.parts, p.version >= versionV2)
	for i, at := range g.at {
		switch {
		case err != nil:
			p.verdict[at].err = err
		case each != nil:
			p.verdict[at].err = each[i]
		}
	}
}

// beginInPartitions makes sure that partitions are part of a producer's open transaction: it adds
// them for a producer of transaction version 2, and asks whether they are for others.
func (a *API) beginInPartitions(ctx context.Context, p txn.Producer, parts []txn.Partition, add bool) ([]error, error) {
	switch {
	case a.cfg.Txn == nil:
		return nil, coord.ErrNotCoordinator
	case add:
		return nil, a.cfg.Txn.AddPartitions(ctx, p, parts, txn.V2)
	}
	return a.cfg.Txn.Verify(ctx, p, parts)
}

// mayAppend tells why the transactional batch of partition number at is refused, if it is.
func (p *produceReply) mayAppend(at int) error {
	if p.txnID == "" {
		return errNoTransactionalID
	}
	return p.verdict[at].err
}

// txnProduceCode says what a producer is told of a failed verification, in what its version
// understands (ReplicaManager.maybeSendPartitionsToTransactionCoordinator in Kafka 4).
func txnProduceCode(err error, version int16) (*kerr.Error, string) {
	code := txnCode(err)
	switch {
	case errors.Is(err, errNoTransactionalID):
		code = kerr.TransactionalIDAuthorizationFailed
	case errors.Is(err, txn.ErrFenced):
		code = kerr.InvalidProducerEpoch // PRODUCER_FENCED of a batch is fatal to clients; this is not
	case errors.Is(err, txn.ErrNotAdded) && version < versionAbortable:
		code = kerr.InvalidTxnState
	case errors.Is(err, txn.ErrConcurrent) && version < versionV2, isCoordinatorMove(err):
		// Old clients retry it without a look at metadata.
		code = kerr.NotEnoughReplicas
	}
	return code, err.Error()
}

// isCoordinatorMove tells whether a request may succeed at once at another coordinator, or later at
// this one.
func isCoordinatorMove(err error) bool {
	return errors.Is(err, coord.ErrNotCoordinator) || errors.Is(err, coord.ErrLoading) || errors.Is(err, coord.ErrOverloaded) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// txnCode is errorCode for what the transaction coordinator answers: a request that it did not
// finish in time is to be sent again.
func txnCode(err error) *kerr.Error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return kerr.CoordinatorNotAvailable
	}
	return errorCode(err)
}
