package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/txn"
)

// endTxnBumps is the first version of EndTxn whose producers expect a new epoch in the answer, and
// thereby say that they follow transaction version 2 (KIP-890).
const endTxnBumps = 5

func (a *API) endTxn(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.EndTxnRequest)
	resp := req.ResponseKind().(*kmsg.EndTxnResponse)
	end := txn.EndRequest{
		Producer: txn.Producer{TxnID: req.TransactionalID, ID: req.ProducerID, Epoch: req.ProducerEpoch},
		Commit:   req.Commit, Version: txn.V1,
	}
	if req.Version >= endTxnBumps {
		end.Version = txn.V2
	}
	next, err := txn.Producer{}, error(coord.ErrNotCoordinator)
	if a.cfg.Txn != nil {
		next, err = a.cfg.Txn.End(ctx, end)
	}
	resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch = fencedBefore(2, req.Version, err), -1, -1
	if err == nil {
		resp.ProducerID, resp.ProducerEpoch = next.ID, next.Epoch
	}
	return resp, nil
}
