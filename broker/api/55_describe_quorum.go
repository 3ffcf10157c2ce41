package api

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/meta"
)

// metadataTopic is Kafka's name of the metadata log, which is no topic here.
const metadataTopic = "__cluster_metadata"

// describeQuorum shows the raft group as Kafka shows its own: terms are leader epochs, indexes are
// offsets.
func (a *API) describeQuorum(_ context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.DescribeQuorumRequest)
	resp := req.ResponseKind().(*kmsg.DescribeQuorumResponse)
	resp.Topics, resp.Nodes = []kmsg.DescribeQuorumResponseTopic{}, []kmsg.DescribeQuorumResponseNode{}
	q, err := a.cfg.Meta.Quorum()
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = kerr.RequestTimedOut.Code, kmsg.StringPtr("the metadata quorum is not known: "+err.Error())
		return resp, nil
	}
	for _, rt := range req.Topics {
		out := kmsg.NewDescribeQuorumResponseTopic()
		out.Topic = rt.Topic
		for _, rp := range rt.Partitions {
			if rt.Topic != metadataTopic || rp.Partition != 0 {
				p := kmsg.NewDescribeQuorumResponseTopicPartition()
				p.Partition, p.ErrorCode = rp.Partition, kerr.UnknownTopicOrPartition.Code
				p.ErrorMessage = kmsg.StringPtr(fmt.Sprintf("%s-0 is the only log with a quorum", metadataTopic))
				out.Partitions = append(out.Partitions, p)
				continue
			}
			out.Partitions = append(out.Partitions, a.quorumPartition(q))
		}
		resp.Topics = append(resp.Topics, out)
	}
	im := a.cfg.Meta.Image()
	for _, id := range q.Voters {
		b := im.Broker(id)
		if b == nil {
			continue
		}
		node, at := kmsg.NewDescribeQuorumResponseNode(), kmsg.NewDescribeQuorumResponseNodeListener()
		at.Name, at.Host, at.Port = "PLAINTEXT", b.Host, uint16(b.Port)
		node.NodeID, node.Listeners = id, append(node.Listeners, at)
		resp.Nodes = append(resp.Nodes, node)
	}
	return resp, nil
}

func (a *API) quorumPartition(q meta.Quorum) kmsg.DescribeQuorumResponseTopicPartition {
	p := kmsg.NewDescribeQuorumResponseTopicPartition()
	p.LeaderID, p.LeaderEpoch, p.HighWatermark = q.Leader, int32(q.Term), int64(q.Committed)
	p.Observers = []kmsg.DescribeQuorumResponseTopicPartitionReplicaState{}
	now := a.cfg.Now().UnixMilli()
	state := func(id int32) kmsg.DescribeQuorumResponseTopicPartitionReplicaState {
		s := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
		s.ReplicaID, s.LogEndOffset, s.LastFetchTimestamp, s.LastCaughtUpTimestamp = id, -1, -1, -1
		if id == a.cfg.NodeID { // what other nodes have is known to the leader's raft alone
			s.LogEndOffset, s.LastFetchTimestamp, s.LastCaughtUpTimestamp = int64(q.Last), now, now
		}
		return s
	}
	for _, id := range q.Voters {
		p.CurrentVoters = append(p.CurrentVoters, state(id))
	}
	for _, id := range q.Observers {
		p.Observers = append(p.Observers, state(id))
	}
	return p
}
