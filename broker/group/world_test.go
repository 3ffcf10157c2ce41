package group

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
)

// world runs one Machine the way coord does: records are applied when an event returns, and replies
// leave when they are committed.
type world struct {
	t      testing.TB
	m      *Machine
	now    time.Time
	set    Settings
	limits Limits
	log    []entry
	ids    int
	out    bytes.Buffer
	lost   bool // appends fail
}

// entry is one record, or a marker, as the log has them.
type entry struct {
	rec    coord.Record
	info   coord.Info
	marker bool
	commit bool
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, now: time.UnixMilli(1_000_000_000).UTC(), set: DefaultSettings()}
	w.load()
	return w
}

// load is a shard that starts over what the log has.
func (w *world) load() {
	w.m = New(Config{
		Settings: func() Settings { return w.set }, Limits: w.limits,
		NewID: func() string { w.ids++; return strconv.Itoa(w.ids) },
		Log:   slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	for _, e := range w.log {
		if e.marker {
			w.must(w.m.Marker(e.info.ProducerID, e.info.ProducerEpoch, e.commit))
			continue
		}
		w.must(w.m.Apply(e.rec, e.info))
	}
	w.step(w.m.Loaded(w.now))
	w.check()
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) step(s coord.Step) {
	w.t.Helper()
	var err error
	if w.lost && len(s.Records) > 0 {
		err = coord.ErrNotCoordinator
	}
	for _, r := range s.Records {
		w.showRecord(r)
		info := coord.Info{Offset: int64(len(w.log)), Timestamp: w.now.UnixMilli(), ProducerID: -1, ProducerEpoch: -1}
		if s.Transactional {
			info.ProducerID, info.ProducerEpoch = s.ProducerID, s.ProducerEpoch
		}
		if err == nil {
			w.log = append(w.log, entry{rec: r, info: info})
		}
		w.must(w.m.Apply(r, info))
	}
	if s.Then != nil {
		s.Then(err)
	}
	w.check()
}

func (w *world) mark(producerID int64, commit bool) {
	info := coord.Info{ProducerID: producerID}
	w.log = append(w.log, entry{info: info, marker: true, commit: commit})
	w.must(w.m.Marker(producerID, 0, commit))
	w.check()
}

// pass lets time go by, with every deadline on its way.
func (w *world) pass(d time.Duration) {
	end := w.now.Add(d)
	for {
		at := w.m.NextTimer()
		if at.IsZero() || at.After(end) {
			break
		}
		if at.After(w.now) {
			w.now = at
		}
		w.step(w.m.Tick(w.now))
	}
	w.now = end
}

// check verifies what must hold between the fields of every group.
func (w *world) check() {
	w.t.Helper()
	memberBytes, offsetBytes := 0, 0
	for id, g := range w.m.groups {
		bytes, awaiting := 0, 0
		supported := map[string]int{}
		for _, mem := range g.members {
			bytes += mem.size()
			if mem.join != nil {
				awaiting++
			}
			if g.byID[mem.id] != mem || mem.instance != nil && g.static[*mem.instance] != mem {
				w.t.Fatalf("group %s: member %s is not found by its ids", id, mem.id)
			}
			for _, p := range mem.protocols {
				supported[p.name]++
			}
		}
		for id := range g.pending {
			bytes += len(id) + memberOverhead
		}
		for _, parts := range g.offsets {
			for _, o := range parts {
				offsetBytes += o.size()
			}
		}
		leads := g.byID[g.leader] != nil
		if bytes != g.bytes || awaiting != g.awaiting || !maps.Equal(supported, g.supported) || len(g.byID) != len(g.members) ||
			leads != (len(g.members) > 0) || g.state == Empty && len(g.members) > 0 {
			w.t.Fatalf("group %s: %d bytes, counted %d; %d await, counted %d; supports %v, counted %v; leader %q of %d; %s",
				id, g.bytes, bytes, g.awaiting, awaiting, g.supported, supported, g.leader, len(g.members), g.state)
		}
		memberBytes += bytes
	}
	for _, t := range w.m.txns {
		for _, o := range t.offsets {
			offsetBytes += o.size()
		}
	}
	if memberBytes != w.m.memberBytes || offsetBytes != w.m.offsetBytes {
		w.t.Fatalf("%d member bytes, counted %d; %d offset bytes, counted %d", w.m.memberBytes, memberBytes, w.m.offsetBytes, offsetBytes)
	}
}

func (w *world) printf(format string, args ...any) { fmt.Fprintf(&w.out, format, args...) }

func codeName(code int16) string {
	if code == 0 {
		return "ok"
	}
	return kerr.TypedErrorForCode(code).Message
}

func (w *world) showRecord(r coord.Record) {
	if binary.BigEndian.Uint16(r.Key) == keyMetadata {
		var k kmsg.GroupMetadataKey
		w.must(k.ReadFrom(r.Key))
		if r.Value == nil {
			w.printf("  record group %s tombstone\n", k.Group)
			return
		}
		var v kmsg.GroupMetadataValue
		w.must(v.ReadFrom(r.Value))
		w.printf("  record group %s generation=%d members=%d\n", k.Group, v.Generation, len(v.Members))
		return
	}
	g, topic, p, err := decodeOffsetKey(r.Key)
	w.must(err)
	if r.Value == nil {
		w.printf("  record offset %s %s/%d tombstone\n", g, topic, p)
		return
	}
	var v kmsg.OffsetCommitValue
	w.must(v.ReadFrom(r.Value))
	w.printf("  record offset %s %s/%d=%d v%d\n", g, topic, p, v.Offset, v.Version)
}

// showState prints everything that is kept.
func (w *world) showState() {
	for _, id := range slices.Sorted(maps.Keys(w.m.groups)) {
		g := w.m.groups[id]
		w.printf("  = %s %s generation=%d", id, g.state, g.generation)
		if g.protoType != "" {
			w.printf(" protocol=%s/%s", g.protoType, g.protocol)
		}
		for _, mem := range g.members {
			w.printf(" %s", w.showMember(g, mem))
		}
		for _, id := range slices.Sorted(maps.Keys(g.pending)) {
			w.printf(" pending:%s", id)
		}
		for _, t := range g.allOffsets() {
			for _, p := range t.Partitions {
				w.printf(" %s/%d=%d", t.Topic, p, g.offsets[t.Topic][p].at)
			}
		}
		w.printf("\n")
	}
	for _, id := range slices.Sorted(maps.Keys(w.m.txns)) {
		var parts []string
		for k, o := range w.m.txns[id].offsets {
			parts = append(parts, fmt.Sprintf("%s:%s/%d=%d", k.group, k.topic, k.partition, o.at))
		}
		slices.Sort(parts)
		w.printf("  = producer %d pending %s\n", id, strings.Join(parts, " "))
	}
}

func (w *world) showMember(g *group, mem *member) string {
	s := mem.id
	if g.leader == mem.id {
		s += "*"
	}
	if mem.instance != nil {
		s += "@" + *mem.instance
	}
	if mem.join != nil {
		s += "(joins)"
	}
	if mem.sync != nil {
		s += "(syncs)"
	}
	if len(mem.assignment) > 0 {
		s += "=" + string(mem.assignment)
	}
	return s
}

// subscription is what a consumer sends as its metadata.
func subscription(topics ...string) []byte {
	s := kmsg.NewConsumerMemberMetadata()
	s.Topics = topics
	return s.AppendTo(nil)
}

// offsetRecord is a commit of partition p of topic t.
func offsetRecord(group string, p int32, at time.Time) coord.Record {
	v := kmsg.NewOffsetCommitValue()
	v.Version, v.Offset, v.CommitTimestamp = valueOffset, 1, at.UnixMilli()
	return coord.Record{Key: offsetKey{group, "t", p}.encode(), Value: v.AppendTo(nil)}
}

func infoOf(i int) coord.Info { return coord.Info{Offset: int64(i), ProducerID: -1, ProducerEpoch: -1} }
