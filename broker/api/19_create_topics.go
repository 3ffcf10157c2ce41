package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/meta"
)

// maxPartitionsPerRequest bounds one CreateTopics or CreatePartitions: a request of a few bytes
// must not make millions of partitions.
const maxPartitionsPerRequest = 100_000

func (a *API) createTopics(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.CreateTopicsRequest)
	resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
	ctx, cancel := context.WithTimeout(ctx, timeoutOf(req.TimeoutMillis))
	defer cancel()
	var cmds []meta.Command
	var at []int // the response topic of each command
	seen := map[string]int{}
	for i := range req.Topics {
		seen[req.Topics[i].Topic]++
	}
	left := maxPartitionsPerRequest
	for i := range req.Topics {
		rt := &req.Topics[i]
		out := kmsg.NewCreateTopicsResponseTopic()
		out.Topic, out.NumPartitions, out.ReplicationFactor = rt.Topic, -1, -1
		out.Configs = []kmsg.CreateTopicsResponseTopicConfig{} // never null: clients iterate it
		cmd, err := a.topicCommand(rt, left)
		if seen[rt.Topic] > 1 {
			err = fmt.Errorf("%w: the request names topic %q more than once", kerr.InvalidRequest, rt.Topic)
		}
		if err == nil && a.cfg.Meta.Image().Topic(rt.Topic) != nil {
			err = fmt.Errorf("%w: %q", meta.ErrTopicExists, rt.Topic)
		}
		if err == nil && !req.ValidateOnly {
			err = c.mutate(a, len(cmd.Partitions), 6)
		}
		if err != nil {
			out.ErrorCode, out.ErrorMessage = codeAndMessage(err)
		} else {
			out.TopicID, out.NumPartitions = cmd.TopicID, int32(len(cmd.Partitions))
			out.ReplicationFactor = int16(len(cmd.Partitions[0]))
			out.Configs = a.createdConfigs(cmd.Configs)
			left -= len(cmd.Partitions)
			if !req.ValidateOnly {
				cmds, at = append(cmds, cmd), append(at, len(resp.Topics))
			}
		}
		resp.Topics = append(resp.Topics, out)
	}
	a.proposeEach(ctx, cmds, func(i int, err error) {
		out := &resp.Topics[at[i]]
		out.ErrorCode, out.ErrorMessage = codeAndMessage(err)
	})
	return resp, nil
}

// proposeEach proposes a batch of which each succeeds or fails alone, and reports the failures.
func (a *API) proposeEach(ctx context.Context, cmds []meta.Command, failed func(i int, err error)) {
	if len(cmds) == 0 {
		return
	}
	results, err := a.cfg.Meta.Propose(ctx, cmds...)
	for i := range cmds {
		switch {
		case err != nil:
			failed(i, err)
		case results[i].Err != nil:
			failed(i, results[i].Err)
		}
	}
}

// topicCommand checks one topic of a CreateTopics and makes its command.
func (a *API) topicCommand(rt *kmsg.CreateTopicsRequestTopic, left int) (*meta.CreateTopic, error) {
	if err := meta.ValidateTopicName(rt.Topic); err != nil {
		return nil, fmt.Errorf("%w: %w", meta.ErrInvalidTopicName, err)
	}
	configs := map[string]string{}
	for _, c := range rt.Configs {
		if c.Value == nil {
			return nil, fmt.Errorf("%w: %s has a null value", kerr.InvalidConfig, c.Name)
		}
		configs[c.Name] = *c.Value
	}
	if len(rt.ReplicaAssignment) > 0 {
		if rt.NumPartitions != -1 || rt.ReplicationFactor != -1 {
			return nil, fmt.Errorf("%w: partitions or replication factor and a replica assignment were both given", kerr.InvalidRequest)
		}
		assignment, err := explicitAssignment(rt)
		if err != nil {
			return nil, err
		}
		return a.newTopic(rt.Topic, int32(len(assignment)), int16(len(assignment[0])), configs, assignment)
	}
	partitions, replication := rt.NumPartitions, rt.ReplicationFactor
	if partitions == -1 { // KIP-464: the broker's default
		partitions = a.cfg.NumPartitions
	}
	if replication == -1 {
		replication = a.cfg.ReplicationFactor
	}
	if partitions <= maxPartitionsPerRequest && int(partitions) > left {
		return nil, fmt.Errorf("%w: one request makes at most %d partitions", kerr.PolicyViolation, maxPartitionsPerRequest)
	}
	return a.newTopic(rt.Topic, partitions, replication, configs, nil)
}

func explicitAssignment(rt *kmsg.CreateTopicsRequestTopic) ([][]meta.NodeID, error) {
	out := make([][]meta.NodeID, len(rt.ReplicaAssignment))
	for _, r := range rt.ReplicaAssignment {
		if r.Partition < 0 || int(r.Partition) >= len(out) || out[r.Partition] != nil || len(r.Replicas) == 0 {
			return nil, fmt.Errorf("%w: partitions must be 0 to %d, each once and with replicas", kerr.InvalidReplicaAssignment, len(out)-1)
		}
		out[r.Partition] = r.Replicas
	}
	return out, nil
}

// checkAssignment refuses what the metadata log would refuse, so that validate_only tells it too.
func (a *API) checkAssignment(assignment [][]meta.NodeID) error {
	im := a.cfg.Meta.Image()
	for i, replicas := range assignment {
		seen := map[meta.NodeID]bool{}
		for _, id := range replicas {
			if im.Broker(id) == nil || seen[id] {
				return fmt.Errorf("%w: replicas %v of partition %d must be known brokers, each once", kerr.InvalidReplicaAssignment, replicas, i)
			}
			seen[id] = true
		}
		if len(replicas) == 0 || len(replicas) != len(assignment[0]) {
			return fmt.Errorf("%w: every partition must have the same number of replicas, at least one", kerr.InvalidReplicaAssignment)
		}
	}
	return nil
}

// newTopic makes the command for a topic. Placement is over the brokers that are not fenced, in
// turn from a different start for each topic.
func (a *API) newTopic(name string, partitions int32, replication int16, configs map[string]string, assignment [][]meta.NodeID) (*meta.CreateTopic, error) {
	if partitions < 1 || partitions > maxPartitionsPerRequest {
		return nil, fmt.Errorf("%w: %d partitions, must be 1 to %d", kerr.InvalidPartitions, partitions, maxPartitionsPerRequest)
	}
	if configs == nil {
		configs = map[string]string{}
	}
	if _, set := configs["remote.storage.enable"]; !set && !isInternal(name) && a.tieredByDefault(configs) {
		configs["remote.storage.enable"] = "true"
	}
	if err := a.checkTopicConfigs(configs); err != nil {
		return nil, err
	}
	id, err := meta.NewTopicID()
	if err != nil {
		return nil, err
	}
	if assignment == nil {
		assignment, err = a.place(partitions, replication, 0)
	} else {
		err = a.checkAssignment(assignment)
	}
	if err != nil {
		return nil, err
	}
	return &meta.CreateTopic{Name: name, TopicID: id, Partitions: assignment, Configs: configs}, nil
}

// tieredByDefault: a compacted topic cannot be tiered yet, and nobody asked for it.
func (a *API) tieredByDefault(configs map[string]string) bool {
	if !a.cfg.TierConfigured || !a.cfg.Broker.TierDefault() {
		return false
	}
	policy, ok := configs["cleanup.policy"]
	if !ok {
		policy, _ = a.cfg.Broker.TopicDefault("cleanup.policy")
	}
	return !strings.Contains(strings.ToLower(policy), "compact")
}

func (a *API) place(partitions int32, replication int16, first int) ([][]meta.NodeID, error) {
	var ids []meta.NodeID
	im := a.cfg.Meta.Image()
	for _, b := range im.Brokers() {
		if !b.Fenced {
			ids = append(ids, b.ID)
		}
	}
	if replication < 1 || int(replication) > len(ids) {
		return nil, fmt.Errorf("%w: replication factor %d, there are %d live brokers", kerr.InvalidReplicationFactor, replication, len(ids))
	}
	out := make([][]meta.NodeID, partitions)
	for i := range out {
		for j := range int(replication) {
			out[i] = append(out[i], ids[(first+im.TopicCount()+i+j)%len(ids)])
		}
	}
	return out, nil
}

// checkTopicConfigs refuses what the table refuses, and tiering where no store is configured.
func (a *API) checkTopicConfigs(configs map[string]string) error {
	return meta.ConfigCheck{New: configs, Defaults: a.cfg.Broker.TopicDefaults(), NoStore: !a.cfg.TierConfigured}.Validate()
}

// timeoutOf is how long an admin request may take. A second at least: clients that leave the field
// at zero mean no limit, and get an answer instead of an unknown outcome.
func timeoutOf(ms int32) time.Duration {
	return min(max(time.Duration(ms)*time.Millisecond, time.Second), requestTimeout)
}

// codeAndMessage is an error as admin answers carry it.
func codeAndMessage(err error) (int16, *string) {
	if err == nil {
		return 0, nil
	}
	message := err.Error()
	var k *kerr.Error
	if errors.As(err, &k) {
		if message == k.Error() {
			message = k.Description
		}
		// The code goes beside the message; what remains of the text is what names the fault.
		message = strings.TrimPrefix(message, k.Error()+": ")
	}
	return errorCode(err).Code, &message
}
