package group

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
)

// FetchOffsets answers for one group; topics are named by name, nil means all. An offset that is not
// there is -1. With stable, one that an open transaction is about to replace is refused (KIP-447).
func (m *Machine) FetchOffsets(now time.Time, req kmsg.OffsetFetchRequestGroup, stable bool, reply func(kmsg.OffsetFetchResponseGroup)) coord.Step {
	m.begin(now)
	resp := kmsg.NewOffsetFetchResponseGroup()
	resp.Group = req.Group
	g := m.groups[req.Group]
	topics := req.Topics
	if topics == nil && g != nil {
		topics = g.allOffsets()
	}
	for _, t := range topics {
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rt.Partitions = append(rt.Partitions, m.fetchOne(g, t.Topic, p, stable))
		}
		resp.Topics = append(resp.Topics, rt)
	}
	m.answer(func(err error) {
		if err != nil {
			resp.ErrorCode, resp.Topics = codeOf(err), nil
		}
		reply(resp)
	})
	return m.end()
}

func (m *Machine) fetchOne(g *group, topic string, p int32, stable bool) kmsg.OffsetFetchResponseGroupTopicPartition {
	rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata = p, -1, -1, kmsg.StringPtr("")
	if g == nil {
		return rp
	}
	if stable && m.unstable(g, topic, p) {
		rp.ErrorCode = kerr.UnstableOffsetCommit.Code
		return rp
	}
	if o, ok := g.offsets[topic][p]; ok {
		rp.Offset, rp.LeaderEpoch, rp.Metadata = o.at, o.epoch, kmsg.StringPtr(o.metadata)
	}
	return rp
}

// allOffsets names every partition with an offset, in order.
func (g *group) allOffsets() []kmsg.OffsetFetchRequestGroupTopic {
	out := make([]kmsg.OffsetFetchRequestGroupTopic, 0, len(g.offsets))
	for topic, parts := range g.offsets {
		t := kmsg.NewOffsetFetchRequestGroupTopic()
		t.Topic = topic
		for p := range parts {
			t.Partitions = append(t.Partitions, p)
		}
		slices.Sort(t.Partitions)
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b kmsg.OffsetFetchRequestGroupTopic) int {
		if a.Topic < b.Topic {
			return -1
		}
		return 1
	})
	return out
}

// DeleteOffsets removes offsets of topics that nobody in the group reads.
func (m *Machine) DeleteOffsets(now time.Time, req *kmsg.OffsetDeleteRequest, reply func(*kmsg.OffsetDeleteResponse)) coord.Step {
	m.begin(now)
	resp := kmsg.NewPtrOffsetDeleteResponse()
	g := m.groups[req.Group]
	switch {
	case req.Group == "":
		resp.ErrorCode = kerr.InvalidGroupID.Code
	case g == nil:
		resp.ErrorCode = kerr.GroupIDNotFound.Code
	case g.state != Empty && g.protoType != consumerProtocol: // what its members read cannot be told
		resp.ErrorCode = kerr.NonEmptyGroup.Code
	default:
		for _, t := range req.Topics {
			resp.Topics = append(resp.Topics, m.deleteTopicOffsets(g, t))
		}
	}
	m.answer(func(err error) {
		if err != nil {
			resp.ErrorCode, resp.Topics = codeOf(err), nil
		}
		reply(resp)
	})
	return m.end()
}

func (m *Machine) deleteTopicOffsets(g *group, t kmsg.OffsetDeleteRequestTopic) kmsg.OffsetDeleteResponseTopic {
	rt := kmsg.NewOffsetDeleteResponseTopic()
	rt.Topic = t.Topic
	subscribed := g.state != Empty && g.subscribedTo(t.Topic)
	for _, p := range t.Partitions {
		rp := kmsg.NewOffsetDeleteResponseTopicPartition()
		rp.Partition = p.Partition
		_, committed := g.offsets[t.Topic][p.Partition]
		switch {
		case subscribed:
			rp.ErrorCode = kerr.GroupSubscribedToTopic.Code
		case committed || m.unstable(g, t.Topic, p.Partition):
			m.records = append(m.records, offsetTombstone(offsetKey{g.id, t.Topic, p.Partition}))
		}
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt
}
