package meta

import (
	"bytes"
	"cmp"
	"iter"
	"slices"
	"strings"
)

// Image is the cluster's state after one raft index. It is immutable: whoever holds one may read
// it for as long as he likes, from any goroutine, and must change nothing that he gets from it.
type Image struct {
	// Index is the raft index of the last command in it.
	Index uint64
	// ClusterID is empty until the first broker has registered.
	ClusterID    string
	FeatureLevel int32
	// NextProducerID is the first producer id that no block holds yet.
	NextProducerID int64
	// UncleanElections counts leaders that were elected outside ISR and ELR: possible loss.
	UncleanElections int64
	// PartitionCount is the number of partitions of all topics.
	PartitionCount int

	brokers []*Broker // by id
	topics  sortedMap[string, *Topic]
	byID    sortedMap[TopicID, *Topic]
	// collisions maps the metric form of a name with '.' or '_' to the name, see collisionKey.
	collisions sortedMap[string, string]
	deleted    sortedMap[TopicID, *DeletedTopic]
	configs    []resourceConfigs // cluster first, then brokers by id
	quotas     sortedMap[string, *ClientQuota]
}

// resourceConfigs are the dynamic configs of the cluster (Broker NoNode) or of one broker.
type resourceConfigs struct {
	Broker  NodeID            `json:"broker"`
	Configs map[string]string `json:"configs"`
}

func compareIDs(a, b TopicID) int { return bytes.Compare(a[:], b[:]) }

// newImage is the state before the first command.
func newImage() *Image {
	return &Image{
		topics:     sortedMap[string, *Topic]{cmp: strings.Compare},
		byID:       sortedMap[TopicID, *Topic]{cmp: compareIDs},
		collisions: sortedMap[string, string]{cmp: strings.Compare},
		deleted:    sortedMap[TopicID, *DeletedTopic]{cmp: compareIDs},
		quotas:     sortedMap[string, *ClientQuota]{cmp: strings.Compare},
	}
}

// Brokers lists the registered brokers by id. Read only.
func (im *Image) Brokers() []*Broker { return im.brokers }

// Broker is the broker with that id, or nil.
func (im *Image) Broker(id NodeID) *Broker {
	i, ok := im.findBroker(id)
	if !ok {
		return nil
	}
	return im.brokers[i]
}

func (im *Image) findBroker(id NodeID) (int, bool) {
	return slices.BinarySearchFunc(im.brokers, id, func(b *Broker, id NodeID) int { return cmp.Compare(b.ID, id) })
}

// Topic is the topic of that name, or nil.
func (im *Image) Topic(name string) *Topic {
	t, _ := im.topics.get(name)
	return t
}

// TopicByID is the topic with that id, or nil; a deleted topic is no longer found.
func (im *Image) TopicByID(id TopicID) *Topic {
	t, _ := im.byID.get(id)
	return t
}

// Partition is partition p of the topic with that id, or nil.
func (im *Image) Partition(id TopicID, p int32) *Partition {
	t := im.TopicByID(id)
	if t == nil {
		return nil
	}
	return t.Partitions.At(p)
}

// Topics yields the topics in name order.
func (im *Image) Topics() iter.Seq[*Topic] { return im.topics.values() }

// TopicCount is the number of topics.
func (im *Image) TopicCount() int { return im.topics.len() }

// DeletedTopic is the deleted topic with that id whose remains are not all gone, or nil.
func (im *Image) DeletedTopic(id TopicID) *DeletedTopic {
	d, _ := im.deleted.get(id)
	return d
}

// DeletedTopics yields the deleted topics by id.
func (im *Image) DeletedTopics() iter.Seq[*DeletedTopic] { return im.deleted.values() }

// ClusterConfigs are the dynamic configs of all brokers. Read only, may be nil.
func (im *Image) ClusterConfigs() map[string]string { return im.resource(NoNode) }

// BrokerConfigs are the dynamic configs of one broker. Read only, may be nil.
func (im *Image) BrokerConfigs(id NodeID) map[string]string { return im.resource(id) }

// ClientQuotas yields the client quotas in the order of their entities.
func (im *Image) ClientQuotas() iter.Seq[*ClientQuota] { return im.quotas.values() }

// ClientQuota are the limits set for exactly this entity, or nil.
func (im *Image) ClientQuota(e QuotaEntity) *ClientQuota {
	q, _ := im.quotas.get(e.key())
	return q
}

func (im *Image) findResource(id NodeID) (int, bool) {
	return slices.BinarySearchFunc(im.configs, id, func(r resourceConfigs, id NodeID) int { return cmp.Compare(r.Broker, id) })
}

func (im *Image) resource(id NodeID) map[string]string {
	i, ok := im.findResource(id)
	if !ok {
		return nil
	}
	return im.configs[i].Configs
}

// collisionKey is the name as metric names spell it: Kafka refuses two topics that differ only in
// '.' and '_'. Empty for names that have neither and so collide with nothing.
func collisionKey(name string) string {
	if !strings.ContainsAny(name, "._") {
		return ""
	}
	return strings.ReplaceAll(name, ".", "_")
}

// putTopic replaces a topic that is there.
func (im *Image) putTopic(t *Topic) {
	im.topics = im.topics.with(t.Name, t)
	im.byID = im.byID.with(t.ID, t)
}

func (im *Image) addTopic(t *Topic) {
	im.putTopic(t)
	im.PartitionCount += t.Partitions.Len()
	if key := collisionKey(t.Name); key != "" {
		im.collisions = im.collisions.with(key, t.Name)
	}
}

func (im *Image) dropTopic(t *Topic) {
	im.topics = im.topics.without(t.Name)
	im.byID = im.byID.without(t.ID)
	im.PartitionCount -= t.Partitions.Len()
	if key := collisionKey(t.Name); key != "" {
		im.collisions = im.collisions.without(key)
	}
}

// mapTopics replaces every topic by f of it.
func (im *Image) mapTopics(f func(*Topic) *Topic) {
	changed := map[*Topic]*Topic{}
	im.topics = im.topics.mapValues(func(old *Topic) *Topic {
		fresh := f(old)
		if fresh != old {
			changed[old] = fresh
		}
		return fresh
	})
	if len(changed) == 0 {
		return
	}
	im.byID = im.byID.mapValues(func(old *Topic) *Topic {
		if fresh, ok := changed[old]; ok {
			return fresh
		}
		return old
	})
}

func (im *Image) putBroker(b *Broker) {
	i, ok := im.findBroker(b.ID)
	im.brokers = slices.Clone(im.brokers)
	if ok {
		im.brokers[i] = b
		return
	}
	im.brokers = slices.Insert(im.brokers, i, b)
}

func (im *Image) putResource(id NodeID, configs map[string]string) {
	i, ok := im.findResource(id)
	im.configs = slices.Clone(im.configs)
	switch {
	case ok && len(configs) == 0:
		im.configs = slices.Delete(im.configs, i, i+1)
	case ok:
		im.configs[i].Configs = configs
	case len(configs) > 0:
		im.configs = slices.Insert(im.configs, i, resourceConfigs{id, configs})
	}
}
