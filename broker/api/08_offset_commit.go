package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/group"
)

// offsetCommit passes on what names a partition that exists; the rest is refused here. From v10 on
// topics are named by id.
func (a *API) offsetCommit(c *call, reply func(kmsg.Response)) {
	req := c.msg.(*kmsg.OffsetCommitRequest)
	known, refused := a.knownCommits(req)
	answer := func(resp *kmsg.OffsetCommitResponse) {
		resp.Topics = joinTopics(resp.Topics, refused)
		reply(resp)
	}
	if len(known.Topics) == 0 {
		answer(kmsg.NewPtrOffsetCommitResponse())
		return
	}
	a.askGroup(c, req.Group, func(m *group.Machine, now time.Time) coord.Step {
		return m.CommitOffsets(now, known, answer)
	}, func(err error) {
		resp := kmsg.NewPtrOffsetCommitResponse()
		for i := range known.Topics {
			resp.Topics = append(resp.Topics, refusedCommit(&known.Topics[i], errorCode(err).Code))
		}
		answer(resp)
	})
}

// knownCommits splits a commit into what can be done and the answers for what cannot.
func (a *API) knownCommits(req *kmsg.OffsetCommitRequest) (known *kmsg.OffsetCommitRequest, refused []kmsg.OffsetCommitResponseTopic) {
	im := a.cfg.Meta.Image()
	k := *req
	k.Topics = make([]kmsg.OffsetCommitRequestTopic, 0, len(req.Topics))
	for i := range req.Topics {
		t := req.Topics[i]
		found, missing := im.Topic(t.Topic), kerr.UnknownTopicOrPartition
		if req.Version >= 10 {
			found, missing = im.TopicByID(t.TopicID), kerr.UnknownTopicID
		}
		if found == nil {
			refused = append(refused, refusedCommit(&t, missing.Code))
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
			refused = append(refused, refusedCommit(&bad, kerr.UnknownTopicOrPartition.Code))
		}
		if len(good.Partitions) > 0 || len(t.Partitions) == 0 {
			k.Topics = append(k.Topics, good)
		}
	}
	return &k, refused
}

func refusedCommit(t *kmsg.OffsetCommitRequestTopic, code int16) kmsg.OffsetCommitResponseTopic {
	rt := kmsg.NewOffsetCommitResponseTopic()
	rt.Topic, rt.TopicID = t.Topic, t.TopicID
	for _, p := range t.Partitions {
		rp := kmsg.NewOffsetCommitResponseTopicPartition()
		rp.Partition, rp.ErrorCode = p.Partition, code
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt
}

// joinTopics adds the refused partitions to the answered ones, each topic once: clients read the
// answer into a map by topic.
func joinTopics(answered, refused []kmsg.OffsetCommitResponseTopic) []kmsg.OffsetCommitResponseTopic {
	for _, r := range refused {
		merged := false
		for i := range answered {
			if t := &answered[i]; t.Topic == r.Topic && t.TopicID == r.TopicID {
				t.Partitions, merged = append(t.Partitions, r.Partitions...), true
				break
			}
		}
		if !merged {
			answered = append(answered, r)
		}
	}
	return answered
}
