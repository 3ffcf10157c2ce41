package meta

import "math"

// maxBrokers bounds the registered brokers; a register command of an unknown id beyond it is refused.
const maxBrokers = 1024

// maxAddressBytes bounds host, rack and internal address of a registration.
const maxAddressBytes = 255

// apply makes the new incarnation, takes its predecessor out of every seat and elects, all in one
// command: every partition that the predecessor led has a new leader epoch afterwards, also if
// this broker leads it again, also if there is no other broker.
func (c *RegisterBroker) apply(t *tx) (int64, *CommandError) {
	if err := c.check(t); err != nil {
		return 0, err
	}
	old := t.img.Broker(c.Broker)
	if old != nil && old.Incarnation == c.Incarnation {
		return old.Epoch, nil // a retry whose first try was applied
	}
	epoch := int64(t.index)
	if old != nil && old.Epoch >= epoch {
		epoch = old.Epoch + 1
	}
	t.img.ClusterID = c.ClusterID
	t.img.putBroker(&Broker{
		ID: c.Broker, Epoch: epoch, Incarnation: c.Incarnation, DirectoryID: c.DirectoryID,
		Host: c.Host, Port: c.Port, Rack: c.Rack, Internal: c.Internal,
	})
	t.delta.Brokers = append(t.delta.Brokers, c.Broker)
	if old != nil {
		t.mapPartitions(func(topic *Topic, p *Partition) *Partition { return c.reseat(t, topic, p, old) })
	}
	return epoch, nil
}

func (c *RegisterBroker) check(t *tx) *CommandError {
	switch {
	case c.Broker < 1 || c.Broker != t.broker:
		return refuse(ErrInvalidCommand, "registration of broker %d by %d", c.Broker, t.broker)
	case !validIDText(c.DirectoryID) || !validIDText(c.Incarnation) || !validIDText(c.ClusterID):
		return refuse(ErrInvalidCommand, "malformed id in the registration of broker %d", c.Broker)
	case c.Port < 0 || c.Port > 65535 || max(len(c.Host), len(c.Rack), len(c.Internal)) > maxAddressBytes:
		return refuse(ErrInvalidCommand, "malformed address in the registration of broker %d", c.Broker)
	case t.img.ClusterID != "" && t.img.ClusterID != c.ClusterID:
		return refuse(ErrClusterMismatch, "broker %d is of cluster %s, this is %s", c.Broker, c.ClusterID, t.img.ClusterID)
	}
	old := t.img.Broker(c.Broker)
	if old == nil && len(t.img.brokers) >= maxBrokers {
		return refuse(ErrLimit, "%d brokers", maxBrokers)
	}
	// One directory is open in one process at a time, so the same directory proves that the
	// predecessor is dead. Another directory proves nothing: wait until the old one is fenced.
	if old != nil && !old.Fenced && old.DirectoryID != c.DirectoryID {
		return refuse(ErrBrokerLive, "broker %d with directory %s", c.Broker, old.DirectoryID)
	}
	return nil
}

// reseat is p after the end of the incarnation old. The seats are lost for good if the disk is
// another one, or if data of a write.caching topic may have gone with an unclean stop.
func (c *RegisterBroker) reseat(t *tx, topic *Topic, p *Partition, old *Broker) *Partition {
	if !p.HasReplica(c.Broker) {
		return p
	}
	trusted := old.DirectoryID == c.DirectoryID && (c.Clean || int64(min(topic.cachedUntil, 1<<62)) < old.Epoch)
	led := p.Leader == c.Broker
	if !led && p.Leader != NoNode && !p.InISR(c.Broker) && trusted {
		return p
	}
	fresh := *p
	t.leaveISR(topic, &fresh, c.Broker, trusted)
	if led || fresh.Leader == NoNode {
		t.elect(topic, &fresh)
	}
	fresh.PartitionEpoch++
	return &fresh
}

func (c *FenceBroker) apply(t *tx) (int64, *CommandError) {
	b, err := t.registered(c.Broker, c.Epoch)
	if err != nil || b.Fenced {
		return 0, err
	}
	t.setFenced(b, true)
	t.mapPartitions(func(topic *Topic, p *Partition) *Partition {
		if p.Leader != b.ID && !p.InISR(b.ID) {
			return p
		}
		fresh := *p
		t.leaveISR(topic, &fresh, b.ID, true)
		if p.Leader == b.ID {
			t.elect(topic, &fresh)
		}
		fresh.PartitionEpoch++
		return &fresh
	})
	return 0, nil
}

func (c *UnfenceBroker) apply(t *tx) (int64, *CommandError) {
	b, err := t.registered(c.Broker, c.Epoch)
	if err != nil || !b.Fenced {
		return 0, err
	}
	t.setFenced(b, false)
	t.mapPartitions(func(topic *Topic, p *Partition) *Partition {
		if p.Leader != NoNode || !p.HasReplica(b.ID) {
			return p
		}
		fresh := *p
		if t.elect(topic, &fresh); fresh.Leader == NoNode {
			return p
		}
		fresh.PartitionEpoch++
		return &fresh
	})
	return 0, nil
}

// registered finds a broker and checks that the command means its present incarnation.
func (t *tx) registered(id NodeID, epoch int64) (*Broker, *CommandError) {
	b := t.img.Broker(id)
	if b == nil {
		return nil, refuse(ErrUnknownBroker, "broker %d", id)
	}
	if b.Epoch != epoch {
		return nil, refuse(ErrStaleBrokerEpoch, "broker %d has epoch %d, not %d", id, b.Epoch, epoch)
	}
	return b, nil
}

func (t *tx) setFenced(b *Broker, fenced bool) {
	fresh := *b
	fresh.Fenced = fenced
	t.img.putBroker(&fresh)
	t.delta.Brokers = append(t.delta.Brokers, b.ID)
}

func (c *AllocProducerIDs) apply(t *tx) (int64, *CommandError) {
	// A million is a thousand blocks; more at once is a mistake that would use up the 63 bits.
	if c.Count < 1 || c.Count > 1_000_000 {
		return 0, refuse(ErrInvalidCommand, "%d producer ids", c.Count)
	}
	first := t.img.NextProducerID
	if first > math.MaxInt64-c.Count {
		return 0, refuse(ErrLimit, "producer ids are used up at %d", first)
	}
	t.img.NextProducerID += c.Count
	return first, nil
}

func (c *SetFeatureLevel) apply(t *tx) (int64, *CommandError) {
	if c.Level < t.img.FeatureLevel {
		return int64(t.img.FeatureLevel), refuse(ErrGoesBack, "feature level %d to %d", t.img.FeatureLevel, c.Level)
	}
	t.img.FeatureLevel = c.Level
	return int64(c.Level), nil
}
