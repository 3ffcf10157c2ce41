package meta

import (
	"strconv"
	"strings"
)

// The topic configs that the state machine itself acts on. Their meaning here is part of the
// command format: it must be the same in every version of the program.
const (
	keyMinISR       = "min.insync.replicas"
	keyWriteCaching = "write.caching"
	keyUnclean      = "unclean.leader.election.enable"
	keyRemote       = "remote.storage.enable"
)

// effective is the topic's own value of key, or the cluster's, or "".
func (im *Image) effective(topic *Topic, key string) string {
	if v, ok := topic.Configs[key]; ok {
		return v
	}
	return im.ClusterConfigs()[key]
}

// enabled reads a boolean as Kafka does: case and blanks around it do not matter.
func (im *Image) enabled(topic *Topic, key string) bool {
	return strings.EqualFold(strings.TrimSpace(im.effective(topic, key)), "true")
}

// MinISR is min.insync.replicas of a partition of topic, at least 1 and at most the number of its
// replicas.
func (im *Image) MinISR(topic *Topic, p *Partition) int {
	n, err := strconv.Atoi(strings.TrimSpace(im.effective(topic, keyMinISR)))
	if err != nil {
		n = 1
	}
	return min(max(n, 1), len(p.Replicas))
}

// WriteCaching tells whether acks=all of the topic is answered before the data is synced.
func (im *Image) WriteCaching(topic *Topic) bool { return im.enabled(topic, keyWriteCaching) }
