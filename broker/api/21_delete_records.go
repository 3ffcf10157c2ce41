package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// deleteRecords moves the log start of partitions; it answers when raft has applied the move.
func (a *API) deleteRecords(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.DeleteRecordsRequest)
	resp := req.ResponseKind().(*kmsg.DeleteRecordsResponse)
	ctx, cancel := context.WithTimeout(ctx, timeoutOf(req.TimeoutMillis))
	defer cancel()
	var moves errgroup.Group
	moves.SetLimit(deleteParallel)
	for i := range req.Topics {
		rt := &req.Topics[i]
		out := kmsg.NewDeleteRecordsResponseTopic()
		out.Topic = rt.Topic
		out.Partitions = make([]kmsg.DeleteRecordsResponseTopicPartition, len(rt.Partitions))
		t := a.cfg.Set.ByName(rt.Topic)
		for j, ask := range rt.Partitions {
			answer := &out.Partitions[j]
			*answer = kmsg.NewDeleteRecordsResponseTopicPartition()
			answer.Partition, answer.LowWatermark = ask.Partition, -1
			rep, code := leaderOf(t, ask.Partition, -1)
			if isInternal(rt.Topic) { // it would forget groups and transactions
				code = kerr.InvalidTopicException.Code
			}
			if answer.ErrorCode = code; code != 0 {
				continue
			}
			moves.Go(func() error {
				low, err := rep.DeleteRecords(ctx, ask.Offset)
				if err != nil {
					answer.ErrorCode = errorCode(err).Code
					return nil
				}
				answer.LowWatermark = low
				return nil
			})
		}
		resp.Topics = append(resp.Topics, out)
	}
	_ = moves.Wait() // each partition has its own error
	return resp, nil
}

// deleteParallel partitions of a request move their log start at once, so that raft takes them as a
// few entries and not as one each; more would only be more goroutines.
const deleteParallel = 256
