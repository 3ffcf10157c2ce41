package api

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/meta"
)

// maxDescribedPartitions is Kafka's max.request.partition.size.limit.
const maxDescribedPartitions = 2000

// describeTopicPartitions pages over topics in name order (KIP-966): a cursor says where the next
// request goes on.
func (a *API) describeTopicPartitions(_ context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.DescribeTopicPartitionsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeTopicPartitionsResponse)
	im := a.cfg.Meta.Image()
	var names []string
	for _, t := range req.Topics {
		names = append(names, t.Topic)
	}
	if len(names) == 0 {
		for t := range im.Topics() {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	first := int32(0)
	if req.Cursor != nil {
		from := req.Cursor.Topic
		names = slices.DeleteFunc(names, func(n string) bool { return strings.Compare(n, from) < 0 })
		if len(names) > 0 && names[0] == from {
			first = max(req.Cursor.Partition, 0)
		}
	}
	left := maxDescribedPartitions
	if req.ResponsePartitionLimit > 0 {
		left = min(left, int(req.ResponsePartitionLimit))
	}
	for _, name := range names {
		t := im.Topic(name)
		if left == 0 {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name, Partition: first}
			break
		}
		out := kmsg.NewDescribeTopicPartitionsResponseTopic()
		out.Topic, out.AuthorizedOperations = kmsg.StringPtr(name), noOperations
		out.Partitions = []kmsg.DescribeTopicPartitionsResponseTopicPartition{}
		if t == nil {
			out.ErrorCode = kerr.UnknownTopicOrPartition.Code
			if !validTopicName(name) {
				out.ErrorCode = kerr.InvalidTopicException.Code
			}
			resp.Topics = append(resp.Topics, out)
			first = 0 // the cursor may name a topic that was deleted since
			continue
		}
		out.TopicID, out.IsInternal, out.AuthorizedOperations = t.ID, isInternal(name), allTopicOperations
		end := min(int(first)+left, t.Partitions.Len())
		for i := int(first); i < end; i++ {
			out.Partitions = append(out.Partitions, describedPartition(im, t, int32(i)))
		}
		left -= max(end-int(first), 0)
		resp.Topics = append(resp.Topics, out)
		if end < t.Partitions.Len() {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name, Partition: int32(end)}
			break
		}
		first = 0
	}
	return resp, nil
}

// describedPartition never leaves a list null: the Java Admin iterates them all.
func describedPartition(im *meta.Image, t *meta.Topic, i int32) kmsg.DescribeTopicPartitionsResponseTopicPartition {
	p := t.Partitions.At(i)
	rp := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
	rp.Partition, rp.LeaderID, rp.LeaderEpoch = i, p.Leader, p.LeaderEpoch
	rp.Replicas, rp.ISR = p.Replicas, p.ISR
	rp.EligibleLeaderReplicas, rp.LastKnownELR, rp.OfflineReplicas = []int32{}, []int32{}, []int32{}
	rp.EligibleLeaderReplicas = append(rp.EligibleLeaderReplicas, p.ELR...)
	rp.OfflineReplicas = append(rp.OfflineReplicas, offline(im, p)...)
	if p.Leader == meta.NoNode {
		rp.ErrorCode = kerr.LeaderNotAvailable.Code
	}
	return rp
}
