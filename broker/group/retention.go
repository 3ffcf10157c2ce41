package group

import (
	"time"

	"varve/broker/coord"
)

const (
	// sweepRecords is how many tombstones one step of a sweep writes: a millisecond or two of work,
	// after which commits have their turn.
	sweepRecords = 2000
	// sweepAgain is when a sweep that had more to do goes on.
	sweepAgain = 10 * time.Millisecond
)

// expireOffsets removes offsets whose retention has passed, and groups that nothing is left of. A
// group with members keeps the offsets of what they read for ever.
func (m *Machine) expireOffsets(now time.Time) {
	set := m.cfg.Settings()
	for _, g := range m.groups {
		if len(m.records) >= sweepRecords {
			break
		}
		if left := m.expireGroup(g, now, set.OffsetsRetention); left == 0 && g.state == Empty && len(g.txns) == 0 && len(g.pending) == 0 {
			m.records = append(m.records, metadataTombstone(g.id))
		}
	}
	next := max(set.RetentionCheck, sweepAgain)
	if len(m.records) >= sweepRecords { // there may be more
		next = sweepAgain
	}
	m.timers.schedule(&m.sweep, now.Add(next))
}

// expireGroup writes tombstones for what has expired and tells how many offsets stay.
func (m *Machine) expireGroup(g *group, now time.Time, retention time.Duration) (left int) {
	for topic, parts := range g.offsets {
		for p, o := range parts {
			if len(m.records) >= sweepRecords || !g.expired(topic, o, now, retention) || m.unstable(g, topic, p) {
				left++
				continue
			}
			m.records = append(m.records, offsetTombstone(offsetKey{g.id, topic, p}))
		}
	}
	return left
}

// expired is Kafka's rule (KIP-211): without members the time counts from when the group became
// empty, or from the commit if that is not known; with them only topics that nobody reads expire.
func (g *group) expired(topic string, o offset, now time.Time, retention time.Duration) bool {
	since := o.committedMS
	switch {
	case g.protoType == "": // a simple consumer
	case g.state == Empty:
		if g.changedMS >= 0 {
			since = g.changedMS
		}
	case g.state == Stable && g.protoType == consumerProtocol && g.topics != nil:
		if g.subscribedTo(topic) {
			return false
		}
	default:
		return false
	}
	if o.expiresMS >= 0 {
		return now.UnixMilli() >= o.expiresMS
	}
	return now.UnixMilli()-since >= retention.Milliseconds()
}

// TopicsDeleted removes the offsets of topics that are gone.
func (m *Machine) TopicsDeleted(now time.Time, topics []string) coord.Step {
	m.begin(now)
	for _, t := range topics {
		m.gone[t] = now.UnixMilli()
	}
	m.purgeTopics(now)
	return m.end()
}

// purgeTopics writes the tombstones of deleted topics, some at a time.
func (m *Machine) purgeTopics(now time.Time) {
	for _, g := range m.groups {
		for topic, at := range m.gone {
			for p, o := range g.offsets[topic] {
				if o.committedMS > at {
					continue // of another topic of that name
				}
				if len(m.records) >= sweepRecords {
					m.timers.schedule(&m.purge, now.Add(sweepAgain))
					return
				}
				m.records = append(m.records, offsetTombstone(offsetKey{g.id, topic, p}))
			}
		}
	}
	for _, t := range m.txns {
		for k, o := range t.offsets {
			if at, gone := m.gone[k.topic]; gone && o.committedMS <= at {
				m.records = append(m.records, offsetTombstone(k))
			}
		}
	}
	clear(m.gone)
}
