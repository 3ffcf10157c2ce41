package meta

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"maps"
	"slices"

	"github.com/hashicorp/raft"
)

// A snapshot is JSON lines: {"type":T,"data":{...}}. The first is "header", the last "end" with
// the number of lines before it and the CRC32C of their bytes. Between them, in this order:
// brokers by id, configs (cluster, then brokers by id), quotas by entity, result windows by broker each followed by
// its results by sequence, topics by name each followed by its partitions, deleted topics by id.
// One state has one encoding. A line is bounded, so a snapshot of any size is read in little memory.
const (
	snapshotVersion = 1
	// maxSnapshotLine is far above the longest line: 256 partitions of 32 replicas in three lists
	// take about 200 KB, results of 1,024 refused commands about 700 KB.
	maxSnapshotLine = 4 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// snapshot is the state at one raft index, safe to persist while the state machine goes on.
type snapshot struct {
	image   *Image
	windows map[NodeID]*window
}

type snapshotLine struct {
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

type (
	headerLine struct {
		V                int    `json:"v"`
		Index            uint64 `json:"index"`
		ClusterID        string `json:"cluster_id"`
		FeatureLevel     int32  `json:"feature_level"`
		NextProducerID   int64  `json:"next_producer_id"`
		UncleanElections int64  `json:"unclean_elections"`
	}
	windowLine struct {
		Broker NodeID `json:"broker"`
		Epoch  int64  `json:"epoch"`
		Floor  uint64 `json:"floor"`
	}
	topicLine struct {
		Name         string            `json:"name"`
		ID           TopicID           `json:"id"`
		Configs      map[string]string `json:"configs,omitempty"`
		Partitions   int               `json:"partitions"`
		CreatedMS    int64             `json:"created_ms"`
		CreatedIndex uint64            `json:"created_index"`
		ConfigIndex  uint64            `json:"config_index"`
		CachedUntil  uint64            `json:"cached_until,omitempty"`
	}
	partitionsLine struct {
		First int          `json:"first"`
		List  []*Partition `json:"list"`
	}
	endLine struct {
		Lines int    `json:"lines"`
		CRC   uint32 `json:"crc32c"`
	}
)

// Persist implements raft.FSMSnapshot.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.encode(sink); err != nil {
		return errors.Join(fmt.Errorf("persist metadata snapshot: %w", err), sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (s *snapshot) Release() {}

func (s *snapshot) encode(w io.Writer) error {
	e := &snapshotWriter{buf: bufio.NewWriterSize(w, 64<<10), crc: crc32.New(castagnoli)}
	im := s.image
	e.line("header", headerLine{
		snapshotVersion, im.Index, im.ClusterID, im.FeatureLevel, im.NextProducerID, im.UncleanElections,
	})
	for _, b := range im.brokers {
		e.line("broker", b)
	}
	for _, r := range im.configs {
		e.line("configs", r)
	}
	for q := range im.ClientQuotas() {
		e.line("quota", q)
	}
	for _, id := range slices.Sorted(maps.Keys(s.windows)) {
		win := s.windows[id]
		e.line("window", windowLine{id, win.epoch, win.floor})
		for _, entry := range win.entries {
			e.line("results", entry)
		}
	}
	for t := range im.Topics() {
		e.topic(t)
	}
	for d := range im.DeletedTopics() {
		e.line("deleted_topic", d)
	}
	e.line("end", endLine{e.lines, e.crc.Sum32()})
	if e.err != nil {
		return e.err
	}
	return e.buf.Flush()
}

// snapshotWriter keeps the first error, so that encode reads straight down.
type snapshotWriter struct {
	buf   *bufio.Writer
	crc   hash.Hash32
	lines int
	err   error
}

func (e *snapshotWriter) topic(t *Topic) {
	e.line("topic", topicLine{
		t.Name, t.ID, t.Configs, t.Partitions.Len(), t.CreatedMS, t.CreatedIndex, t.ConfigIndex, t.cachedUntil,
	})
	first := 0
	for _, chunk := range t.Partitions.chunks {
		e.line("partitions", partitionsLine{first, chunk})
		first += len(chunk)
	}
}

func (e *snapshotWriter) line(kind string, data any) {
	if e.err != nil {
		return
	}
	raw, err := json.Marshal(data)
	if err != nil {
		e.err = err
		return
	}
	b, err := json.Marshal(snapshotLine{kind, raw})
	if err != nil {
		e.err = err
		return
	}
	b = append(b, '\n')
	e.crc.Write(b)
	e.lines++
	_, e.err = e.buf.Write(b)
}
