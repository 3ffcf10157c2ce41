package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/group"
)

// offsetDelete refuses partitions that do not exist, as Kafka does.
func (a *API) offsetDelete(c *call, reply func(kmsg.Response)) {
	req := c.msg.(*kmsg.OffsetDeleteRequest)
	known, refused := a.knownDeletes(req)
	a.askGroup(c, req.Group, func(m *group.Machine, now time.Time) coord.Step {
		return m.DeleteOffsets(now, known, func(r *kmsg.OffsetDeleteResponse) {
			if r.ErrorCode == 0 {
				r.Topics = append(r.Topics, refused...)
			}
			reply(r)
		})
	}, func(err error) {
		resp := kmsg.NewPtrOffsetDeleteResponse()
		resp.ErrorCode = errorCode(err).Code
		reply(resp)
	})
}

func (a *API) knownDeletes(req *kmsg.OffsetDeleteRequest) (*kmsg.OffsetDeleteRequest, []kmsg.OffsetDeleteResponseTopic) {
	im := a.cfg.Meta.Image()
	known := *req
	known.Topics = nil
	var refused []kmsg.OffsetDeleteResponseTopic
	for _, t := range req.Topics {
		n := 0
		if found := im.Topic(t.Topic); found != nil {
			n = found.Partitions.Len()
		}
		good := t
		good.Partitions = nil
		bad := kmsg.NewOffsetDeleteResponseTopic()
		bad.Topic = t.Topic
		for _, p := range t.Partitions {
			if p.Partition >= 0 && int(p.Partition) < n {
				good.Partitions = append(good.Partitions, p)
				continue
			}
			rp := kmsg.NewOffsetDeleteResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, kerr.UnknownTopicOrPartition.Code
			bad.Partitions = append(bad.Partitions, rp)
		}
		if len(good.Partitions) > 0 {
			known.Topics = append(known.Topics, good)
		}
		if len(bad.Partitions) > 0 {
			refused = append(refused, bad)
		}
	}
	return &known, refused
}
