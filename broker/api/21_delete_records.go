package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// deleteRecords moves the log start of partitions; it answers when raft has applied the move.
func (a *API) deleteRecords(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.DeleteRecordsRequest)
	resp := req.ResponseKind().(*kmsg.DeleteRecordsResponse)
	ctx, cancel := context.WithTimeout(ctx, timeoutOf(req.TimeoutMillis))
	defer cancel()
	for i := range req.Topics {
		rt := &req.Topics[i]
		out := kmsg.NewDeleteRecordsResponseTopic()
		out.Topic = rt.Topic
		t := a.cfg.Set.ByName(rt.Topic)
		for _, ask := range rt.Partitions {
			answer := kmsg.NewDeleteRecordsResponseTopicPartition()
			answer.Partition, answer.LowWatermark = ask.Partition, -1
			rep, code := leaderOf(t, ask.Partition, -1)
			answer.ErrorCode = code
			if code == 0 {
				low, err := rep.DeleteRecords(ctx, ask.Offset)
				if err != nil {
					answer.ErrorCode = errorCode(err).Code
				} else {
					answer.LowWatermark = low
				}
			}
			out.Partitions = append(out.Partitions, answer)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}
