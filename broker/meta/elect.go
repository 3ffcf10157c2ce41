package meta

import "slices"

// leaveISR takes a broker out of the ISR of p, a copy that the caller owns. It enters the ELR when
// what is left is smaller than min ISR (KIP-966), unless its data can no longer be trusted.
func (t *tx) leaveISR(topic *Topic, p *Partition, id NodeID, trusted bool) {
	if p.InISR(id) {
		p.ISR = without(p.ISR, id)
		if trusted && len(p.ISR) < t.img.MinISR(topic, p) {
			p.ELR = append(slices.Clone(p.ELR), id)
		}
	}
	if !trusted {
		p.ELR = without(p.ELR, id)
	}
	t.settleELR(topic, p)
}

// settleELR empties the ELR when the ISR has reached min ISR: from there HW moves without it.
func (t *tx) settleELR(topic *Topic, p *Partition) {
	if len(p.ISR) >= t.img.MinISR(topic, p) {
		p.ELR = nil
	}
}

// elect gives p, a copy that the caller owns, a leader, or none. It always begins a new leader
// epoch. Order: ISR, ELR, any replica if the topic allows it, and with ISR and ELR empty the last
// known leader. The last two may lose data and are counted.
func (t *tx) elect(topic *Topic, p *Partition) {
	p.LeaderEpoch++
	switch {
	case t.electFrom(topic, p, p.ISR), t.electFrom(topic, p, p.ELR):
	case t.img.enabled(topic, keyUnclean) && t.electFrom(topic, p, p.Replicas),
		len(p.ISR)+len(p.ELR) == 0 && t.electFrom(topic, p, []NodeID{p.LastKnownLeader}):
		t.img.UncleanElections++
		p.ELR = nil
	default:
		p.Leader = NoNode
	}
}

// electFrom elects the first unfenced replica, in order of preference, that is a candidate.
func (t *tx) electFrom(topic *Topic, p *Partition, candidates []NodeID) bool {
	for _, id := range p.Replicas {
		if !slices.Contains(candidates, id) || !t.unfenced(id) {
			continue
		}
		p.Leader, p.LastKnownLeader = id, id
		if !p.InISR(id) {
			p.ISR = []NodeID{id}
			p.ELR = without(p.ELR, id)
			t.settleELR(topic, p)
		}
		return true
	}
	return false
}

// without is ids without id, as a new slice; nil if nothing is left.
func without(ids []NodeID, id NodeID) []NodeID {
	var rest []NodeID
	for _, other := range ids {
		if other != id {
			rest = append(rest, other)
		}
	}
	return rest
}
