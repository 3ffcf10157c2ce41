package meta

import "slices"

// maxManifestName bounds the name in a commit; ours have about 40 bytes.
const maxManifestName = 255

// apply is the compare-and-swap of DESIGN section 8.2: only the present leader, in the present
// epoch and incarnation, may replace exactly the manifest that it read, and nothing goes back.
func (c *CommitTier) apply(t *tx) (int64, *CommandError) {
	topic, p, err := t.ledPartition(c.TopicID, c.Partition, c.LeaderEpoch)
	if err != nil {
		return 0, err
	}
	if c.BrokerEpoch != t.epoch {
		return 0, refuse(ErrStaleBrokerEpoch, "upload of broker epoch %d, proposed in %d", c.BrokerEpoch, t.epoch)
	}
	if c.Prev != p.Tier.Name {
		return 0, refuse(ErrPrevMismatch, "%s/%d is at %q, the commit replaces %.255q", topic.Name, c.Partition, p.Tier.Name, c.Prev)
	}
	switch {
	case c.Name == "" || len(c.Name) > maxManifestName || c.Name == c.Prev:
		return 0, refuse(ErrInvalidCommand, "manifest name of %d bytes, new and not longer than %d", len(c.Name), maxManifestName)
	case c.LogStart < 0 || c.LogStart > c.TieredEnd || c.Bytes < 0 || c.LastEpoch > c.LeaderEpoch:
		return 0, refuse(ErrInvalidCommand, "manifest covers [%d, %d) in %d bytes up to epoch %d",
			c.LogStart, c.TieredEnd, c.Bytes, c.LastEpoch)
	case c.LogStart < p.LogStart || c.TieredEnd < p.TieredEnd():
		return 0, refuse(ErrGoesBack, "%s/%d covers [%d, %d), the commit [%d, %d)",
			topic.Name, c.Partition, p.LogStart, p.TieredEnd(), c.LogStart, c.TieredEnd)
	}
	fresh := *p
	fresh.LogStart = c.LogStart
	fresh.Tier = TierPointer{c.Name, c.CRC, c.LogStart, c.TieredEnd, c.LastEpoch, c.Bytes, t.index}
	t.setPartition(topic, c.Partition, &fresh)
	return 0, nil
}

func (c *SetLogStart) apply(t *tx) (int64, *CommandError) {
	topic, p, err := t.ledPartition(c.TopicID, c.Partition, c.LeaderEpoch)
	if err != nil {
		return 0, err
	}
	if c.LogStart < p.LogStart {
		return p.LogStart, refuse(ErrGoesBack, "%s/%d starts at %d, not %d", topic.Name, c.Partition, p.LogStart, c.LogStart)
	}
	if c.LogStart > p.LogStart {
		fresh := *p
		fresh.LogStart = c.LogStart
		t.setPartition(topic, c.Partition, &fresh)
	}
	return c.LogStart, nil
}

// apply changes the ISR, and the leader if the command names one. Naming a leader begins a new
// leader epoch, also if it is the present one.
func (c *AlterPartition) apply(t *tx) (int64, *CommandError) {
	topic, p, err := t.partition(c.TopicID, c.Partition)
	if err != nil {
		return 0, err
	}
	if err := c.check(t, topic, p); err != nil {
		return 0, err
	}
	fresh := *p
	fresh.ISR = nil
	for _, id := range p.Replicas { // in replica order: one ISR has one form
		if slices.ContainsFunc(c.ISR, func(m ISRMember) bool { return m.Broker == id }) {
			fresh.ISR = append(fresh.ISR, id)
			fresh.ELR = without(fresh.ELR, id)
		} else if p.InISR(id) && len(c.ISR) < t.img.MinISR(topic, p) {
			fresh.ELR = append(slices.Clone(fresh.ELR), id)
		}
	}
	t.settleELR(topic, &fresh)
	if c.Leader != 0 {
		fresh.Leader, fresh.LastKnownLeader = c.Leader, c.Leader
		fresh.LeaderEpoch++
	}
	fresh.PartitionEpoch++
	t.setPartition(topic, c.Partition, &fresh)
	return int64(fresh.PartitionEpoch), nil
}

func (c *AlterPartition) check(t *tx, topic *Topic, p *Partition) *CommandError {
	if c.LeaderEpoch != p.LeaderEpoch {
		return refuse(ErrStaleEpoch, "%s/%d is in epoch %d, not %d", topic.Name, c.Partition, p.LeaderEpoch, c.LeaderEpoch)
	}
	if c.PartitionEpoch != p.PartitionEpoch {
		return refuse(ErrPartitionChanged, "%s/%d has partition epoch %d, not %d", topic.Name, c.Partition, p.PartitionEpoch, c.PartitionEpoch)
	}
	if c.Leader == 0 && p.Leader != t.broker {
		return refuse(ErrNotLeader, "%s/%d is led by %d, not %d", topic.Name, c.Partition, p.Leader, t.broker)
	}
	leader := p.Leader
	if c.Leader != 0 {
		leader = c.Leader
	}
	leads := false
	for i, m := range c.ISR {
		b := t.img.Broker(m.Broker)
		twice := slices.ContainsFunc(c.ISR[:i], func(o ISRMember) bool { return o.Broker == m.Broker })
		if b == nil || b.Fenced || b.Epoch != m.Epoch || !p.HasReplica(m.Broker) || twice {
			return refuse(ErrIneligibleReplica, "%s/%d: broker %d of epoch %d", topic.Name, c.Partition, m.Broker, m.Epoch)
		}
		leads = leads || m.Broker == leader
	}
	if !leads {
		return refuse(ErrIneligibleReplica, "%s/%d: leader %d is not in the proposed ISR", topic.Name, c.Partition, leader)
	}
	// A leader chosen by the controller must have been in the ISR before: only the leader itself
	// knows who has caught up.
	if c.Leader != 0 && p.Leader != t.broker && !p.InISR(c.Leader) {
		return refuse(ErrIneligibleReplica, "%s/%d: broker %d is not in the ISR", topic.Name, c.Partition, c.Leader)
	}
	return nil
}
