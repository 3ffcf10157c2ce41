package meta

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
)

// decodeSnapshot reads what encode wrote. What does not have its exact form is an error: a state
// machine restored from half a snapshot would fork.
func decodeSnapshot(r io.Reader) (*snapshot, error) {
	d := &snapshotReader{buf: bufio.NewReaderSize(r, 64<<10), s: &snapshot{image: newImage(), windows: map[NodeID]*window{}}}
	for !d.ended {
		if err := d.line(); err != nil {
			return nil, fmt.Errorf("line %d: %w", d.lines+1, err)
		}
	}
	if _, err := d.buf.ReadByte(); err != io.EOF {
		return nil, errors.New("bytes after the end line")
	}
	d.finish()
	return d.s, nil
}

type snapshotReader struct {
	buf   *bufio.Reader
	s     *snapshot
	crc   uint32 // of the lines before the present one
	lines int
	rank  int // of the last line's type; ranks never fall
	ended bool

	window  *window // whose results are being read
	topic   *Topic  // whose partitions are being read; want says how many there are
	want    int
	parts   []*Partition
	topics  []mapEntry[string, *Topic]
	deleted []mapEntry[TopicID, *DeletedTopic]
	quotas  []mapEntry[string, *ClientQuota]
}

// lineRanks gives the order of the line types.
var lineRanks = map[string]int{
	"header": 1, "broker": 2, "configs": 3, "quota": 4, "window": 5, "results": 5,
	"topic": 6, "partitions": 6, "deleted_topic": 7, "end": 8,
}

func (d *snapshotReader) line() error {
	b, err := d.readLine()
	if err != nil {
		return err
	}
	var l snapshotLine
	if err := decodeStrict(b, &l); err != nil {
		return err
	}
	rank := lineRanks[l.Type]
	if rank == 0 || rank < d.rank || (rank == 1) != (d.lines == 0) || d.rank == 0 && rank != 1 {
		return fmt.Errorf("%.40q is out of place", l.Type)
	}
	if l.Type != "partitions" {
		if err := d.endTopic(); err != nil {
			return err
		}
	}
	d.rank = rank
	if err := d.data(l.Type, l.Data); err != nil {
		return err
	}
	d.crc = crc32.Update(d.crc, castagnoli, b)
	d.lines++
	return nil
}

// readLine reads one line with its newline, at most maxSnapshotLine bytes, growing as bytes arrive.
func (d *snapshotReader) readLine() ([]byte, error) {
	var line []byte
	for {
		part, err := d.buf.ReadSlice('\n')
		if len(line)+len(part) > maxSnapshotLine {
			return nil, fmt.Errorf("longer than %d bytes", maxSnapshotLine)
		}
		line = append(line, part...)
		if err == nil {
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, fmt.Errorf("snapshot is cut off: %w", err)
		}
	}
}

func (d *snapshotReader) data(kind string, b []byte) error {
	switch kind {
	case "header":
		return d.header(b)
	case "broker":
		return d.broker(b)
	case "configs":
		return d.configs(b)
	case "quota":
		return d.quota(b)
	case "window":
		return d.windowLine(b)
	case "results":
		return d.results(b)
	case "topic":
		return d.topicLine(b)
	case "partitions":
		return d.partitions(b)
	case "deleted_topic":
		return d.deletedTopic(b)
	default:
		return d.end(b)
	}
}

func (d *snapshotReader) header(b []byte) error {
	var h headerLine
	if err := decodeStrict(b, &h); err != nil {
		return err
	}
	if h.V != snapshotVersion {
		return fmt.Errorf("snapshot version %d, this program knows %d", h.V, snapshotVersion)
	}
	if h.NextProducerID < 0 {
		return fmt.Errorf("next producer id %d", h.NextProducerID)
	}
	im := d.s.image
	im.Index, im.ClusterID, im.FeatureLevel = h.Index, h.ClusterID, h.FeatureLevel
	im.NextProducerID, im.UncleanElections = h.NextProducerID, h.UncleanElections
	return nil
}

func (d *snapshotReader) broker(b []byte) error {
	br := new(Broker)
	if err := decodeStrict(b, br); err != nil {
		return err
	}
	brokers := d.s.image.brokers
	if br.ID < 1 || len(brokers) > 0 && brokers[len(brokers)-1].ID >= br.ID {
		return fmt.Errorf("broker %d is out of order", br.ID)
	}
	d.s.image.brokers = append(brokers, br)
	return nil
}

func (d *snapshotReader) configs(b []byte) error {
	var r resourceConfigs
	if err := decodeStrict(b, &r); err != nil {
		return err
	}
	configs := d.s.image.configs
	if len(r.Configs) == 0 || len(configs) > 0 && configs[len(configs)-1].Broker >= r.Broker {
		return fmt.Errorf("configs of broker %d are empty or out of order", r.Broker)
	}
	d.s.image.configs = append(configs, r)
	return nil
}

func (d *snapshotReader) quota(b []byte) error {
	q := new(ClientQuota)
	if err := decodeStrict(b, q); err != nil {
		return err
	}
	key := q.Entity.key()
	if n := len(d.quotas); q.Entity.fault() != "" || len(q.Values) == 0 || n > 0 && d.quotas[n-1].key >= key {
		return fmt.Errorf("quota of %.200s is empty, of nobody or out of order", key)
	}
	d.quotas = append(d.quotas, mapEntry[string, *ClientQuota]{key, q})
	return nil
}

func (d *snapshotReader) windowLine(b []byte) error {
	var w windowLine
	if err := decodeStrict(b, &w); err != nil {
		return err
	}
	if d.s.windows[w.Broker] != nil {
		return fmt.Errorf("window of broker %d comes twice", w.Broker)
	}
	d.window = &window{epoch: w.Epoch, floor: w.Floor}
	d.s.windows[w.Broker] = d.window
	return nil
}

func (d *snapshotReader) results(b []byte) error {
	var e windowEntry
	if err := decodeStrict(b, &e); err != nil {
		return err
	}
	last := uint64(0)
	if d.window != nil {
		if last = d.window.floor; len(d.window.entries) > 0 {
			last = d.window.entries[len(d.window.entries)-1].Sequence
		}
	}
	if d.window == nil || e.Sequence <= last || len(d.window.entries) >= windowEntries {
		return fmt.Errorf("results of sequence %d are out of order", e.Sequence)
	}
	for _, o := range e.Results {
		if o.Code != "" && codeErrors[o.Code] == nil {
			return fmt.Errorf("unknown result code %.40q", string(o.Code))
		}
	}
	d.window.entries = append(d.window.entries, e)
	return nil
}

func (d *snapshotReader) topicLine(b []byte) error {
	var l topicLine
	if err := decodeStrict(b, &l); err != nil {
		return err
	}
	if err := ValidateTopicName(l.Name); err != nil {
		return err
	}
	if n := len(d.topics); n > 0 && d.topics[n-1].key >= l.Name {
		return fmt.Errorf("topic %s is out of order", l.Name)
	}
	if l.ID.IsZero() || l.Partitions < 1 || l.Partitions > MaxPartitions {
		return fmt.Errorf("topic %s has id %s and %d partitions", l.Name, l.ID, l.Partitions)
	}
	if len(l.Configs) == 0 {
		l.Configs = nil
	}
	d.topic = &Topic{
		Name: l.Name, ID: l.ID, Configs: l.Configs, CreatedMS: l.CreatedMS,
		CreatedIndex: l.CreatedIndex, ConfigIndex: l.ConfigIndex, cachedUntil: l.CachedUntil,
	}
	d.want, d.parts = l.Partitions, nil
	return nil
}

func (d *snapshotReader) partitions(b []byte) error {
	var l partitionsLine
	if err := decodeStrict(b, &l); err != nil {
		return err
	}
	if d.topic == nil || l.First != len(d.parts) || len(d.parts)+len(l.List) > d.want {
		return fmt.Errorf("partitions from %d are out of place", l.First)
	}
	for i, p := range l.List {
		if p == nil || len(p.Replicas) == 0 || len(p.Replicas) > maxReplicas {
			return fmt.Errorf("partition %d has no replicas or too many", l.First+i)
		}
		for _, id := range slices.Concat(p.ISR, p.ELR) {
			if !p.HasReplica(id) {
				return fmt.Errorf("partition %d: %d in ISR or ELR is no replica", l.First+i, id)
			}
		}
		p.ISR, p.ELR = clipEmpty(p.ISR), clipEmpty(p.ELR)
	}
	d.parts = append(d.parts, l.List...)
	return nil
}

// clipEmpty makes nil of an empty list: one state has one form.
func clipEmpty(ids []NodeID) []NodeID {
	if len(ids) == 0 {
		return nil
	}
	return ids
}

// endTopic closes the topic whose partitions were read, if there is one.
func (d *snapshotReader) endTopic() error {
	if d.topic == nil {
		return nil
	}
	if len(d.parts) != d.want {
		return fmt.Errorf("topic %s has %d partitions of %d", d.topic.Name, len(d.parts), d.want)
	}
	d.topic.Partitions = newPartitionList(d.parts)
	d.topics = append(d.topics, mapEntry[string, *Topic]{d.topic.Name, d.topic})
	d.topic, d.parts = nil, nil
	return nil
}

func (d *snapshotReader) deletedTopic(b []byte) error {
	t := new(DeletedTopic)
	if err := decodeStrict(b, t); err != nil {
		return err
	}
	if n := len(d.deleted); n > 0 && compareIDs(d.deleted[n-1].key, t.ID) >= 0 {
		return fmt.Errorf("deleted topic %s is out of order", t.ID)
	}
	d.deleted = append(d.deleted, mapEntry[TopicID, *DeletedTopic]{t.ID, t})
	return nil
}

func (d *snapshotReader) end(b []byte) error {
	var l endLine
	if err := decodeStrict(b, &l); err != nil {
		return err
	}
	if l.Lines != d.lines || l.CRC != d.crc {
		return fmt.Errorf("snapshot has %d lines with CRC %08x, its end says %d with %08x", d.lines, d.crc, l.Lines, l.CRC)
	}
	byID := slices.Clone(d.topics)
	slices.SortFunc(byID, func(a, b mapEntry[string, *Topic]) int { return compareIDs(a.value.ID, b.value.ID) })
	for i := 1; i < len(byID); i++ {
		if byID[i-1].value.ID == byID[i].value.ID {
			return fmt.Errorf("topics %s and %s have one id", byID[i-1].key, byID[i].key)
		}
	}
	d.ended = true
	return nil
}

// finish builds the image's maps from the lists.
func (d *snapshotReader) finish() {
	im := d.s.image
	im.topics = newSortedMap(strings.Compare, d.topics)
	byID := make([]mapEntry[TopicID, *Topic], 0, len(d.topics))
	for _, e := range d.topics {
		byID = append(byID, mapEntry[TopicID, *Topic]{e.value.ID, e.value})
		im.PartitionCount += e.value.Partitions.Len()
		if key := collisionKey(e.key); key != "" {
			im.collisions = im.collisions.with(key, e.key)
		}
	}
	slices.SortFunc(byID, func(a, b mapEntry[TopicID, *Topic]) int { return compareIDs(a.key, b.key) })
	im.byID = newSortedMap(compareIDs, byID)
	im.deleted = newSortedMap(compareIDs, d.deleted)
	im.quotas = newSortedMap(strings.Compare, d.quotas)
}
