package broker

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"varve/broker/api"
	"varve/broker/coord"
	"varve/broker/group"
	"varve/broker/meta"
	"varve/broker/partition"
)

// groupCoordinator tells the runtime of __consumer_offsets what this broker leads.
type groupCoordinator struct {
	mu sync.Mutex     // one change of what is led at a time
	rt *coord.Runtime // nil until it is open: metadata moves before that
}

// openGroups makes the group coordinator. Which groups it serves follows from the partitions of
// __consumer_offsets that this broker leads.
func (b *Broker) openGroups(context.Context) error {
	b.groups = coord.New(coord.Config{
		Topic: offsetsTopic, Log: b.log,
		New: func(int32) coord.Machine {
			return group.New(group.Config{Settings: b.groupSettings, NewID: newUUID, Log: b.log})
		},
	})
	b.onClose("group coordinator", b.groups.Close)
	g := &b.groupShards
	g.mu.Lock()
	g.rt = b.groups
	g.mu.Unlock()
	g.apply(b.set)
	return nil
}

// apply is called on every change of metadata, also before the coordinator is open.
func (g *groupCoordinator) apply(set *partition.Set) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.rt != nil {
		applyLed(g.rt, set, offsetsTopic)
	}
}

// forgetTopics removes the offsets of deleted topics. A shard that loads at this moment keeps them
// until their retention passes.
func (g *groupCoordinator) forgetTopics(im *meta.Image, ids []meta.TopicID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var names []string
	for _, id := range ids {
		if t := im.DeletedTopic(id); t != nil {
			names = append(names, t.Name)
		}
	}
	if g.rt == nil || len(names) == 0 {
		return
	}
	g.rt.Each(func(int32) coord.Event {
		return func(m coord.Machine, now time.Time) coord.Step { return m.(*group.Machine).TopicsDeleted(now, names) }
	}, func(int32, error) {})
}

func (b *Broker) groupSettings() group.Settings {
	c := &b.cfg
	return group.Settings{
		MinSession: c.GroupMinSession, MaxSession: c.GroupMaxSession, InitialDelay: c.GroupInitialDelay,
		MaxSize: int(c.GroupMaxSize), OffsetMetadataMax: int(c.OffsetMetadataMax),
		OffsetsRetention: time.Duration(c.OffsetsRetentionMinutes) * time.Minute, RetentionCheck: c.OffsetsRetentionCheck,
	}
}

func (c *Config) offsetsTopicConfig() api.InternalTopic {
	return api.InternalTopic{Partitions: c.OffsetsPartitions, Replication: int16(c.OffsetsReplication), SegmentBytes: c.OffsetsSegmentBytes}
}

func (c *Config) txnTopicConfig() api.InternalTopic {
	return api.InternalTopic{Partitions: c.TxnPartitions, Replication: int16(c.TxnReplication), SegmentBytes: c.TxnSegmentBytes}
}

// newUUID is a random UUID (version 4), as member ids end with.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: the runtime ends the process instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
