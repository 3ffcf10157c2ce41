package group

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/record"
)

// offset is one committed offset.
type offset struct {
	at          int64
	epoch       int32 // leader epoch of the record before, -1 not told
	metadata    string
	committedMS int64
	expiresMS   int64 // -1: by the broker's retention
	logOffset   int64 // of its record: of two commits the later one holds
}

type offsetKey struct {
	group, topic string
	partition    int32
}

// txn is what one open transaction committed in this shard.
type txn struct {
	offsets map[offsetKey]offset
	groups  map[string]struct{} // that have, or had, some of them
}

// offsetOverhead is about what an offset takes beside its metadata string.
const offsetOverhead = 128

func (o offset) size() int { return offsetOverhead + len(o.metadata) }

func (m *Machine) addGroup(id string) *group {
	g := newGroup(id)
	m.groups[id] = g
	return g
}

// dropIfUnused forgets a group that the log does not know: one that was asked for and came to nothing.
func (m *Machine) dropIfUnused(g *group) {
	if g.state == Empty && !g.recorded && len(g.pending) == 0 && len(g.offsets) == 0 && len(g.txns) == 0 {
		delete(m.groups, g.id)
	}
}

// dropGroup forgets a deleted group; its offsets have had tombstones of their own.
func (m *Machine) dropGroup(g *group) {
	for _, parts := range g.offsets {
		for _, o := range parts {
			m.offsetBytes -= o.size()
		}
	}
	for _, mem := range g.members {
		m.timers.cancel(&mem.expires)
	}
	for id := range g.pending {
		m.dropPending(g, id)
	}
	m.timers.cancel(&g.joinTimer)
	m.timers.cancel(&g.syncTimer)
	m.account(g, -g.bytes)
	delete(m.groups, g.id)
}

func (m *Machine) applyOffset(rec coord.Record, info coord.Info) error {
	groupID, topic, p, err := decodeOffsetKey(rec.Key)
	if err != nil {
		return err
	}
	g := m.groups[string(groupID)]
	if rec.Value == nil {
		if g != nil {
			m.removeOffset(g, string(topic), p)
		}
		return nil
	}
	var v kmsg.OffsetCommitValue
	if err := v.ReadFrom(rec.Value); err != nil {
		return fmt.Errorf("offset of group %q: %w", groupID, err)
	}
	o := offset{
		at: v.Offset, epoch: -1, metadata: v.Metadata, committedMS: v.CommitTimestamp, expiresMS: -1, logOffset: info.Offset,
	}
	if v.Version >= 3 {
		o.epoch = v.LeaderEpoch
	}
	if v.Version == valueOffsetExpiry {
		o.expiresMS = v.ExpireTimestamp
	}
	if g == nil {
		g = m.addGroup(string(groupID))
	}
	if info.ProducerID != record.NoProducerID {
		m.putPending(g, string(topic), p, info.ProducerID, o)
		return nil
	}
	m.putOffset(g, string(topic), p, o)
	return nil
}

func (m *Machine) putOffset(g *group, topic string, p int32, o offset) {
	parts := g.offsets[topic]
	if parts == nil {
		if g.offsets == nil {
			g.offsets = map[string]map[int32]offset{}
		}
		parts = map[int32]offset{}
		g.offsets[topic] = parts
	}
	if old, ok := parts[p]; ok {
		m.offsetBytes -= old.size()
	}
	parts[p] = o
	m.offsetBytes += o.size()
}

func (m *Machine) putPending(g *group, topic string, p int32, producerID int64, o offset) {
	t := m.txns[producerID]
	if t == nil {
		t = &txn{offsets: map[offsetKey]offset{}, groups: map[string]struct{}{}}
		m.txns[producerID] = t
	}
	if g.txns == nil {
		g.txns = map[int64]struct{}{}
	}
	g.txns[producerID], t.groups[g.id] = struct{}{}, struct{}{}
	k := offsetKey{g.id, topic, p}
	if old, ok := t.offsets[k]; ok {
		m.offsetBytes -= old.size()
	}
	t.offsets[k] = o
	m.offsetBytes += o.size()
}

// removeOffset takes a committed offset away, and pending ones with it.
func (m *Machine) removeOffset(g *group, topic string, p int32) {
	if o, ok := g.offsets[topic][p]; ok {
		m.offsetBytes -= o.size()
		delete(g.offsets[topic], p)
		if len(g.offsets[topic]) == 0 {
			delete(g.offsets, topic)
		}
	}
	k := offsetKey{g.id, topic, p}
	for id := range g.txns {
		if o, ok := m.txns[id].offsets[k]; ok {
			m.offsetBytes -= o.size()
			delete(m.txns[id].offsets, k)
		}
	}
}

// Marker ends a transaction: what it committed becomes visible, unless a later commit is there.
func (m *Machine) Marker(producerID int64, _ int16, commit bool) error {
	t := m.txns[producerID]
	if t == nil {
		return nil
	}
	delete(m.txns, producerID)
	for id := range t.groups {
		if g := m.groups[id]; g != nil {
			delete(g.txns, producerID)
		}
	}
	for k, o := range t.offsets {
		m.offsetBytes -= o.size()
		g := m.groups[k.group]
		if !commit || g == nil {
			continue
		}
		if have, ok := g.offsets[k.topic][k.partition]; !ok || have.logOffset < o.logOffset {
			m.putOffset(g, k.topic, k.partition, o)
		}
	}
	return nil
}

// unstable tells whether an open transaction has an offset for the partition (KIP-447).
func (m *Machine) unstable(g *group, topic string, p int32) bool {
	for id := range g.txns {
		if _, ok := m.txns[id].offsets[offsetKey{g.id, topic, p}]; ok {
			return true
		}
	}
	return false
}

// committing is one OffsetCommit or TxnOffsetCommit at work: the two differ in who may send them and
// in nothing else.
type committing struct {
	group      string
	memberID   string
	instance   *string
	generation int32
	expires    time.Duration // -1: by the broker's retention
	txn        bool
	version    int16
	bytes      int // of the records, at most
}

// CommitOffsets commits offsets of a group, or of a simple consumer (generation -1). Topics must be
// known to exist; they are named by name.
func (m *Machine) CommitOffsets(now time.Time, req *kmsg.OffsetCommitRequest, reply func(*kmsg.OffsetCommitResponse)) coord.Step {
	m.begin(now)
	c := committing{
		group: req.Group, memberID: req.MemberID, instance: req.InstanceID, generation: req.Generation, expires: -1, version: req.Version,
	}
	if req.RetentionTimeMillis >= 0 && req.Version >= 2 && req.Version <= 4 {
		c.expires = time.Duration(min(req.RetentionTimeMillis, int64(maxRetentionMS))) * time.Millisecond
	}
	for _, t := range req.Topics {
		for i := range t.Partitions {
			c.add(t.Topic, t.Partitions[i].Metadata)
		}
	}
	code := m.checkCommit(&c)
	resp := kmsg.NewPtrOffsetCommitResponse()
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition = p.Partition
			rp.ErrorCode = m.commit(&c, code, t.Topic, p.Partition, p.Offset, p.LeaderEpoch, p.Metadata)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	m.answer(func(err error) {
		for i := range resp.Topics {
			for j := range resp.Topics[i].Partitions {
				if p := &resp.Topics[i].Partitions[j]; err != nil && p.ErrorCode == 0 {
					p.ErrorCode = codeOf(err)
				}
			}
		}
		reply(resp)
	})
	return m.end()
}

// maxRetentionMS is a hundred years, which still fits a time.Duration.
const maxRetentionMS = 100 * 365 * 24 * 3600 * 1000

// CommitTxnOffsets commits offsets as part of a producer's transaction: they are pending until its
// Marker. The caller has verified that the transaction is open and covers this group.
func (m *Machine) CommitTxnOffsets(now time.Time, req *kmsg.TxnOffsetCommitRequest, reply func(*kmsg.TxnOffsetCommitResponse)) coord.Step {
	m.begin(now)
	c := committing{
		group: req.Group, memberID: req.MemberID, instance: req.InstanceID, generation: req.Generation,
		expires: -1, txn: true, version: req.Version,
	}
	for _, t := range req.Topics {
		for i := range t.Partitions {
			c.add(t.Topic, t.Partitions[i].Metadata)
		}
	}
	code := m.checkCommit(&c)
	resp := kmsg.NewPtrTxnOffsetCommitResponse()
	for _, t := range req.Topics {
		rt := kmsg.NewTxnOffsetCommitResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			rp.Partition = p.Partition
			rp.ErrorCode = m.commit(&c, code, t.Topic, p.Partition, p.Offset, p.LeaderEpoch, p.Metadata)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	m.answer(func(err error) {
		for i := range resp.Topics {
			for j := range resp.Topics[i].Partitions {
				if p := &resp.Topics[i].Partitions[j]; err != nil && p.ErrorCode == 0 {
					p.ErrorCode = codeOf(err)
				}
			}
		}
		reply(resp)
	})
	step := m.end()
	step.Transactional, step.ProducerID, step.ProducerEpoch = true, req.ProducerID, req.ProducerEpoch
	return step
}

// add counts what a commit of one partition would take at most.
func (c *committing) add(topic string, metadata *string) {
	c.bytes += len(c.group) + len(topic) + offsetOverhead
	if metadata != nil {
		c.bytes += len(*metadata)
	}
}

// checkCommit decides whether the sender may commit. A group that nobody knows is made for a simple
// consumer, which names no generation; the group exists once its first offset is applied.
func (m *Machine) checkCommit(c *committing) *kerr.Error {
	g := m.groups[c.group]
	switch {
	case len(c.group) > maxString, c.txn && c.group == "":
		return kerr.InvalidGroupID
	case c.bytes > coord.MaxStepBytes/2 || m.offsetBytes+c.bytes > m.cfg.Limits.OffsetBytes:
		return kerr.InvalidCommitOffsetSize
	case g == nil && c.generation >= 0 && c.version >= 9 && !c.txn:
		return kerr.GroupIDNotFound
	case g == nil && c.generation >= 0:
		return kerr.IllegalGeneration
	case g == nil && len(m.groups) >= m.cfg.Limits.Groups:
		return kerr.InvalidCommitOffsetSize
	case g == nil:
		return nil
	}
	return m.checkMemberCommit(g, c)
}

func (m *Machine) checkMemberCommit(g *group, c *committing) *kerr.Error {
	switch {
	case c.generation < 0 && g.state == Empty:
		return nil
	case c.generation >= 0 || c.memberID != "" || c.instance != nil:
		if code := g.validate(c.memberID, c.instance); code != nil {
			return code
		}
		if c.generation != g.generation {
			return kerr.IllegalGeneration
		}
	case !c.txn: // no member at all, and the group has some
		return kerr.UnknownMemberID
	}
	if c.txn {
		return nil
	}
	switch g.state {
	case CompletingRebalance: // its generation is right: it is to sync first
		return kerr.RebalanceInProgress
	case Stable, PreparingRebalance:
		if mem := g.byID[c.memberID]; mem != nil {
			m.touch(g, mem)
		}
	case Empty: // nobody to keep alive
	}
	return nil
}

// commit adds the record of one partition, unless something is wrong with it.
func (m *Machine) commit(c *committing, code *kerr.Error, topic string, p int32, at int64, epoch int32, metadata *string) int16 {
	if code != nil {
		return code.Code
	}
	v := kmsg.NewOffsetCommitValue()
	v.Version, v.Offset, v.LeaderEpoch, v.CommitTimestamp = valueOffset, at, epoch, m.now.UnixMilli()
	if metadata != nil {
		v.Metadata = *metadata
	}
	if len(v.Metadata) > m.cfg.Settings().OffsetMetadataMax || len(v.Metadata) > maxString {
		return kerr.OffsetMetadataTooLarge.Code
	}
	if len(topic) > maxString {
		return kerr.InvalidTopicException.Code
	}
	if c.expires >= 0 {
		v.Version, v.ExpireTimestamp = valueOffsetExpiry, m.now.Add(c.expires).UnixMilli()
	}
	m.records = append(m.records, coord.Record{Key: offsetKey{c.group, topic, p}.encode(), Value: v.AppendTo(nil)})
	return 0
}
