package api

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/group"
	"varve/broker/partition"
	"varve/broker/txn"
)

// The first versions of TxnOffsetCommit that know TRANSACTION_ABORTABLE, whose producers leave it to
// the broker to add the offsets' partition to their transaction (KIP-890), and that name topics by
// id.
const (
	txnCommitAbortable = 4
	txnCommitAdds      = 5
	txnCommitByID      = 6
)

// txnOffsetCommit commits a group's offsets as part of a producer's transaction, after its coordinator
// has confirmed that the transaction is open and covers the partition of the offsets.
func (a *API) txnOffsetCommit(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.TxnOffsetCommitRequest)
	known, refused := a.knownTxnCommits(req)
	resp, err := kmsg.NewPtrTxnOffsetCommitResponse(), error(nil)
	if len(known.Topics) > 0 {
		resp, err = a.commitInTxn(ctx, known)
	}
	if err != nil {
		resp = kmsg.NewPtrTxnOffsetCommitResponse()
		for i := range known.Topics {
			resp.Topics = append(resp.Topics, refusedTxnCommit(&known.Topics[i], txnCommitCode(err, req.Version).Code))
		}
	}
	ids := make(map[string][16]byte, len(known.Topics))
	for _, t := range known.Topics {
		ids[t.Topic] = t.TopicID
	}
	for i := range resp.Topics {
		resp.Topics[i].TopicID = ids[resp.Topics[i].Topic]
	}
	resp.Topics = append(resp.Topics, refused...)
	resp.SetVersion(req.Version)
	return resp, nil
}

// knownTxnCommits splits a commit into what names a partition that exists, by name, and the answers
// for the rest.
func (a *API) knownTxnCommits(req *kmsg.TxnOffsetCommitRequest) (known *kmsg.TxnOffsetCommitRequest, refused []kmsg.TxnOffsetCommitResponseTopic) {
	im := a.cfg.Meta.Image()
	k := *req
	k.Topics = make([]kmsg.TxnOffsetCommitRequestTopic, 0, len(req.Topics))
	for i := range req.Topics {
		t := req.Topics[i]
		found, missing := im.Topic(t.Topic), kerr.UnknownTopicOrPartition
		if req.Version >= txnCommitByID {
			found, missing = im.TopicByID(t.TopicID), kerr.UnknownTopicID
		}
		if found == nil {
			refused = append(refused, refusedTxnCommit(&t, missing.Code))
			continue
		}
		good, bad := t, t
		good.Topic, good.Partitions, bad.Partitions = found.Name, nil, nil
		for _, p := range t.Partitions {
			if p.Partition >= 0 && int(p.Partition) < found.Partitions.Len() {
				good.Partitions = append(good.Partitions, p)
			} else {
				bad.Partitions = append(bad.Partitions, p)
			}
		}
		if len(bad.Partitions) > 0 {
			refused = append(refused, refusedTxnCommit(&bad, kerr.UnknownTopicOrPartition.Code))
		}
		if len(good.Partitions) > 0 {
			k.Topics = append(k.Topics, good)
		}
	}
	return &k, refused
}

func refusedTxnCommit(t *kmsg.TxnOffsetCommitRequestTopic, code int16) kmsg.TxnOffsetCommitResponseTopic {
	rt := kmsg.NewTxnOffsetCommitResponseTopic()
	rt.Topic, rt.TopicID = t.Topic, t.TopicID
	for _, p := range t.Partitions {
		rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
		rp.Partition, rp.ErrorCode = p.Partition, code
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt
}

func (a *API) commitInTxn(ctx context.Context, req *kmsg.TxnOffsetCommitRequest) (*kmsg.TxnOffsetCommitResponse, error) {
	if req.TransactionalID == "" || req.ProducerID < 0 || req.ProducerEpoch < 0 {
		return nil, kerr.InvalidRequest
	}
	at, err := a.offsetsPartition(ctx, req.Group)
	if err != nil {
		return nil, err
	}
	var rep *partition.Replica
	if t := a.cfg.Set.ByName(offsetsTopic); t != nil {
		rep = t.Partition(at.Partition)
	}
	if rep == nil {
		return nil, coord.ErrNotCoordinator
	}
	guard, needed, err := rep.BeginVerification(req.ProducerID, req.ProducerEpoch, -1)
	if err != nil {
		return nil, err
	}
	if needed {
		who := txn.Producer{TxnID: req.TransactionalID, ID: req.ProducerID, Epoch: req.ProducerEpoch}
		each, err := a.beginInPartitions(ctx, who, []txn.Partition{at}, req.Version >= txnCommitAdds)
		if err == nil && each != nil {
			err = each[0]
		}
		if err != nil {
			return nil, err
		}
	}
	answers := make(chan txnCommitAnswer, 1)
	err = a.cfg.Groups.Do(at.Partition, func(m coord.Machine, now time.Time) coord.Step {
		// Markers of this partition go through the same shard: none comes between this look and the
		// append.
		if needed && !rep.Verified(req.ProducerID, guard) {
			answers <- txnCommitAnswer{nil, partition.ErrInvalidTxnState}
			return coord.Step{}
		}
		return m.(*group.Machine).CommitTxnOffsets(now, req, func(resp *kmsg.TxnOffsetCommitResponse) {
			answers <- txnCommitAnswer{resp, nil}
		})
	}, func(err error) { answers <- txnCommitAnswer{nil, err} })
	if err != nil {
		return nil, err
	}
	// The message is a view of the frame, which stays until here: a request that is given up would
	// take it away from the shard. The shard answers, or is dropped, whatever becomes of the client.
	r := <-answers
	return r.resp, r.err
}

type txnCommitAnswer struct {
	resp *kmsg.TxnOffsetCommitResponse
	err  error
}

// txnCommitCode is what a producer is told, in what its version understands.
func txnCommitCode(err error, version int16) *kerr.Error {
	switch {
	case errors.Is(err, txn.ErrFenced):
		return kerr.InvalidProducerEpoch
	case errors.Is(err, txn.ErrNotAdded) && version < txnCommitAbortable:
		return kerr.InvalidTxnState
	case errors.Is(err, txn.ErrConcurrent) && version < txnCommitAdds:
		return kerr.CoordinatorLoadInProgress // retried where it is
	}
	return txnCode(err)
}
