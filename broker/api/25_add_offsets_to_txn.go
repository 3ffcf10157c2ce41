package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/txn"
)

// addOffsetsToTxn makes the partition that holds a group's offsets part of the transaction.
func (a *API) addOffsetsToTxn(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.AddOffsetsToTxnRequest)
	resp := req.ResponseKind().(*kmsg.AddOffsetsToTxnResponse)
	p, err := a.offsetsPartition(ctx, req.Group)
	if err == nil {
		who := txn.Producer{TxnID: req.TransactionalID, ID: req.ProducerID, Epoch: req.ProducerEpoch}
		err = a.addToTxn(ctx, who, []txn.Partition{p}, txn.V1)
	}
	resp.ErrorCode = fencedBefore(2, req.Version, err)
	return resp, nil
}

// offsetsPartition is where a group's offsets are. The topic is made if need be: a producer may come
// here before anybody asked for a group's coordinator.
func (a *API) offsetsPartition(ctx context.Context, group string) (txn.Partition, error) {
	if a.cfg.Groups == nil {
		return txn.Partition{}, coord.ErrNotCoordinator
	}
	t, err := a.coordinatorTopic(ctx, coordinatorOfGroup)
	if err != nil {
		return txn.Partition{}, err
	}
	return txn.Partition{Topic: offsetsTopic, Partition: coord.PartitionOf(group, int32(t.Partitions.Len()))}, nil
}
