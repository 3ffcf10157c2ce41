package api

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/meta"
	"varve/broker/txn"
)

// InternalTopic is how a topic of coordinators is made.
type InternalTopic struct {
	Partitions   int32
	Replication  int16 // fewer if there are fewer brokers
	SegmentBytes int64
}

// Kinds of coordinators.
const (
	coordinatorOfGroup = 0
	coordinatorOfTxn   = 1
)

// findCoordinator names the broker that leads the partition of a group or transactional id. The topic
// is made when it is first asked for. Up to v3 one key is asked for, from v4 on several (KIP-699).
func (a *API) findCoordinator(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.FindCoordinatorRequest)
	resp := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
	keys := req.CoordinatorKeys
	if req.Version < 4 {
		keys = []string{req.CoordinatorKey}
	}
	var topic *meta.Topic
	if len(keys) > 0 {
		var err error
		if topic, err = a.coordinatorTopic(ctx, req.CoordinatorType); err != nil {
			for _, key := range keys {
				resp.Coordinators = append(resp.Coordinators, noCoordinator(key, err))
			}
			keys = nil
		}
	}
	for _, key := range keys {
		resp.Coordinators = append(resp.Coordinators, a.coordinatorOf(topic, key))
	}
	if req.Version < 4 {
		one := resp.Coordinators[0]
		resp.ErrorCode, resp.ErrorMessage = one.ErrorCode, one.ErrorMessage
		resp.NodeID, resp.Host, resp.Port = one.NodeID, one.Host, one.Port
		resp.Coordinators = nil
	}
	return resp, nil
}

func (a *API) coordinatorOf(t *meta.Topic, key string) kmsg.FindCoordinatorResponseCoordinator {
	p := t.Partitions.At(coord.PartitionOf(key, int32(t.Partitions.Len())))
	b := a.cfg.Meta.Image().Broker(p.Leader)
	if p.Leader == meta.NoNode || b == nil || b.Fenced {
		return noCoordinator(key, fmt.Errorf("%w: its partition has no leader now", kerr.CoordinatorNotAvailable))
	}
	out := kmsg.NewFindCoordinatorResponseCoordinator()
	out.Key, out.NodeID, out.Host, out.Port = key, b.ID, b.Host, b.Port
	return out
}

func noCoordinator(key string, err error) kmsg.FindCoordinatorResponseCoordinator {
	out := kmsg.NewFindCoordinatorResponseCoordinator()
	out.Key, out.NodeID, out.Port = key, -1, -1
	out.ErrorCode, out.ErrorMessage = codeAndMessage(err)
	return out
}

// coordinatorTopic finds the internal topic of a kind of coordinator, or makes it.
func (a *API) coordinatorTopic(ctx context.Context, kind int8) (*meta.Topic, error) {
	name, conf := offsetsTopic, a.cfg.OffsetsTopic
	switch kind {
	case coordinatorOfGroup:
	case coordinatorOfTxn:
		name, conf = txn.Topic, a.cfg.TxnTopic
	default:
		return nil, fmt.Errorf("%w: there is no coordinator of kind %d", kerr.InvalidRequest, kind)
	}
	if t := a.cfg.Meta.Image().Topic(name); t != nil {
		return t, nil
	}
	live := int16(0)
	for _, b := range a.cfg.Meta.Image().Brokers() {
		if !b.Fenced {
			live++
		}
	}
	cmd, err := a.newTopic(name, conf.Partitions, max(min(conf.Replication, live), 1), map[string]string{
		"cleanup.policy": "compact", "compression.type": "producer",
		"segment.bytes": strconv.FormatInt(conf.SegmentBytes, 10),
	}, nil)
	if err == nil {
		_, err = a.cfg.Meta.ProposeOne(ctx, cmd)
	}
	if t := a.cfg.Meta.Image().Topic(name); t != nil { // made here, or by somebody else meanwhile
		return t, nil
	}
	if err == nil || errors.Is(err, meta.ErrTopicExists) {
		err = errors.New("the topic is not there yet")
	}
	return nil, fmt.Errorf("%w: make topic %s: %w", kerr.CoordinatorNotAvailable, name, err)
}
