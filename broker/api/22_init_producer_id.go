package api

import (
	"context"
	"errors"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/meta"
	"varve/broker/txn"
)

// producerBlock is how many ids one raft command takes: a broker restart wastes at most as many of
// the 2^63 that there are.
const producerBlock = 1000

// producerIDs hands out producer ids from a block that raft gave this broker.
type producerIDs struct {
	mu        sync.Mutex
	next, end int64 // [next, end) is left of the block
}

func (p *producerIDs) take(ctx context.Context, node *meta.Node) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == p.end {
		results, err := node.Propose(ctx, &meta.AllocProducerIDs{Count: producerBlock})
		if err == nil {
			err = results[0].Err
		}
		if err != nil {
			return -1, err
		}
		p.next, p.end = results[0].Value, results[0].Value+producerBlock
	}
	id := p.next
	p.next++
	return id, nil
}

// initProducerID serves idempotent producers here, and those with a transactional id through its
// coordinator.
func (a *API) initProducerID(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.InitProducerIDRequest)
	resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	if req.TransactionalID != nil {
		p, err := a.initTransactional(ctx, req)
		if resp.ErrorCode = fencedBefore(4, req.Version, err); resp.ErrorCode == 0 {
			resp.ProducerID, resp.ProducerEpoch = p.ID, p.Epoch
		}
		return resp, nil
	}
	id, err := a.producerIDs.take(ctx, a.cfg.Meta)
	if err != nil {
		resp.ErrorCode = errorCode(err).Code
		return resp, nil
	}
	resp.ProducerID, resp.ProducerEpoch = id, 0
	return resp, nil
}

// ProducerID gives out one producer id that was never used.
func (a *API) ProducerID() (int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	return a.producerIDs.take(ctx, a.cfg.Meta)
}

func (a *API) initTransactional(ctx context.Context, req *kmsg.InitProducerIDRequest) (txn.Producer, error) {
	if (req.ProducerID < 0) != (req.ProducerEpoch < 0) { // both or neither (KIP-360)
		return txn.Producer{}, kerr.InvalidRequest
	}
	if a.cfg.Txn == nil {
		return txn.Producer{}, coord.ErrNotCoordinator
	}
	return a.cfg.Txn.InitProducerID(ctx, txn.InitRequest{
		Producer:  txn.Producer{TxnID: *req.TransactionalID, ID: req.ProducerID, Epoch: req.ProducerEpoch},
		TimeoutMS: req.TransactionTimeoutMillis,
	})
}

// fencedBefore is the code of err for a request whose clients know PRODUCER_FENCED from version
// first on; before it was told as INVALID_PRODUCER_EPOCH (KIP-588).
func fencedBefore(first, version int16, err error) int16 {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, txn.ErrFenced) && version < first:
		return kerr.InvalidProducerEpoch.Code
	}
	return txnCode(err).Code
}
