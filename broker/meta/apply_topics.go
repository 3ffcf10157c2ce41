package meta

import (
	"maps"
	"slices"
)

// Limits of the state machine. They bound memory, snapshots and the time of one command; they
// may only ever be raised behind a feature level, since every broker must decide alike.
const (
	// MaxPartitions of one topic, and of the cluster.
	MaxPartitions        = 100_000
	MaxClusterPartitions = 1_000_000
	// maxReplicas of a partition; Kafka users run 3, rarely 5.
	maxReplicas = 32
	// maxConfigBytes bounds keys and values of one resource together.
	maxConfigBytes = 64 << 10
)

func (c *CreateTopic) apply(t *tx) (int64, *CommandError) {
	if err := c.check(t); err != nil {
		return 0, err
	}
	parts, err := t.newPartitions(c.Name, c.Partitions)
	if err != nil {
		return 0, err
	}
	topic := &Topic{
		Name: c.Name, ID: c.TopicID, Configs: maps.Clone(c.Configs), Partitions: newPartitionList(parts),
		CreatedMS: t.timeMS, CreatedIndex: t.index, ConfigIndex: t.index,
	}
	if t.img.WriteCaching(topic) {
		topic.cachedUntil = cachedNow
	}
	t.img.addTopic(topic)
	t.delta.TopicsCreated = append(t.delta.TopicsCreated, topic.ID)
	return 0, nil
}

func (c *CreateTopic) check(t *tx) *CommandError {
	if err := ValidateTopicName(c.Name); err != nil {
		return refuse(ErrInvalidTopicName, "%s", err)
	}
	if t.img.Topic(c.Name) != nil {
		return refuse(ErrTopicExists, "%s", c.Name)
	}
	if key := collisionKey(c.Name); key != "" {
		if other, ok := t.img.collisions.get(key); ok {
			return refuse(ErrTopicCollision, "%s and %s differ only in '.' and '_'", c.Name, other)
		}
	}
	if c.TopicID.IsZero() || t.img.TopicByID(c.TopicID) != nil || t.img.DeletedTopic(c.TopicID) != nil {
		return refuse(ErrIDInUse, "id %s", c.TopicID)
	}
	if n := configBytes(c.Configs); n > maxConfigBytes {
		return refuse(ErrLimit, "%d bytes of configs, at most %d", n, maxConfigBytes)
	}
	return t.checkPartitionCount(c.Name, 0, len(c.Partitions))
}

func (t *tx) checkPartitionCount(name string, have, more int) *CommandError {
	if more < 1 || have+more > MaxPartitions {
		return refuse(ErrInvalidPartitions, "%s would have %d partitions, at least 1 more and at most %d", name, have+more, MaxPartitions)
	}
	if t.img.PartitionCount+more > MaxClusterPartitions {
		return refuse(ErrLimit, "the cluster would have %d partitions, at most %d", t.img.PartitionCount+more, MaxClusterPartitions)
	}
	return nil
}

// newPartitions makes partitions with the given replicas. The ISR is those that are not fenced.
func (t *tx) newPartitions(name string, assignment [][]NodeID) ([]*Partition, *CommandError) {
	parts := make([]*Partition, 0, len(assignment))
	for i, replicas := range assignment {
		if len(replicas) == 0 || len(replicas) > maxReplicas {
			return nil, refuse(ErrInvalidReplicas, "%s/%d has %d replicas", name, i, len(replicas))
		}
		p := &Partition{Replicas: slices.Clone(replicas)}
		for j, id := range replicas {
			if t.img.Broker(id) == nil {
				return nil, refuse(ErrInvalidReplicas, "%s/%d: broker %d is not registered", name, i, id)
			}
			if slices.Contains(replicas[:j], id) {
				return nil, refuse(ErrInvalidReplicas, "%s/%d: broker %d twice", name, i, id)
			}
			if t.unfenced(id) {
				p.ISR = append(p.ISR, id)
			}
		}
		if len(p.ISR) == 0 {
			return nil, refuse(ErrInvalidReplicas, "%s/%d: every replica is fenced", name, i)
		}
		p.Leader, p.LastKnownLeader = p.ISR[0], p.ISR[0]
		parts = append(parts, p)
	}
	return parts, nil
}

func (c *DeleteTopic) apply(t *tx) (int64, *CommandError) {
	topic := t.img.TopicByID(c.TopicID)
	if topic == nil {
		return 0, refuse(ErrUnknownTopic, "id %s", c.TopicID)
	}
	gone := &DeletedTopic{
		Name: topic.Name, ID: topic.ID, Partitions: int32(topic.Partitions.Len()),
		Tiered: t.img.enabled(topic, keyRemote),
		Index:  t.index, DeletedMS: t.timeMS,
	}
	for _, p := range topic.Partitions.All() {
		if p.Tier.Name != "" {
			gone.Tiered = true
			break
		}
	}
	t.img.dropTopic(topic)
	t.img.deleted = t.img.deleted.with(gone.ID, gone)
	t.delta.TopicsDeleted = append(t.delta.TopicsDeleted, gone.ID)
	return 0, nil
}

func (c *FinishDeleteTopic) apply(t *tx) (int64, *CommandError) {
	if t.img.DeletedTopic(c.TopicID) == nil {
		return 0, refuse(ErrUnknownTopic, "no deleted topic has id %s", c.TopicID)
	}
	t.img.deleted = t.img.deleted.without(c.TopicID)
	t.delta.DeletesFinished = append(t.delta.DeletesFinished, c.TopicID)
	return 0, nil
}

func (c *CreatePartitions) apply(t *tx) (int64, *CommandError) {
	topic := t.img.TopicByID(c.TopicID)
	if topic == nil {
		return 0, refuse(ErrUnknownTopic, "id %s", c.TopicID)
	}
	have := topic.Partitions.Len()
	if int(c.From) != have {
		return int64(have), refuse(ErrPartitionChanged, "%s has %d partitions, not %d", topic.Name, have, c.From)
	}
	if err := t.checkPartitionCount(topic.Name, have, len(c.Partitions)); err != nil {
		return 0, err
	}
	parts, err := t.newPartitions(topic.Name, c.Partitions)
	if err != nil {
		return 0, err
	}
	fresh := *topic
	fresh.Partitions = topic.Partitions.append(parts)
	t.img.putTopic(&fresh)
	t.img.PartitionCount += len(parts)
	t.delta.TopicsChanged = append(t.delta.TopicsChanged, topic.ID)
	for i := range parts {
		t.delta.partition(topic.ID, int32(have+i))
	}
	return int64(have + len(parts)), nil
}

func configBytes(configs map[string]string) int {
	n := 0
	for k, v := range configs {
		n += len(k) + len(v)
	}
	return n
}
