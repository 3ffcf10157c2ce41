package api

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/partition"
)

// coldLookups bounds how many partitions of one ListOffsets are looked up in the tier at a time.
const coldLookups = 16

// listOffsets answers each partition alone. Lookups by time may read the bucket, so they run side
// by side.
func (a *API) listOffsets(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.ListOffsetsRequest)
	resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	resp.Topics = make([]kmsg.ListOffsetsResponseTopic, len(req.Topics))
	var wg sync.WaitGroup
	slots := make(chan struct{}, coldLookups)
	for i := range req.Topics {
		rt, out := &req.Topics[i], &resp.Topics[i]
		out.Topic = rt.Topic
		out.Partitions = make([]kmsg.ListOffsetsResponseTopicPartition, len(rt.Partitions))
		t := a.cfg.Set.ByName(rt.Topic)
		for j := range rt.Partitions {
			ask, answer := &rt.Partitions[j], &out.Partitions[j]
			*answer = kmsg.NewListOffsetsResponseTopicPartition()
			answer.Partition = ask.Partition
			if ask.Timestamp == partition.Latest || ask.Timestamp == partition.Earliest {
				a.listOffset(ctx, t, ask, answer, req.IsolationLevel == 1, req.Version)
				continue
			}
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				a.listOffset(ctx, t, ask, answer, req.IsolationLevel == 1, req.Version)
			})
		}
	}
	wg.Wait()
	return resp, nil
}

// specialTimestamp tells whether a negative timestamp means something in a version, as in Kafka.
func specialTimestamp(ts int64, version int16) bool {
	switch ts {
	case partition.Latest, partition.Earliest:
		return true
	case partition.MaxTimestamp:
		return version >= 7
	case partition.EarliestLocal:
		return version >= 8
	case partition.LatestTiered:
		return version >= 9
	case partition.EarliestPendingUpload:
		return version >= 11
	}
	return false
}

func (a *API) listOffset(ctx context.Context, t *partition.Topic, ask *kmsg.ListOffsetsRequestTopicPartition,
	out *kmsg.ListOffsetsResponseTopicPartition, committed bool, version int16,
) {
	out.Offset, out.Timestamp, out.LeaderEpoch = -1, -1, -1
	if ask.Timestamp < 0 && !specialTimestamp(ask.Timestamp, version) {
		out.ErrorCode = kerr.UnsupportedVersion.Code
		return
	}
	rep, code := leaderOf(t, ask.Partition, ask.CurrentLeaderEpoch)
	if code != 0 {
		out.ErrorCode = code
		return
	}
	found, err := rep.ListOffset(ctx, ask.Timestamp, committed)
	if err != nil {
		out.ErrorCode = errorCode(err).Code
		a.readFailed(rep, err)
		return
	}
	out.Offset, out.Timestamp, out.LeaderEpoch = found.Offset, found.Timestamp, found.Epoch
}
