package api

import (
	"context"
	"regexp"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/txn"
)

// listTransactions lists the transactional ids that this broker coordinates (KIP-664, 994, 1152).
func (a *API) listTransactions(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.ListTransactionsRequest)
	resp := req.ResponseKind().(*kmsg.ListTransactionsResponse)
	resp.UnknownStateFilters = []string{}
	resp.TransactionStates = []kmsg.ListTransactionsResponseTransactionState{}
	f := txn.Filter{ProducerIDs: req.ProducerIDFilters, Running: -1}
	for _, name := range req.StateFilters {
		i := slices.Index(kmsg.TransactionStateStrings(), name)
		if i < 0 {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, name)
			continue
		}
		f.States = append(f.States, txn.State(i))
	}
	if req.Version >= 1 && req.DurationFilterMillis >= 0 {
		f.Running = time.Duration(min(req.DurationFilterMillis, int64(1<<62)/int64(time.Millisecond))) * time.Millisecond
	}
	if req.TransactionalIDPattern != nil && *req.TransactionalIDPattern != "" {
		re, err := regexp.Compile("^(?:" + *req.TransactionalIDPattern + ")$")
		if err != nil {
			resp.ErrorCode = kerr.InvalidRegularExpression.Code
			return resp, nil
		}
		f.Pattern = re
	}
	if a.cfg.Txn == nil || len(req.StateFilters) > 0 && len(f.States) == 0 {
		return resp, nil
	}
	list, err := a.cfg.Txn.List(ctx, f)
	if err != nil {
		resp.ErrorCode = txnCode(err).Code
		return resp, nil
	}
	for _, d := range list {
		out := kmsg.NewListTransactionsResponseTransactionState()
		out.TransactionalID, out.ProducerID, out.TransactionState = d.TxnID, d.ID, d.State.String()
		resp.TransactionStates = append(resp.TransactionStates, out)
	}
	return resp, nil
}
