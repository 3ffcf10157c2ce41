package api

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/meta"
)

const (
	electPreferred = 0
	electUnclean   = 1
)

// electLeaders is asked to give partitions back to their preferred leader, or a leader to those
// that have none. While each partition has one replica, that one leads or nobody can.
func (a *API) electLeaders(_ context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.ElectLeadersRequest)
	resp := req.ResponseKind().(*kmsg.ElectLeadersResponse)
	if req.ElectionType != electPreferred && req.ElectionType != electUnclean {
		resp.ErrorCode = kerr.InvalidRequest.Code
		return resp, nil
	}
	im := a.cfg.Meta.Image()
	if req.Topics == nil { // all, and of those only the ones that had something to elect
		for t := range im.Topics() {
			out := kmsg.NewElectLeadersResponseTopic()
			out.Topic = t.Name
			for i, p := range t.Partitions.All() {
				if code := electionCode(p, req.ElectionType); code != kerr.ElectionNotNeeded {
					out.Partitions = append(out.Partitions, electionAnswer(i, code, ""))
				}
			}
			if len(out.Partitions) > 0 {
				resp.Topics = append(resp.Topics, out)
			}
		}
		return resp, nil
	}
	for _, rt := range req.Topics {
		out := kmsg.NewElectLeadersResponseTopic()
		out.Topic = rt.Topic
		t := im.Topic(rt.Topic)
		for _, i := range rt.Partitions {
			switch {
			case t == nil:
				out.Partitions = append(out.Partitions, electionAnswer(i, kerr.UnknownTopicOrPartition, fmt.Sprintf("there is no topic %.255q", rt.Topic)))
			case t.Partitions.At(i) == nil:
				out.Partitions = append(out.Partitions, electionAnswer(i, kerr.UnknownTopicOrPartition,
					fmt.Sprintf("topic %s has %d partitions, there is no %d", t.Name, t.Partitions.Len(), i)))
			default:
				out.Partitions = append(out.Partitions, electionAnswer(i, electionCode(t.Partitions.At(i), req.ElectionType), ""))
			}
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

func electionAnswer(index int32, code *kerr.Error, message string) kmsg.ElectLeadersResponseTopicPartition {
	out := kmsg.NewElectLeadersResponseTopicPartition()
	if message == "" {
		message = code.Description
	}
	out.Partition, out.ErrorCode, out.ErrorMessage = index, code.Code, &message
	return out
}

func electionCode(p *meta.Partition, kind int8) *kerr.Error {
	switch {
	case p.Leader != meta.NoNode && (kind == electUnclean || p.Leader == p.Replicas[0]):
		return kerr.ElectionNotNeeded
	case kind == electUnclean:
		return kerr.EligibleLeadersNotAvailable
	default:
		return kerr.PreferredLeaderNotAvailable
	}
}
