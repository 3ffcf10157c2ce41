package api

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/meta"
)

// alterPartitionReassignments answers for a cluster in which replicas cannot move yet: where they
// are is right, and everywhere else is refused.
func (a *API) alterPartitionReassignments(_ context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.AlterPartitionAssignmentsRequest)
	resp := req.ResponseKind().(*kmsg.AlterPartitionAssignmentsResponse)
	resp.AllowReplicationFactorChange = req.AllowReplicationFactorChange
	im := a.cfg.Meta.Image()
	sameFactor := req.Version >= 1 && !req.AllowReplicationFactorChange
	for _, rt := range req.Topics {
		out := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		out.Topic = rt.Topic
		t := im.Topic(rt.Topic)
		for _, rp := range rt.Partitions {
			answer := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			answer.Partition = rp.Partition
			err := fmt.Errorf("%w: %.255q", meta.ErrUnknownTopic, rt.Topic)
			if t != nil {
				err = checkReassignment(im, t, rp.Partition, rp.Replicas, sameFactor)
			}
			answer.ErrorCode, answer.ErrorMessage = codeAndMessage(err)
			out.Partitions = append(out.Partitions, answer)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

// checkReassignment tells why a partition cannot have these replicas; nil replicas cancel a move.
func checkReassignment(im *meta.Image, t *meta.Topic, index int32, replicas []int32, sameFactor bool) error {
	p := t.Partitions.At(index)
	if p == nil {
		return fmt.Errorf("%w: topic %s has %d partitions, there is no %d", kerr.UnknownTopicOrPartition, t.Name, t.Partitions.Len(), index)
	}
	if replicas == nil {
		return fmt.Errorf("%w: %s/%d is not being moved", kerr.NoReassignmentInProgress, t.Name, index)
	}
	if len(replicas) == 0 {
		return fmt.Errorf("%w: the list of replicas is empty", kerr.InvalidReplicaAssignment)
	}
	seen := map[int32]bool{}
	for _, id := range replicas {
		switch {
		case id < 0:
			return fmt.Errorf("%w: broker id %d is negative", kerr.InvalidReplicaAssignment, id)
		case seen[id]:
			return fmt.Errorf("%w: broker %d is named twice", kerr.InvalidReplicaAssignment, id)
		case im.Broker(id) == nil:
			return fmt.Errorf("%w: there is no broker %d", kerr.InvalidReplicaAssignment, id)
		}
		seen[id] = true
	}
	if sameFactor && len(replicas) != len(p.Replicas) {
		return fmt.Errorf("%w: %d replicas are asked for, the partition has %d and the request does not allow a change",
			kerr.InvalidReplicationFactor, len(replicas), len(p.Replicas))
	}
	if !slices.Equal(replicas, p.Replicas) {
		return fmt.Errorf("%w: replicas cannot be moved yet, %s/%d stays on %v", kerr.InvalidReplicaAssignment, t.Name, index, p.Replicas)
	}
	return nil
}

// listPartitionReassignments is key 46: nothing is ever being moved.
func (a *API) listPartitionReassignments(_ context.Context, c *call) (kmsg.Response, error) {
	resp := c.msg.ResponseKind().(*kmsg.ListPartitionReassignmentsResponse)
	resp.Topics = []kmsg.ListPartitionReassignmentsResponseTopic{}
	return resp, nil
}
