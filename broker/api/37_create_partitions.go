package api

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/meta"
)

func (a *API) createPartitions(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.CreatePartitionsRequest)
	resp := req.ResponseKind().(*kmsg.CreatePartitionsResponse)
	ctx, cancel := context.WithTimeout(ctx, timeoutOf(req.TimeoutMillis))
	defer cancel()
	var cmds []meta.Command
	var at []int
	left := int32(maxPartitionsPerRequest)
	seen := map[string]bool{}
	for i := range req.Topics {
		out := kmsg.NewCreatePartitionsResponseTopic()
		out.Topic = req.Topics[i].Topic
		cmd, err := a.partitionsCommand(&req.Topics[i], left)
		if seen[out.Topic] {
			err = fmt.Errorf("%w: the request names topic %q more than once", kerr.InvalidRequest, out.Topic)
		}
		seen[out.Topic] = true
		if isInternal(out.Topic) { // keys would be looked for in other partitions than they are in
			err = fmt.Errorf("%w: the number of partitions of %s must not change", kerr.InvalidPartitions, out.Topic)
		}
		if err == nil && !req.ValidateOnly {
			err = c.mutate(a, len(cmd.Partitions), 3)
		}
		if err == nil {
			left -= int32(len(cmd.Partitions))
		}
		switch {
		case err != nil:
			out.ErrorCode, out.ErrorMessage = codeAndMessage(err)
		case !req.ValidateOnly:
			cmds, at = append(cmds, cmd), append(at, len(resp.Topics))
		}
		resp.Topics = append(resp.Topics, out)
	}
	a.proposeEach(ctx, cmds, func(i int, err error) {
		out := &resp.Topics[at[i]]
		out.ErrorCode, out.ErrorMessage = codeAndMessage(err)
	})
	return resp, nil
}

func (a *API) partitionsCommand(rt *kmsg.CreatePartitionsRequestTopic, left int32) (*meta.CreatePartitions, error) {
	t := a.cfg.Meta.Image().Topic(rt.Topic)
	if t == nil {
		return nil, fmt.Errorf("%w: %q", meta.ErrUnknownTopic, rt.Topic)
	}
	have := int32(t.Partitions.Len())
	more := rt.Count - have
	if more <= 0 || more > left {
		return nil, fmt.Errorf("%w: topic %q has %d partitions, asked for %d", kerr.InvalidPartitions, rt.Topic, have, rt.Count)
	}
	cmd := &meta.CreatePartitions{TopicID: t.ID, From: have}
	if len(rt.Assignment) == 0 {
		var err error
		cmd.Partitions, err = a.place(more, int16(len(t.Partitions.At(0).Replicas)), int(have))
		return cmd, err
	}
	if len(rt.Assignment) != int(more) {
		return nil, fmt.Errorf("%w: %d partitions are added, %d assigned", kerr.InvalidReplicaAssignment, more, len(rt.Assignment))
	}
	for _, r := range rt.Assignment {
		cmd.Partitions = append(cmd.Partitions, r.Replicas)
	}
	if err := a.checkAssignment(cmd.Partitions); err != nil {
		return nil, err
	}
	return cmd, nil
}
