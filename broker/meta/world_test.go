package meta

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/hashicorp/raft"
)

// Fixed ids for tests: what they print is the same in every run.
const (
	testCluster = "AAAAAAAAQACAAAAAAAAAAQ"
	testDirA    = "AAAAAAAAQACAAAAAAAAAAg"
	testDirB    = "AAAAAAAAQACAAAAAAAAAAw"
	testTimeMS  = 1_700_000_000_000
)

func testID(n byte) TopicID { return TopicID{0: n, 6: 0x40, 8: 0x80, 15: n} }

// incarnation is a well-formed random id that is not random.
func incarnation(n int) string { return testID(byte(100 + n)).String() }

// world is a state machine fed by hand, as raft would: every proposal goes through its encoding.
type world struct {
	t     testing.TB
	f     *fsm
	log   [][]byte // every entry, by index from 1
	seq   map[NodeID]uint64
	epoch map[NodeID]int64
	boots int
	fatal error
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, seq: map[NodeID]uint64{}, epoch: map[NodeID]int64{}}
	w.f = newFSM(slog.New(slog.DiscardHandler), func(err error) { w.fatal = err })
	return w
}

func (w *world) img() *Image { return w.f.image.Load() }

// raw applies an encoded proposal as the next raft entry.
func (w *world) raw(data []byte) any {
	w.t.Helper()
	w.log = append(w.log, data)
	response := w.f.Apply(&raft.Log{Index: uint64(len(w.log)), Type: raft.LogCommand, Data: data})
	if w.fatal == nil {
		checkImage(w.t, w.img())
	}
	return response
}

func (w *world) send(p *proposal) []Result {
	w.t.Helper()
	data, err := p.encode()
	if err != nil {
		w.t.Fatal(err)
	}
	results, ok := w.raw(data).([]Result)
	if !ok {
		w.t.Fatalf("state machine stopped: %v", w.f.failed)
	}
	return results
}

// boot registers a new incarnation of a broker.
func (w *world) boot(id NodeID, dir string, clean bool) Result {
	w.t.Helper()
	w.boots++
	return w.register(&RegisterBroker{
		ClusterID: testCluster, Broker: id, DirectoryID: dir, Incarnation: incarnation(w.boots), Clean: clean,
		Host: fmt.Sprintf("broker-%d", id), Port: 9092,
	})
}

func (w *world) register(c *RegisterBroker) Result {
	w.t.Helper()
	r := w.send(&proposal{Broker: c.Broker, TimeMS: testTimeMS, Commands: []Command{c}})[0]
	if r.Err == nil {
		if w.epoch[c.Broker] != r.Value {
			w.seq[c.Broker] = 0
		}
		w.epoch[c.Broker] = r.Value
	}
	return r
}

// propose applies commands of a registered broker under its next sequence.
func (w *world) propose(id NodeID, commands ...Command) []Result {
	w.t.Helper()
	w.seq[id]++
	return w.send(&proposal{Broker: id, Epoch: w.epoch[id], Sequence: w.seq[id], TimeMS: testTimeMS, Commands: commands})
}

// must is propose of one command that is to succeed; its value is returned.
func (w *world) must(id NodeID, c Command) int64 {
	w.t.Helper()
	r := w.propose(id, c)[0]
	if r.Err != nil {
		w.t.Fatalf("%s: %v", c.kind(), r.Err)
	}
	return r.Value
}

// refused is propose of one command that is to be refused with want.
func (w *world) refused(id NodeID, want error, c Command) Result {
	w.t.Helper()
	before := w.img()
	r := w.propose(id, c)[0]
	if !errors.Is(r.Err, want) {
		w.t.Fatalf("%s: got %v, want %v", c.kind(), r.Err, want)
	}
	after := *w.img()
	after.Index = before.Index
	if !bytes.Equal(encodeImage(w.t, before), encodeImage(w.t, &after)) {
		w.t.Fatalf("%s was refused and changed the image", c.kind())
	}
	return r
}

// topic creates a topic whose partitions all have the given replicas.
func (w *world) topic(by NodeID, name string, n byte, partitions int, configs map[string]string, replicas ...NodeID) TopicID {
	w.t.Helper()
	c := &CreateTopic{Name: name, TopicID: testID(n), Configs: configs}
	for range partitions {
		c.Partitions = append(c.Partitions, replicas)
	}
	w.must(by, c)
	return c.TopicID
}

func (w *world) part(id TopicID) *Partition { return w.img().Partition(id, 0) }

// seats prints what a test of elections looks at.
func (w *world) seats(id TopicID) string {
	p := w.part(id)
	return fmt.Sprintf("leader %d epoch %d isr %v elr %v", p.Leader, p.LeaderEpoch, p.ISR, p.ELR)
}

func (w *world) wantSeats(id TopicID, want string) {
	w.t.Helper()
	if have := w.seats(id); have != want {
		w.t.Errorf("have %s, want %s", have, want)
	}
}

func encodeState(t testing.TB, f *fsm) []byte {
	t.Helper()
	s, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := s.(*snapshot).encode(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func encodeImage(t testing.TB, img *Image) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := (&snapshot{image: img}).encode(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// checkImage holds the lines that stand over Partition, and that the maps of an image agree.
func checkImage(t testing.TB, im *Image) {
	t.Helper()
	topics, parts := 0, 0
	for topic := range im.Topics() {
		topics++
		parts += topic.Partitions.Len()
		if im.Topic(topic.Name) != topic || im.TopicByID(topic.ID) != topic {
			t.Fatalf("topic %s differs between the maps", topic.Name)
		}
		if topic.Partitions.Len() > 64 {
			continue // big topics are for benchmarks
		}
		for i, p := range topic.Partitions.All() {
			switch {
			case p.LogStart > p.TieredEnd(), p.Tier.LogStart > p.LogStart:
				t.Fatalf("%s/%d: log start %d, tier [%d, %d)", topic.Name, i, p.LogStart, p.Tier.LogStart, p.TieredEnd())
			case p.Leader != NoNode && !p.InISR(p.Leader):
				t.Fatalf("%s/%d: leader %d is not in ISR %v", topic.Name, i, p.Leader, p.ISR)
			}
			seats := append(append([]NodeID(nil), p.ISR...), p.ELR...)
			for j, id := range seats {
				if !p.HasReplica(id) || bytes.Contains(fmtIDs(seats[:j]), fmtIDs([]NodeID{id})) {
					t.Fatalf("%s/%d: ISR %v and ELR %v of %v", topic.Name, i, p.ISR, p.ELR, p.Replicas)
				}
			}
		}
	}
	if topics != im.TopicCount() || parts != im.PartitionCount {
		t.Fatalf("%d topics with %d partitions, counted %d and %d", topics, parts, im.TopicCount(), im.PartitionCount)
	}
}

func fmtIDs(ids []NodeID) []byte {
	var b []byte
	for _, id := range ids {
		b = fmt.Appendf(b, "<%d>", id)
	}
	return b
}
