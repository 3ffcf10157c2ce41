package commitlog

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"varve/broker/internal/vfs"
	"varve/broker/record"
)

// modelRecord is one record as it was appended.
type modelRecord struct {
	key, value []byte // value nil: a tombstone
	ts         int64
	appendedMS int64
	aborted    bool
	control    bool
	open       bool // its transaction has not ended
}

// compactModel is a log beside the plain list of what was appended to it.
type compactModel struct {
	t       testing.TB
	rng     *rand.Rand
	mem     *vfs.Mem
	clock   *clock
	env     *Env
	l       testLog
	keys    int
	records map[int64]*modelRecord
	seqs    map[int64]int32 // next sequence of each producer
	txns    map[int64][]int64
	epoch   int32
	retain  time.Duration
	steps   *stepCount
}

func newCompactModel(t testing.TB, seed uint64, keys int) *compactModel {
	m := &compactModel{
		t: t, rng: newRand(seed), mem: vfs.NewMem(), clock: newClock(), keys: keys, records: map[int64]*modelRecord{},
		seqs: map[int64]int32{}, txns: map[int64][]int64{}, epoch: 1, retain: time.Minute, steps: &stepCount{},
	}
	m.env, m.l = m.open(m.mem)
	return m
}

func (m *compactModel) open(fsys vfs.FS) (*Env, testLog) {
	cfg := testEnvConfig(fsys)
	cfg.Now, cfg.OnStep = m.clock.Now, m.steps.note
	cfg.MaxOpenFiles = 2 // files are opened by their names again and again, also beside a swap
	env := newTestEnv(m.t, cfg)
	return env, openTestLog(m.t, env, Options{Config: Config{SegmentBytes: 4096, IndexInterval: 512}})
}

// append appends one random batch: of a plain, an idempotent or a transactional producer.
func (m *compactModel) append() {
	now := m.clock.Now().UnixMilli()
	codec := record.None
	if m.rng.IntN(3) == 0 {
		codec = []record.Codec{record.Gzip, record.Snappy, record.LZ4, record.Zstd}[m.rng.IntN(4)]
	}
	b := record.NewBuilder(codec)
	n := 1 + m.rng.IntN(8)
	pid := int64(-1)
	switch k := m.rng.IntN(10); {
	case k < 3: // transactional
		pid = 100 + int64(m.rng.IntN(4))
		b.SetTransactional()
		b.SetProducer(pid, 0, m.seqs[pid])
	case k < 5:
		pid = 200 + int64(m.rng.IntN(3))
		b.SetProducer(pid, 0, m.seqs[pid])
	}
	recs := make([]*modelRecord, n)
	for i := range recs {
		r := &modelRecord{key: fmt.Appendf(nil, "key-%d", m.rng.IntN(m.keys)), ts: now - int64(m.rng.IntN(1000)), appendedMS: now, open: pid >= 100 && pid < 200}
		if m.rng.IntN(5) > 0 {
			r.value = fmt.Appendf(nil, "value %d of %s %d", m.rng.IntN(1000), r.key, len(m.records))
		}
		if m.rng.IntN(50) == 0 {
			r.key = nil // from before the topic was compacted
		}
		rec := record.Record{Timestamp: r.ts, Key: r.key, Value: r.value}
		if m.rng.IntN(4) == 0 {
			rec.Headers = []record.Header{{Key: "h", Value: []byte("v")}, {Key: "n"}}
		}
		b.Append(rec)
		recs[i] = r
	}
	batch, err := b.Build()
	mustNot(m.t, err)
	if m.rng.IntN(40) == 0 {
		m.epoch++
	}
	info := m.l.mustAppend(m.t, m.epoch, batch)
	for i, r := range recs {
		at := info.First + int64(i)
		m.records[at] = r
		if r.open {
			m.txns[pid] = append(m.txns[pid], at)
		}
	}
	if pid >= 0 {
		m.seqs[pid] += int32(n)
	}
}

// end ends the open transaction of a random producer.
func (m *compactModel) end() {
	for _, pid := range slices.Sorted(maps.Keys(m.txns)) {
		if m.rng.IntN(2) == 0 {
			m.endTxn(pid, m.rng.IntN(2) == 0)
		}
	}
}

func (m *compactModel) endTxn(pid int64, commit bool) {
	now := m.clock.Now().UnixMilli()
	info := m.l.mustAppend(m.t, m.epoch, record.NewEndTxnMarker(commit, pid, 0, 1, now))
	m.records[info.First] = &modelRecord{control: true, ts: now, appendedMS: now}
	for _, at := range m.txns[pid] {
		m.records[at].open, m.records[at].aborted = false, !commit
	}
	delete(m.txns, pid)
}

// endAll ends every open transaction.
func (m *compactModel) endAll() {
	for _, pid := range slices.Sorted(maps.Keys(m.txns)) {
		m.endTxn(pid, m.rng.IntN(2) == 0)
	}
}

// settle waits until everything is durable, and every sealed segment has its index file.
func (m *compactModel) settle() {
	m.l.w.wait(m.l.LEO())
	mustNot(m.t, m.l.sealDue())
}

func (m *compactModel) compact(mapBytes int64) CompactStats {
	st, err := m.l.Compact(m.t.Context(), CompactOptions{Until: m.l.LSO(), DeleteRetention: m.retain, MapBytes: mapBytes})
	mustNot(m.t, err)
	return st
}

// committed reads a log as a read_committed consumer does: what aborted transactions hold is left
// out by their list, up to their markers. raw is told of every record.
func committed(l *Log, raw func(at int64, b record.Batch, rec record.Record)) (map[int64]record.Record, error) {
	batches, err := readAll(l, l.LocalStart(), l.LEO())
	if err != nil {
		return nil, err
	}
	aborted, err := l.Aborted(l.LocalStart(), l.LEO())
	if err != nil {
		return nil, err
	}
	slices.SortFunc(aborted, func(a, b AbortedTxn) int { return int(a.First - b.First) })
	dropping := map[int64]bool{}
	out := map[int64]record.Record{}
	for _, b := range batches {
		for len(aborted) > 0 && aborted[0].First <= b.LastOffset() {
			dropping[aborted[0].ProducerID] = true
			aborted = aborted[1:]
		}
		if b.Attributes().Control() {
			mk, ok := parseMarker(b)
			if !ok {
				return nil, fmt.Errorf("marker at %d does not parse", b.BaseOffset())
			}
			if !mk.Commit {
				delete(dropping, b.ProducerID())
			}
		}
		for rec, err := range b.Records(1 << 20) {
			if err != nil {
				return nil, fmt.Errorf("records of %v: %w", b, err)
			}
			rec.Key, rec.Value = bytes.Clone(rec.Key), bytes.Clone(rec.Value)
			raw(rec.Offset, b, rec)
			if !b.Attributes().Control() && (!b.Attributes().Transactional() || !dropping[b.ProducerID()]) {
				out[rec.Offset] = rec
			}
		}
	}
	return out, nil
}

// verify holds a log that has, or had, all of the model's records against the model. Below
// cleanedTo it must also be as small as compaction can make it.
func (m *compactModel) verify(l *Log, cleanedTo int64) error {
	now := m.clock.Now().UnixMilli()
	var wrong error
	fail := func(format string, args ...any) {
		if wrong == nil {
			wrong = fmt.Errorf(format, args...)
		}
	}
	got, err := committed(l, func(at int64, b record.Batch, rec record.Record) {
		want := m.records[at]
		switch {
		case want == nil:
			fail("offset %d was never appended", at)
		case want.control != b.Attributes().Control():
			fail("offset %d: control %v", at, b.Attributes().Control())
		case rec.Timestamp != want.ts:
			fail("offset %d: time %d, appended %d", at, rec.Timestamp, want.ts)
		case !want.control && (!bytes.Equal(rec.Key, want.key) || !bytes.Equal(rec.Value, want.value) || (rec.Value == nil) != (want.value == nil)):
			fail("offset %d: %q=%q, appended %q=%q", at, rec.Key, rec.Value, want.key, want.value)
		case want.aborted && at < cleanedTo:
			fail("offset %d of an aborted transaction is still there below %d", at, cleanedTo)
		}
	})
	if err != nil {
		return err
	}
	newest := map[string]int64{}
	for at, r := range m.records {
		if r.key != nil && !r.control && !r.aborted && !r.open {
			newest[string(r.key)] = max(newest[string(r.key)], at)
		}
	}
	for key, at := range newest {
		r := m.records[at]
		if _, ok := got[at]; !ok && (r.value != nil || now < r.appendedMS+m.retain.Milliseconds()) {
			fail("the newest of %s, offset %d, is gone (tombstone: %v)", key, at, r.value == nil)
		}
	}
	for at := range got {
		r := m.records[at]
		if r.aborted {
			fail("offset %d of an aborted transaction is delivered", at)
		}
		if r.open {
			continue
		}
		top, superseded := newest[string(r.key)], false
		if _, there := got[top]; r.key != nil && at < top {
			if !there {
				fail("%s is back at %d: its tombstone %d is gone", r.key, at, top)
			}
			for other, x := range m.records {
				if at >= cleanedTo {
					break
				}
				superseded = superseded || other > at && other < cleanedTo && bytes.Equal(x.key, r.key) && !x.aborted && !x.open && !x.control
			}
		}
		if at < cleanedTo && (r.key == nil || superseded) {
			fail("offset %d of %q should be gone below %d", at, r.key, cleanedTo)
		}
	}
	return wrong
}

// cleanedTo is the end of the segments that are marked as compacted.
func cleanedTo(l *Log) int64 {
	end := l.LocalStart()
	for _, s := range l.list() {
		if s.cleaned.Load() == nil {
			break
		}
		end = s.meta.next
	}
	return end
}
