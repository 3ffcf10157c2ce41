package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/txn"
)

// offsetsTopic is the internal topic of committed offsets.
const offsetsTopic = "__consumer_offsets"

// addPartitionsToTxn has two forms: one transaction of a client up to v3, and a batch of them, some
// only to be verified, as brokers send it from v4 on (KIP-890).
func (a *API) addPartitionsToTxn(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.AddPartitionsToTxnRequest)
	resp := req.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
	if req.Version >= 4 {
		for i := range req.Transactions {
			resp.Transactions = append(resp.Transactions, a.addBatched(ctx, &req.Transactions[i]))
		}
		return resp, nil
	}
	var parts []txn.Partition
	bad := false
	codes := map[txn.Partition]int16{}
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			part := txn.Partition{Topic: t.Topic, Partition: p}
			parts = append(parts, part)
			if codes[part] = a.mayAdd(part, false); codes[part] != 0 {
				bad = true
			}
		}
	}
	code := kerr.OperationNotAttempted.Code // all or none
	if !bad {
		err := a.addToTxn(ctx, txn.Producer{TxnID: req.TransactionalID, ID: req.ProducerID, Epoch: req.ProducerEpoch}, parts, txn.V1)
		code = fencedBefore(2, req.Version, err)
	}
	for _, t := range req.Topics {
		out := kmsg.NewAddPartitionsToTxnResponseTopic()
		out.Topic = t.Topic
		for _, p := range t.Partitions {
			op := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			op.Partition, op.ErrorCode = p, code
			if own := codes[txn.Partition{Topic: t.Topic, Partition: p}]; own != 0 {
				op.ErrorCode = own
			}
			out.Partitions = append(out.Partitions, op)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

// mayAdd is the code of a partition that cannot be part of a transaction, or 0.
func (a *API) mayAdd(p txn.Partition, fromBroker bool) int16 {
	switch {
	case p.Topic == txn.Topic, p.Topic == offsetsTopic && !fromBroker:
		return kerr.InvalidTopicException.Code
	case !a.knowsPartition(p):
		return kerr.UnknownTopicOrPartition.Code
	}
	return 0
}

func (a *API) knowsPartition(p txn.Partition) bool {
	t := a.cfg.Meta.Image().Topic(p.Topic)
	return t != nil && p.Partition >= 0 && int(p.Partition) < t.Partitions.Len()
}

func (a *API) addToTxn(ctx context.Context, p txn.Producer, parts []txn.Partition, v txn.Version) error {
	if a.cfg.Txn == nil {
		return coord.ErrNotCoordinator
	}
	return a.cfg.Txn.AddPartitions(ctx, p, parts, v)
}

// addBatched adds or verifies the partitions of one transaction of the batched form.
func (a *API) addBatched(ctx context.Context, req *kmsg.AddPartitionsToTxnRequestTransaction) kmsg.AddPartitionsToTxnResponseTransaction {
	out := kmsg.NewAddPartitionsToTxnResponseTransaction()
	out.TransactionalID = req.TransactionalID
	var parts []txn.Partition
	bad := int16(0)
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			part := txn.Partition{Topic: t.Topic, Partition: p}
			parts = append(parts, part)
			if code := a.mayAdd(part, true); bad == 0 {
				bad = code
			}
		}
	}
	var each []error
	code := bad
	if bad == 0 {
		var err error
		who := txn.Producer{TxnID: req.TransactionalID, ID: req.ProducerID, Epoch: req.ProducerEpoch}
		each, err = a.beginInPartitions(ctx, who, parts, !req.VerifyOnly)
		code = fencedBefore(0, 0, err)
	}
	i := 0
	for _, t := range req.Topics {
		ot := kmsg.NewAddPartitionsToTxnResponseTransactionTopic()
		ot.Topic = t.Topic
		for _, p := range t.Partitions {
			op := kmsg.NewAddPartitionsToTxnResponseTransactionTopicPartition()
			op.Partition, op.ErrorCode = p, code
			if code == 0 && each != nil {
				op.ErrorCode = fencedBefore(0, 0, each[i])
			}
			ot.Partitions = append(ot.Partitions, op)
			i++
		}
		out.Topics = append(out.Topics, ot)
	}
	return out
}
