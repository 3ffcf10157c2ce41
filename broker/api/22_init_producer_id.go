package api

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/meta"
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

// initProducerID serves idempotent producers. With a transactional id the coordinator is asked for,
// which is not here yet.
func (a *API) initProducerID(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.InitProducerIDRequest)
	resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	if req.TransactionalID != nil {
		resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
		if *req.TransactionalID == "" {
			resp.ErrorCode = kerr.InvalidRequest.Code
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
