package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"varve/broker/meta"
	"varve/broker/partition"
	"varve/tiering"
)

// onMetadata brings the replicas in line with a new image. It runs on the goroutine that applies
// raft's log, so it does no I/O; what does is handed to the deletion task.
func (b *Broker) onMetadata(_, im *meta.Image, d *meta.Delta) {
	changed := map[meta.TopicID]bool{}
	if d.Reset || d.ClusterConfigs || slices.Contains(d.Brokers, b.cfg.NodeID) {
		b.topics.reload(im, b.cfg)
		for t := range im.Topics() { // a default may have moved: every topic may look different
			changed[t.ID] = true
		}
	}
	for _, ids := range [][]meta.TopicID{d.TopicsCreated, d.TopicsChanged} {
		for _, id := range ids {
			changed[id] = true
		}
	}
	for _, p := range d.Partitions {
		changed[p.TopicID] = true
	}
	updates := make([]partition.Update, 0, len(changed))
	for id := range changed {
		if t := im.TopicByID(id); t != nil {
			updates = append(updates, b.update(t))
		}
	}
	deleted := make([][16]byte, 0, len(d.TopicsDeleted))
	for _, id := range d.TopicsDeleted {
		deleted = append(deleted, id)
	}
	gone := b.set.Apply(updates, deleted)
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
			b.deletion.add(t, gone)
		}
	}
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
	var cmd meta.Command
	what := "commit"
	switch {
	case c.Tier != nil:
		cmd = &meta.CommitTier{
			TopicID: id.TopicID, Partition: id.Partition, LeaderEpoch: c.LeaderEpoch, BrokerEpoch: b.node.BrokerEpoch(),
			Prev: c.Tier.Prev, Name: c.Tier.Name, CRC: c.Tier.CRC, LogStart: c.Tier.LogStart,
			TieredEnd: c.Tier.TieredEnd, LastEpoch: c.Tier.LastEpoch, Bytes: c.Tier.Bytes,
		}
	case c.LogStart != nil:
		what = "logstart"
		cmd = &meta.SetLogStart{
			TopicID: id.TopicID, Partition: id.Partition, LeaderEpoch: c.LeaderEpoch, LogStart: *c.LogStart,
		}
	default:
		return errors.New("empty change")
	}
	if b.failed() {
		return partition.ErrStorage
	}
	onStep(what + ".proposing")
	_, err := b.node.ProposeOne(ctx, cmd)
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
