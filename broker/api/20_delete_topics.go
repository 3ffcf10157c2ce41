package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/meta"
)

// deleteTopics takes topics out of the metadata; directories and objects follow in the background.
func (a *API) deleteTopics(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.DeleteTopicsRequest)
	resp := req.ResponseKind().(*kmsg.DeleteTopicsResponse)
	ctx, cancel := context.WithTimeout(ctx, timeoutOf(req.TimeoutMillis))
	defer cancel()
	asked := req.Topics
	for _, name := range req.TopicNames {
		asked = append(asked, kmsg.DeleteTopicsRequestTopic{Topic: kmsg.StringPtr(name)})
	}
	im := a.cfg.Meta.Image()
	var cmds []meta.Command
	var at []int
	for _, rt := range asked {
		out := kmsg.NewDeleteTopicsResponseTopic()
		out.Topic, out.TopicID = rt.Topic, rt.TopicID
		t, missing := im.TopicByID(rt.TopicID), kerr.UnknownTopicID
		if rt.Topic != nil {
			t, missing = im.Topic(*rt.Topic), kerr.UnknownTopicOrPartition
		}
		switch {
		case rt.Topic == nil && rt.TopicID == [16]byte{}:
			out.ErrorCode, out.ErrorMessage = kerr.InvalidRequest.Code, kmsg.StringPtr("a topic is named by name or by id")
		case rt.Topic != nil && rt.TopicID != [16]byte{}:
			out.ErrorCode, out.ErrorMessage = kerr.InvalidRequest.Code, kmsg.StringPtr("a topic is named by name or by id, not by both")
		case t == nil:
			out.ErrorCode, out.ErrorMessage = missing.Code, kmsg.StringPtr(missing.Description)
		case isInternal(t.Name):
			out.ErrorCode, out.ErrorMessage = kerr.InvalidTopicException.Code, kmsg.StringPtr("internal topics are not deleted")
		case c.mutate(a, t.Partitions.Len(), 5) != nil:
			out.ErrorCode, out.ErrorMessage = codeAndMessage(kerr.ThrottlingQuotaExceeded)
		default:
			out.Topic, out.TopicID = kmsg.StringPtr(t.Name), t.ID
			cmds, at = append(cmds, &meta.DeleteTopic{TopicID: t.ID}), append(at, len(resp.Topics))
		}
		resp.Topics = append(resp.Topics, out)
	}
	a.proposeEach(ctx, cmds, func(i int, err error) {
		out := &resp.Topics[at[i]]
		out.ErrorCode, out.ErrorMessage = codeAndMessage(err)
	})
	return resp, nil
}
