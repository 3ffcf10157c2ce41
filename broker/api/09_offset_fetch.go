package api

import (
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/group"
	"varve/broker/meta"
)

// offsetFetch asks the shard of every named group: one up to v7, any number from v8 on (KIP-709). From
// v10 on topics are named by id.
func (a *API) offsetFetch(c *call, reply func(kmsg.Response)) {
	req := c.msg.(*kmsg.OffsetFetchRequest)
	groups := req.Groups
	if req.Version < 8 {
		groups = []kmsg.OffsetFetchRequestGroup{oldFetch(req)}
	}
	resp := kmsg.NewPtrOffsetFetchResponse()
	resp.Groups = make([]kmsg.OffsetFetchResponseGroup, len(groups))
	im := a.cfg.Meta.Image()
	answers := gather(c, len(groups), func() {
		if req.Version < 8 {
			oldFetchAnswer(resp, req)
		}
		reply(resp)
	})
	for i := range groups {
		g, unknown := groups[i], []kmsg.OffsetFetchResponseGroupTopic(nil)
		if req.Version >= 10 {
			g, unknown = namesOf(im, g)
		}
		answer := func(r kmsg.OffsetFetchResponseGroup) {
			if req.Version >= 10 {
				r.Topics = withIDs(im, r.Topics)
			}
			if r.ErrorCode == 0 {
				r.Topics = append(r.Topics, unknown...)
			}
			resp.Groups[i] = r
			answers.done()
		}
		a.askGroup(c, g.Group, func(m *group.Machine, now time.Time) coord.Step {
			return m.FetchOffsets(now, g, req.RequireStable, answer)
		}, func(err error) {
			r := kmsg.NewOffsetFetchResponseGroup()
			r.Group, r.ErrorCode = g.Group, errorCode(err).Code
			answer(r)
		})
	}
	answers.done()
}

// gathering calls then when a number of answers, and the asker itself, are done. Answers come from
// the goroutines of several shards, each into its own place.
type gathering struct {
	mu   sync.Mutex
	left int
	then func()
}

func gather(c *call, n int, then func()) *gathering {
	c.events.Store(int32(n - 1))
	return &gathering{left: n + 1, then: then}
}

func (g *gathering) done() {
	g.mu.Lock()
	g.left--
	last := g.left == 0
	g.mu.Unlock()
	if last {
		g.then()
	}
}

// oldFetch is the one group of a request up to v7. From v2 on null topics mean all.
func oldFetch(req *kmsg.OffsetFetchRequest) kmsg.OffsetFetchRequestGroup {
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = req.Group
	if req.Topics != nil {
		g.Topics = make([]kmsg.OffsetFetchRequestGroupTopic, 0, len(req.Topics))
	}
	for _, t := range req.Topics {
		gt := kmsg.NewOffsetFetchRequestGroupTopic()
		gt.Topic, gt.Partitions = t.Topic, t.Partitions
		g.Topics = append(g.Topics, gt)
	}
	return g
}

// oldFetchAnswer turns the one group's answer into the form up to v7. v1 has no error of its own: the
// partitions that were asked for carry it.
func oldFetchAnswer(resp *kmsg.OffsetFetchResponse, req *kmsg.OffsetFetchRequest) {
	g := resp.Groups[0]
	resp.Groups, resp.ErrorCode = nil, g.ErrorCode
	if g.ErrorCode != 0 {
		for _, t := range req.Topics {
			rt := kmsg.NewOffsetFetchResponseGroupTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
				rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata, rp.ErrorCode = p, -1, -1, kmsg.StringPtr(""), g.ErrorCode
				rt.Partitions = append(rt.Partitions, rp)
			}
			g.Topics = append(g.Topics, rt)
		}
	}
	for _, t := range g.Topics {
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetFetchResponseTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata, rp.ErrorCode = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
}

// namesOf gives the topics of a group their names, and the answers for ids that nobody knows.
func namesOf(im *meta.Image, g kmsg.OffsetFetchRequestGroup) (kmsg.OffsetFetchRequestGroup, []kmsg.OffsetFetchResponseGroupTopic) {
	if g.Topics == nil {
		return g, nil
	}
	var unknown []kmsg.OffsetFetchResponseGroupTopic
	named := make([]kmsg.OffsetFetchRequestGroupTopic, 0, len(g.Topics))
	for _, t := range g.Topics {
		if found := im.TopicByID(t.TopicID); found != nil {
			t.Topic = found.Name
			named = append(named, t)
			continue
		}
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.TopicID = t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata = p, -1, -1, kmsg.StringPtr("")
			rp.ErrorCode = kerr.UnknownTopicID.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		unknown = append(unknown, rt)
	}
	g.Topics = named
	return g, unknown
}

// withIDs gives the answered topics their ids; one that is gone meanwhile has none and is left out.
func withIDs(im *meta.Image, topics []kmsg.OffsetFetchResponseGroupTopic) []kmsg.OffsetFetchResponseGroupTopic {
	out := topics[:0]
	for _, t := range topics {
		if t.TopicID == [16]byte{} {
			found := im.Topic(t.Topic)
			if found == nil {
				continue
			}
			t.TopicID = found.ID
		}
		out = append(out, t)
	}
	return out
}
