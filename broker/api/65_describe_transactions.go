package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/txn"
)

// describeTransactions tells the state of transactional ids (KIP-664).
func (a *API) describeTransactions(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.DescribeTransactionsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeTransactionsResponse)
	for _, id := range req.TransactionalIDs {
		resp.TransactionStates = append(resp.TransactionStates, a.describeTransaction(ctx, id))
	}
	return resp, nil
}

func (a *API) describeTransaction(ctx context.Context, id string) kmsg.DescribeTransactionsResponseTransactionState {
	out := kmsg.NewDescribeTransactionsResponseTransactionState()
	out.TransactionalID, out.ProducerID, out.ProducerEpoch, out.StartTimestamp = id, -1, -1, -1
	d, err := txn.Description{}, error(coord.ErrNotCoordinator)
	if a.cfg.Txn != nil {
		d, err = a.cfg.Txn.Describe(ctx, id)
	}
	if err != nil {
		out.ErrorCode = txnCode(err).Code
		return out
	}
	out.State, out.TimeoutMillis, out.StartTimestamp = d.State.String(), d.TimeoutMS, d.StartMS
	out.ProducerID, out.ProducerEpoch = d.ID, d.Epoch
	for _, p := range d.Parts { // sorted by topic
		if n := len(out.Topics); n == 0 || out.Topics[n-1].Topic != p.Topic {
			t := kmsg.NewDescribeTransactionsResponseTransactionStateTopic()
			t.Topic = p.Topic
			out.Topics = append(out.Topics, t)
		}
		t := &out.Topics[len(out.Topics)-1]
		t.Partitions = append(t.Partitions, p.Partition)
	}
	return out
}
