package group

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
)

// Versions of the keys in __consumer_offsets, which are Kafka's: 0 and 1 are offsets, 2 is the
// metadata of a classic group. Others are passed over: they belong to protocols that this shard
// does not keep.
const (
	keyOffset0  = 0
	keyOffset   = 1
	keyMetadata = 2
)

// Versions of the values that are written. 3 of group metadata has instance ids; 1 of an offset has
// an expiry, which only old clients ask for, and 3 has the leader epoch.
const (
	valueMetadata     = 3
	valueOffset       = 3
	valueOffsetExpiry = 1
)

// Apply takes one record of the log into the state. Offsets go through here always. The metadata of
// a group is taken from the log at load alone: later it is what the events left in memory, where the
// members' parked requests are too.
func (m *Machine) Apply(rec coord.Record, info coord.Info) error {
	if len(rec.Key) < 2 {
		return fmt.Errorf("key of %d bytes", len(rec.Key))
	}
	switch version := int16(binary.BigEndian.Uint16(rec.Key)); version {
	case keyOffset0, keyOffset:
		return m.applyOffset(rec, info)
	case keyMetadata:
		return m.applyMetadata(rec)
	default:
		m.cfg.Log.Debug("record of another protocol passed over", "key_version", version)
		return nil
	}
}

func (m *Machine) applyMetadata(rec coord.Record) error {
	var key kmsg.GroupMetadataKey
	if err := key.ReadFrom(rec.Key); err != nil {
		return fmt.Errorf("group metadata key: %w", err)
	}
	switch {
	case rec.Value == nil:
		if g := m.groups[key.Group]; g != nil {
			m.dropGroup(g)
		}
		return nil
	case m.live:
		return nil
	}
	var v kmsg.GroupMetadataValue
	if err := v.ReadFrom(rec.Value); err != nil {
		return fmt.Errorf("metadata of group %q: %w", key.Group, err)
	}
	return m.restore(key.Group, &v)
}

// restore makes a group as the log has it. What an earlier record of the same log said is replaced,
// but the offsets stay.
func (m *Machine) restore(id string, v *kmsg.GroupMetadataValue) error {
	g := m.groups[id]
	if g == nil {
		g = m.addGroup(id)
	}
	old := g
	g = newGroup(id)
	g.offsets, g.txns = old.offsets, old.txns
	m.account(old, -old.bytes)
	m.groups[id] = g
	g.recorded = true
	g.generation, g.protoType, g.changedMS = v.Generation, v.ProtocolType, v.CurrentStateTimestamp
	if v.Protocol != nil {
		g.protocol = *v.Protocol
	}
	for i := range v.Members {
		x := &v.Members[i]
		if g.byID[x.MemberID] != nil || x.InstanceID != nil && g.static[*x.InstanceID] != nil {
			return fmt.Errorf("metadata of group %q: member %q twice", id, x.MemberID)
		}
		mem := &member{
			id: x.MemberID, instance: x.InstanceID, clientID: x.ClientID, clientHost: x.ClientHost,
			session: millis(x.SessionTimeoutMillis), rebalance: millis(x.RebalanceTimeoutMillis),
			assignment: bytes.Clone(x.Assignment),
			protocols:  []protocol{{g.protocol, bytes.Clone(x.Subscription)}},
		}
		if x.RebalanceTimeoutMillis < 0 {
			mem.rebalance = mem.session
		}
		m.insertMember(g, mem)
	}
	if len(g.members) > 0 {
		g.state = Stable
	}
	if v.Leader != nil && g.byID[*v.Leader] != nil {
		g.leader = *v.Leader
	}
	g.readTopics()
	return nil
}

// record writes the group as it is.
func (m *Machine) record(g *group) {
	key := kmsg.NewGroupMetadataKey()
	key.Version, key.Group = keyMetadata, g.id
	v := kmsg.NewGroupMetadataValue()
	v.Version, v.ProtocolType, v.Generation, v.CurrentStateTimestamp = valueMetadata, g.protoType, g.generation, g.changedMS
	if g.protocol != "" {
		v.Protocol = &g.protocol
	}
	if g.leader != "" {
		v.Leader = &g.leader
	}
	for _, mem := range g.members {
		x := kmsg.NewGroupMetadataValueMember()
		x.MemberID, x.InstanceID, x.ClientID, x.ClientHost = mem.id, mem.instance, mem.clientID, mem.clientHost
		x.SessionTimeoutMillis, x.RebalanceTimeoutMillis = ms32(mem.session), ms32(mem.rebalance)
		x.Subscription, x.Assignment = mem.metadata(g.protocol), mem.assignment
		v.Members = append(v.Members, x)
	}
	g.recorded = true
	m.records = append(m.records, coord.Record{Key: key.AppendTo(nil), Value: v.AppendTo(nil)})
}

func ms32(d time.Duration) int32 { return int32(d.Milliseconds()) }

// tombstones delete a group or an offset.
func metadataTombstone(group string) coord.Record {
	key := kmsg.NewGroupMetadataKey()
	key.Version, key.Group = keyMetadata, group
	return coord.Record{Key: key.AppendTo(nil)}
}

func offsetTombstone(k offsetKey) coord.Record { return coord.Record{Key: k.encode()} }

// encode is int16 version, group, topic (int16 lengths), int32 partition.
func (k offsetKey) encode() []byte {
	b := make([]byte, 0, 10+len(k.group)+len(k.topic))
	b = binary.BigEndian.AppendUint16(b, keyOffset)
	for _, s := range []string{k.group, k.topic} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	return binary.BigEndian.AppendUint32(b, uint32(k.partition))
}

var errShortKey = errors.New("offset key is cut short")

// decodeOffsetKey returns views of b.
func decodeOffsetKey(b []byte) (group, topic []byte, partition int32, err error) {
	b = b[2:]
	for _, to := range []*[]byte{&group, &topic} {
		if len(b) < 2 {
			return nil, nil, 0, errShortKey
		}
		n := int(binary.BigEndian.Uint16(b))
		if n > maxString || n > len(b)-2 {
			return nil, nil, 0, errShortKey
		}
		*to, b = b[2:2+n], b[2+n:]
	}
	if len(b) != 4 {
		return nil, nil, 0, errShortKey
	}
	return group, topic, int32(binary.BigEndian.Uint32(b)), nil
}
