package meta

// tx is the working copy in which the commands of one raft entry are applied. img is a shallow
// copy of the image before; commands replace what they change and never write into what it shares.
type tx struct {
	img   Image
	delta Delta
	// index is the raft index of the entry; broker and epoch are its proposer, timeMS his clock.
	index  uint64
	broker NodeID
	epoch  int64
	timeMS int64
}

// run applies one command alone: after a refusal tx is as before.
func (t *tx) run(c Command) (int64, *CommandError) {
	img, mark := t.img, t.delta.mark()
	value, err := c.apply(t)
	if err != nil {
		t.img = img
		t.delta.reset(mark)
	}
	return value, err
}

// ledPartition finds a partition for a command that only its leader may propose, in the epoch that
// is current, under the broker epoch of the incarnation that acts.
func (t *tx) ledPartition(id TopicID, p, leaderEpoch int32) (*Topic, *Partition, *CommandError) {
	topic, part, err := t.partition(id, p)
	if err != nil {
		return nil, nil, err
	}
	if part.LeaderEpoch != leaderEpoch {
		return nil, nil, refuse(ErrStaleEpoch, "%s/%d is in epoch %d, not %d", topic.Name, p, part.LeaderEpoch, leaderEpoch)
	}
	if part.Leader != t.broker {
		return nil, nil, refuse(ErrNotLeader, "%s/%d is led by %d, not %d", topic.Name, p, part.Leader, t.broker)
	}
	return topic, part, nil
}

func (t *tx) partition(id TopicID, p int32) (*Topic, *Partition, *CommandError) {
	topic := t.img.TopicByID(id)
	if topic == nil {
		return nil, nil, refuse(ErrUnknownTopic, "id %s", id)
	}
	part := topic.Partitions.At(p)
	if part == nil {
		return nil, nil, refuse(ErrUnknownPartition, "%s/%d of %d", topic.Name, p, topic.Partitions.Len())
	}
	return topic, part, nil
}

func (t *tx) setPartition(topic *Topic, i int32, p *Partition) {
	fresh := *topic
	fresh.Partitions = topic.Partitions.with(i, p)
	t.img.putTopic(&fresh)
	t.delta.partition(topic.ID, i)
}

// mapPartitions replaces every partition of every topic by f of it.
func (t *tx) mapPartitions(f func(*Topic, *Partition) *Partition) {
	t.img.mapTopics(func(topic *Topic) *Topic {
		list, changed := topic.Partitions.mapAll(func(i int32, p *Partition) *Partition {
			fresh := f(topic, p)
			if fresh != p {
				t.delta.partition(topic.ID, i)
			}
			return fresh
		})
		if !changed {
			return topic
		}
		fresh := *topic
		fresh.Partitions = list
		return &fresh
	})
}

// unfenced tells whether the broker may lead and count in an ISR.
func (t *tx) unfenced(id NodeID) bool {
	b := t.img.Broker(id)
	return b != nil && !b.Fenced
}
