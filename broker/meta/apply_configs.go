package meta

import (
	"maps"
	"slices"
)

func (c *AlterConfigs) apply(t *tx) (int64, *CommandError) {
	switch c.Resource {
	case ResourceTopic:
		return 0, c.applyTopic(t)
	case ResourceBroker:
		if t.img.Broker(c.Broker) == nil {
			return 0, refuse(ErrUnknownBroker, "broker %d", c.Broker)
		}
		fresh, err := c.change(t.img.BrokerConfigs(c.Broker))
		if err != nil {
			return 0, err
		}
		t.img.putResource(c.Broker, fresh)
		t.delta.Brokers = append(t.delta.Brokers, c.Broker)
		return 0, nil
	case ResourceCluster:
		return 0, c.applyCluster(t)
	default:
		return 0, refuse(ErrInvalidCommand, "resource %.40q has no configs", string(c.Resource))
	}
}

// change is the configs after the command, as a new map.
func (c *AlterConfigs) change(old map[string]string) (map[string]string, *CommandError) {
	for _, key := range slices.Sorted(maps.Keys(c.Compare)) { // sorted: every broker names the same key
		want := c.Compare[key]
		have, ok := old[key]
		if ok != (want != nil) || ok && have != *want {
			return nil, refuse(ErrConfigChanged, "%.255q", key)
		}
	}
	fresh := maps.Clone(old)
	if fresh == nil {
		fresh = map[string]string{}
	}
	for _, key := range c.Delete {
		delete(fresh, key)
	}
	for key, value := range c.Set {
		if key == "" {
			return nil, refuse(ErrInvalidCommand, "config without a key")
		}
		fresh[key] = value
	}
	if n := configBytes(fresh); n > maxConfigBytes {
		return nil, refuse(ErrLimit, "%d bytes of configs, at most %d", n, maxConfigBytes)
	}
	return fresh, nil
}

func (c *AlterConfigs) applyTopic(t *tx) *CommandError {
	topic := t.img.TopicByID(c.TopicID)
	if topic == nil {
		return refuse(ErrUnknownTopic, "id %s", c.TopicID)
	}
	configs, err := c.change(topic.Configs)
	if err != nil {
		return err
	}
	fresh := *topic
	fresh.Configs, fresh.ConfigIndex = configs, t.index
	before := t.seatConfigOf(topic)
	t.img.putTopic(t.reconfigured(&fresh, before, t.seatConfigOf(&fresh)))
	t.delta.TopicsChanged = append(t.delta.TopicsChanged, topic.ID)
	return nil
}

func (c *AlterConfigs) applyCluster(t *tx) *CommandError {
	configs, err := c.change(t.img.ClusterConfigs())
	if err != nil {
		return err
	}
	before := map[TopicID]seatConfig{}
	for topic := range t.img.Topics() {
		before[topic.ID] = t.seatConfigOf(topic)
	}
	t.img.putResource(NoNode, configs)
	t.delta.ClusterConfigs = true
	t.img.mapTopics(func(topic *Topic) *Topic {
		after := t.seatConfigOf(topic)
		if before[topic.ID] == after {
			return topic
		}
		fresh := *topic
		return t.reconfigured(&fresh, before[topic.ID], after)
	})
	return nil
}

// seatConfig is what decides who keeps which seat.
type seatConfig struct {
	minISR  string
	caching bool
}

func (t *tx) seatConfigOf(topic *Topic) seatConfig {
	return seatConfig{t.img.effective(topic, keyMinISR), t.img.WriteCaching(topic)}
}

// reconfigured brings the seats of a topic, a copy that the caller owns, in line with its configs.
func (t *tx) reconfigured(topic *Topic, before, after seatConfig) *Topic {
	switch {
	case after.caching:
		topic.cachedUntil = cachedNow
	case before.caching:
		topic.cachedUntil = t.index
	}
	if before.minISR == after.minISR {
		return topic
	}
	// A smaller min ISR lets HW move past the ELR's members. An empty ISR moves no HW, and its ELR
	// is the only proof of who has everything: it stays until one of them leads.
	topic.Partitions, _ = topic.Partitions.mapAll(func(i int32, p *Partition) *Partition {
		if len(p.ELR) == 0 || len(p.ISR) == 0 {
			return p
		}
		fresh := *p
		fresh.ELR = nil
		fresh.PartitionEpoch++
		t.delta.partition(topic.ID, i)
		return &fresh
	})
	return topic
}
