package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"varve/broker/api"
	"varve/broker/meta"
	"varve/broker/partition"
	"varve/tiering"
)

// onMetadata brings the replicas in line with a new image. It runs on the goroutine that applies
// raft's log, so it does no I/O; what does is handed to the deletion task.
func (b *Broker) onMetadata(_, im *meta.Image, d *meta.Delta) {
	if d.Reset || d.Quotas {
		b.quotas.Set(api.QuotaRules(im))
	}
	updates := b.updates(im, d)
	deleted := make([][16]byte, 0, len(d.TopicsDeleted))
	for _, id := range d.TopicsDeleted {
		deleted = append(deleted, id)
	}
	gone := b.set.Apply(updates, deleted)
	b.groupShards.apply(b.set)
	b.txn.apply(b.set)
	b.groupShards.forgetTopics(im, d.TopicsDeleted)
	for _, id := range d.TopicsDeleted {
		b.topics.forget(id)
	}
	if d.Reset {
		for t := range im.DeletedTopics() {
			b.deletion.add(t, nil)
		}
		return
	}
	for _, id := range d.TopicsDeleted {
		if t := im.DeletedTopic(id); t != nil {
			if b.tier != nil && im.Topic(t.Name) == nil {
				b.tier.SetTopicReadRate(t.Name, 0)
			}
			b.deletion.add(t, gone)
		}
	}
}

// updates lists the topics that may look different, and of each the partitions if only they do.
func (b *Broker) updates(im *meta.Image, d *meta.Delta) []partition.Update {
	changed := map[meta.TopicID][]int32{} // nil: every partition
	if d.Reset || d.ClusterConfigs || slices.Contains(d.Brokers, b.cfg.NodeID) {
		b.topics.reload(im, b.cfg)
		b.applyDynamic()
		for t := range im.Topics() { // a default may have moved: every topic may look different
			changed[t.ID] = nil
		}
	}
	for _, ids := range [][]meta.TopicID{d.TopicsCreated, d.TopicsChanged} {
		for _, id := range ids {
			changed[id] = nil
		}
	}
	for _, p := range d.Partitions { // a tier commit is one of perhaps 10,000: the others are left alone
		if only, all := changed[p.TopicID]; !all || only != nil {
			changed[p.TopicID] = append(only, p.Partition)
		}
	}
	updates := make([]partition.Update, 0, len(changed))
	for id, only := range changed {
		if t := im.TopicByID(id); t != nil {
			u := b.update(t)
			if u.Only = only; only == nil && b.tier != nil {
				b.tier.SetTopicReadRate(t.Name, topicReadRate(t))
			}
			updates = append(updates, u)
		}
	}
	return updates
}

// topicReadRate is varve.tier.fetch.max.bytes.per.second as the tier has it: 0 is no limit.
func topicReadRate(t *meta.Topic) int64 {
	if _, set := t.Configs[meta.KeyTierFetchRate]; !set { // of nearly every topic; 10,000 are resolved at a start
		return 0
	}
	return rateLimit(meta.Effective(t.Configs).TierFetchBytesPerSecond)
}

func (b *Broker) update(t *meta.Topic) partition.Update {
	conf := b.topics.of(t)
	return partition.Update{
		Name: t.Name, ID: t.ID, IDText: t.ID.String(), Partitions: int32(t.Partitions.Len()),
		Assign: func(i int32) (partition.Assignment, bool) {
			p := t.Partitions.At(i)
			if !p.HasReplica(b.cfg.NodeID) {
				return partition.Assignment{}, false
			}
			return partition.Assignment{
				Leader: p.Leader, LeaderEpoch: p.LeaderEpoch, Replicas: len(p.Replicas), ISR: len(p.ISR),
				LogStart: p.LogStart, Tier: pointer(p), TierIndex: p.Tier.LogIndex,
				Partitions: int32(t.Partitions.Len()), Config: conf,
			}, true
		},
	}
}

func pointer(p *meta.Partition) tiering.Pointer {
	return tiering.Pointer{
		Name: p.Tier.Name, CRC: p.Tier.CRC, LogStart: p.Tier.LogStart,
		TieredEnd: p.Tier.TieredEnd, LastEpoch: p.Tier.LastEpoch, Bytes: p.Tier.Bytes,
	}
}

// propose is the one function through which replicas change metadata.
func (b *Broker) propose(ctx context.Context, id partition.ID, c partition.Change) error {
	what := "commit"
	var apply func() error
	switch {
	case c.Tier != nil:
		cmd := &meta.CommitTier{
			TopicID: id.TopicID, Partition: id.Partition, LeaderEpoch: c.LeaderEpoch, BrokerEpoch: b.node.BrokerEpoch(),
			Prev: c.Tier.Prev, Name: c.Tier.Name, CRC: c.Tier.CRC, LogStart: c.Tier.LogStart,
			TieredEnd: c.Tier.TieredEnd, LastEpoch: c.Tier.LastEpoch, Bytes: c.Tier.Bytes,
		}
		apply = func() error {
			_, err := b.node.ProposeOne(ctx, cmd)
			return err
		}
	case c.LogStart != nil:
		what = "logstart"
		cmd := &meta.SetLogStart{
			TopicID: id.TopicID, Partition: id.Partition, LeaderEpoch: c.LeaderEpoch, LogStart: *c.LogStart,
		}
		apply = func() error { return b.logStarts.move(ctx, cmd) }
	default:
		return errors.New("empty change")
	}
	if b.failed() {
		return partition.ErrStorage
	}
	onStep(what + ".proposing")
	err := apply()
	if err == nil {
		onStep(what + ".applied")
	}
	if errors.Is(err, meta.ErrGoesBack) && c.LogStart != nil {
		return nil // somebody moved it further meanwhile: what was asked for holds
	}
	if errors.Is(err, meta.ErrStaleEpoch) || errors.Is(err, meta.ErrNotLeader) || errors.Is(err, meta.ErrUnknownTopic) {
		return fmt.Errorf("%w: %w", partition.ErrNotLeader, err)
	}
	return err
}
