package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/meta"
)

// noOperations says that authorized operations were not asked for (KIP-430).
const noOperations = -2147483648

// allTopicOperations and allClusterOperations are the bits of every operation that applies, which
// is what everybody may do while there is no authorizer.
const (
	allTopicOperations   = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	allClusterOperations = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
)

func (a *API) metadata(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.MetadataRequest)
	resp := req.ResponseKind().(*kmsg.MetadataResponse)
	if a.cfg.AutoCreateTopics && (req.Version < 4 || req.AllowAutoTopicCreation) {
		a.autoCreate(ctx, req)
	}
	im := a.cfg.Meta.Image()
	resp.ClusterID = kmsg.StringPtr(im.ClusterID)
	resp.ControllerID = a.cfg.Meta.ControllerID()
	resp.AuthorizedOperations = noOperations
	if req.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = allClusterOperations
	}
	for _, b := range im.Brokers() {
		if b.Fenced {
			continue
		}
		rb := kmsg.NewMetadataResponseBroker()
		rb.NodeID, rb.Host, rb.Port = b.ID, b.Host, b.Port
		if b.Rack != "" {
			rb.Rack = kmsg.StringPtr(b.Rack)
		}
		resp.Brokers = append(resp.Brokers, rb)
	}
	// All topics: null from v1, and in v0 the empty list (there null is not allowed).
	if req.Topics == nil || req.Version == 0 && len(req.Topics) == 0 {
		for t := range im.Topics() {
			resp.Topics = append(resp.Topics, a.metadataTopic(im, t, req.IncludeTopicAuthorizedOperations))
		}
		return resp, nil
	}
	for i := range req.Topics {
		resp.Topics = append(resp.Topics, a.askedTopic(im, &req.Topics[i], req))
	}
	return resp, nil
}

func (a *API) askedTopic(im *meta.Image, rt *kmsg.MetadataRequestTopic, req *kmsg.MetadataRequest) kmsg.MetadataResponseTopic {
	var t *meta.Topic
	missing := kerr.UnknownTopicOrPartition
	if rt.Topic != nil && *rt.Topic != "" {
		t = im.Topic(*rt.Topic)
		if t == nil && !validTopicName(*rt.Topic) {
			missing = kerr.InvalidTopicException
		}
	} else {
		t = im.TopicByID(rt.TopicID)
		missing = kerr.UnknownTopicID
	}
	if t != nil {
		return a.metadataTopic(im, t, req.IncludeTopicAuthorizedOperations)
	}
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID, out.ErrorCode, out.AuthorizedOperations = rt.Topic, rt.TopicID, missing.Code, noOperations
	if out.Topic == nil && req.Version < 12 { // the name is not nullable before v12
		out.Topic = kmsg.StringPtr("")
	}
	return out
}

func (a *API) metadataTopic(im *meta.Image, t *meta.Topic, operations bool) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID = kmsg.StringPtr(t.Name), t.ID
	out.IsInternal = isInternal(t.Name)
	out.AuthorizedOperations = noOperations
	if operations {
		out.AuthorizedOperations = allTopicOperations
	}
	out.Partitions = make([]kmsg.MetadataResponseTopicPartition, 0, t.Partitions.Len())
	for i, p := range t.Partitions.All() {
		rp := kmsg.NewMetadataResponseTopicPartition()
		rp.Partition, rp.Leader, rp.LeaderEpoch = i, p.Leader, p.LeaderEpoch
		rp.Replicas, rp.ISR, rp.OfflineReplicas = p.Replicas, p.ISR, offline(im, p)
		if p.Leader == meta.NoNode {
			rp.ErrorCode = kerr.LeaderNotAvailable.Code
		}
		out.Partitions = append(out.Partitions, rp)
	}
	return out
}

func offline(im *meta.Image, p *meta.Partition) (ids []int32) {
	for _, id := range p.Replicas {
		if b := im.Broker(id); b == nil || b.Fenced {
			ids = append(ids, id)
		}
	}
	return ids
}

// IsInternal tells whether a topic belongs to the brokers: clients may read it and nothing else.
func IsInternal(topic string) bool { return isInternal(topic) }

func isInternal(topic string) bool {
	return topic == "__consumer_offsets" || topic == "__transaction_state" || topic == "__varve_usage"
}

// autoCreate makes the asked topics that are not there, with the broker's defaults. A name that is
// not valid is left to the answer.
func (a *API) autoCreate(ctx context.Context, req *kmsg.MetadataRequest) {
	im := a.cfg.Meta.Image()
	var cmds []meta.Command
	for _, rt := range req.Topics {
		if rt.Topic == nil || *rt.Topic == "" || im.Topic(*rt.Topic) != nil || !validTopicName(*rt.Topic) {
			continue
		}
		cmd, err := a.newTopic(*rt.Topic, a.cfg.NumPartitions, a.cfg.ReplicationFactor, nil, nil)
		if err == nil {
			cmds = append(cmds, cmd)
		}
	}
	if len(cmds) == 0 {
		return
	}
	if _, err := a.cfg.Meta.Propose(ctx, cmds...); err != nil {
		a.cfg.Log.Warn("topics not created on demand", "count", len(cmds), "err", err)
	}
}

func validTopicName(name string) bool { return meta.ValidateTopicName(name) == nil }
