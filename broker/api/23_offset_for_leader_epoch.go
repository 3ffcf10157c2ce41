package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/partition"
)

// leaderOf finds the replica that leads a partition in the epoch a client knows (-1: any).
func leaderOf(t *partition.Topic, index, epoch int32) (*partition.Replica, int16) {
	if t == nil {
		return nil, kerr.UnknownTopicOrPartition.Code
	}
	rep := t.Partition(index)
	if rep == nil {
		return nil, kerr.UnknownTopicOrPartition.Code
	}
	if err := rep.CheckLeader(epoch); err != nil {
		return nil, errorCode(err).Code
	}
	return rep, 0
}

// offsetForLeaderEpoch lets a consumer find where its log and ours part (KIP-320).
func (a *API) offsetForLeaderEpoch(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.OffsetForLeaderEpochRequest)
	resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
	for i := range req.Topics {
		rt := &req.Topics[i]
		out := kmsg.NewOffsetForLeaderEpochResponseTopic()
		out.Topic = rt.Topic
		t := a.cfg.Set.ByName(rt.Topic)
		for j := range rt.Partitions {
			ask := &rt.Partitions[j]
			answer := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			answer.Partition, answer.LeaderEpoch, answer.EndOffset = ask.Partition, -1, -1
			rep, code := leaderOf(t, ask.Partition, ask.CurrentLeaderEpoch)
			answer.ErrorCode = code
			if code == 0 {
				var err error
				if answer.LeaderEpoch, answer.EndOffset, err = rep.EpochEnd(ctx, ask.LeaderEpoch); err != nil {
					answer.ErrorCode = errorCode(err).Code
					a.readFailed(rep, err)
				}
			}
			out.Partitions = append(out.Partitions, answer)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}
