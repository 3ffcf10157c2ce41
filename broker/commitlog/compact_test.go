package commitlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"varve/broker/internal/vfs"
	"varve/broker/record"
)

// TestCompactionKeepsTheNewestCommittedValueOfEachKey drives random histories with transactions,
// tombstones, all codecs and maps that need many passes, and holds the log against the model after
// every run and after reopening it.
func TestCompactionKeepsTheNewestCommittedValueOfEachKey(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) {
			m := newCompactModel(t, seed, []int{5, 40, 400}[seed%3])
			mapBytes := []int64{1 << 20, minMapSlots * keySlotBytes}[seed/3%2]
			passes := 0
			for round := range 6 {
				for range 60 {
					m.append()
					if m.rng.IntN(6) == 0 {
						m.end()
					}
				}
				m.settle()
				before := m.l.LEO()
				st := m.compact(mapBytes)
				passes = max(passes, st.Passes)
				to := cleanedTo(m.l.Log)
				if m.l.LEO() != before {
					t.Fatalf("round %d: log end %d became %d", round, before, m.l.LEO())
				}
				if err := m.verify(m.l.Log, to); err != nil {
					t.Fatalf("round %d, compacted to %d: %v", round, to, err)
				}
				if d := m.l.Dirt(m.l.LSO(), 0, m.clock.Now()); d.DirtyBytes != 0 {
					t.Fatalf("round %d: %d bytes are still dirty", round, d.DirtyBytes)
				}
				m.checkLookups(m.l.Log)
				m.clock.advance(time.Duration(m.rng.IntN(60)) * time.Second)
			}
			if mapBytes < 1<<20 && seed%3 == 2 && passes < 2 {
				t.Errorf("a map of %d bytes took %d pass", mapBytes, passes)
			}
			m.checkReopened()
		})
	}
}

// checkLookups compares lookups by time with a walk over what is left.
func (m *compactModel) checkLookups(l *Log) {
	m.t.Helper()
	type at struct{ off, ts int64 }
	var all []at
	_, err := committed(l, func(off int64, _ record.Batch, rec record.Record) { all = append(all, at{off, rec.Timestamp}) })
	mustNot(m.t, err)
	best := at{-1, -1}
	for _, a := range all {
		if a.ts > best.ts {
			best = a
		}
	}
	if off, ts, err := l.MaxTimestamp(l.LocalStart(), l.LEO()); err != nil || off != best.off || ts != best.ts {
		m.t.Fatalf("max timestamp: offset %d time %d (%v), want %v", off, ts, err, best)
	}
	for range 20 {
		ask := all[m.rng.IntN(len(all))].ts + int64(m.rng.IntN(3)) - 1
		i := slices.IndexFunc(all, func(a at) bool { return a.ts >= ask })
		off, ts, ok, err := l.OffsetForTimestamp(ask, l.LocalStart(), l.LEO())
		if err != nil || ok != (i >= 0) || ok && (off != all[i].off || ts != all[i].ts) {
			m.t.Fatalf("offset for time %d: %d at %d, %v, %v; want record %d", ask, off, ts, ok, err, i)
		}
	}
}

// checkReopened opens what a kill leaves, once with and once without its index files: both must have
// the same records, epochs and producers.
func (m *compactModel) checkReopened() {
	m.t.Helper()
	to := cleanedTo(m.l.Log)
	m.l.mu.Lock()
	want := m.l.mu.producers.byID
	m.l.mu.Unlock()
	for _, lost := range []bool{false, true} {
		fsys := m.mem.KillClone()
		if lost {
			for _, s := range m.l.list() {
				if err := fsys.Remove(s.indexName()); err != nil && !isNotExist(err) {
					m.t.Fatal(err)
				}
			}
		}
		env, l := m.open(fsys)
		if l.LEO() != m.l.LEO() || !slices.Equal(l.Epochs(), m.l.Epochs()) {
			m.t.Fatalf("reopened (indexes lost: %v): end %d epochs %v, want %d %v", lost, l.LEO(), l.Epochs(), m.l.LEO(), m.l.Epochs())
		}
		if got := cleanedTo(l.Log); !lost && got != to {
			m.t.Errorf("reopened: compacted to %d, was %d", got, to)
		}
		if err := m.verify(l.Log, to); err != nil {
			m.t.Fatalf("reopened (indexes lost: %v): %v", lost, err)
		}
		l.mu.Lock()
		for id, p := range want {
			got := l.mu.producers.byID[id]
			if got == nil || got.lastSeq() != p.lastSeq() || got.epoch != p.epoch || got.txnFirst >= 0 != (p.txnFirst >= 0) {
				m.t.Errorf("reopened (indexes lost: %v): producer %d is %+v, was %+v", lost, id, got, p)
			}
		}
		l.mu.Unlock()
		mustNot(m.t, l.Close())
		mustNot(m.t, env.Close())
	}
}

// TestNoCrashDuringCompactionLosesAKey clones the disk at every sync point of a run, with the rest of
// what was written surviving or not at random, and opens each clone.
func TestNoCrashDuringCompactionLosesAKey(t *testing.T) {
	steps := map[string]int{}
	for seed := range uint64(3) {
		m := newCompactModel(t, seed, 30)
		for range 2 {
			for range 40 {
				m.append()
				if m.rng.IntN(5) == 0 {
					m.end()
				}
			}
			m.settle()
			clones := m.compactCloning()
			m.clock.advance(40 * time.Second)
			for i, c := range clones {
				m.checkClone(c, fmt.Sprintf("seed %d clone %d after %s", seed, i, c.op))
			}
		}
		for s, n := range m.steps.seen {
			steps[s] += n
		}
		mustNot(t, m.l.Close())
		mustNot(t, m.env.Close())
	}
	for _, s := range []string{"compact.written", "compact.synced", "compact.prepared", "compact.marked", "compact.renamed", "compact.removed", "compact.done"} {
		if steps[s] == 0 {
			t.Errorf("no run went through %s: %v", s, steps)
		}
	}
}

// diskClone is a disk as a crash would leave it.
type diskClone struct {
	fs *vfs.Mem
	op string
}

// compactCloning compacts and clones the disk at each sync point.
func (m *compactModel) compactCloning() []diskClone {
	var mu sync.Mutex
	var clones []diskClone
	hook := rand.New(rand.NewPCG(m.rng.Uint64(), 3))
	m.mem.OnSync(func(op, name string) {
		mu.Lock()
		defer mu.Unlock()
		for _, rng := range []*rand.Rand{nil, rand.New(rand.NewPCG(hook.Uint64(), 1)), rand.New(rand.NewPCG(hook.Uint64(), 2))} {
			clones = append(clones, diskClone{m.mem.CrashClone(rng), op + " " + name})
		}
		clones = append(clones, diskClone{m.mem.KillClone(), "kill " + op + " " + name})
	})
	defer m.mem.OnSync(nil)
	m.compact(1 << 20)
	return clones
}

// checkClone opens a clone, compares it with the model, and goes on with it.
func (m *compactModel) checkClone(c diskClone, what string) {
	m.t.Helper()
	env, l := m.open(c.fs)
	defer env.Close()
	defer l.Close()
	if l.LEO() != m.l.LEO() {
		m.t.Fatalf("%s: log end %d, want %d", what, l.LEO(), m.l.LEO())
	}
	if err := m.verify(l.Log, l.LocalStart()); err != nil {
		m.t.Fatalf("%s: %v", what, err)
	}
	files, err := l.listFiles()
	mustNot(m.t, err)
	if files.swap || len(files.temps) > 0 {
		m.t.Fatalf("%s: the open left %v, swap %v", what, files.temps, files.swap)
	}
	l.fill(m.t, m.epoch, 1) // it still takes appends and runs
	if _, err := l.Compact(m.t.Context(), CompactOptions{Until: l.LSO(), DeleteRetention: m.retain, MapBytes: 1 << 20}); err != nil {
		m.t.Fatalf("%s: compact again: %v", what, err)
	}
}

// TestReadersGoOnWhileSegmentsAreSwapped reads without pause during runs: what a held Span shows does
// not change, and every read is gapless, rising and true.
func TestReadersGoOnWhileSegmentsAreSwapped(t *testing.T) {
	m := newCompactModel(t, 77, 20)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for round := range 5 {
		for range 80 {
			m.append()
		}
		m.endAll()
		m.settle()
		held, err := m.l.Read(m.l.LocalStart(), m.l.LEO(), 1<<20, true)
		mustNot(t, err)
		before, err := held.ReadAll(nil)
		mustNot(t, err)
		stop = make(chan struct{})
		for range 3 {
			readers.Go(func() {
				for {
					if err := readLikeAClient(m.l.Log); err != nil {
						t.Errorf("round %d: %v", round, err)
						return
					}
					if _, _, err := m.l.MaxTimestamp(m.l.LocalStart(), m.l.LEO()); err != nil {
						t.Errorf("round %d: max timestamp: %v", round, err)
						return
					}
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		list := m.l.list()
		if st := m.compact(1 << 20); st.Swapped == 0 {
			t.Errorf("round %d swapped nothing", round)
		}
		for _, s := range list { // a reader with an old list must not open a new file by an old name
			if _, err := s.pin(); err == nil {
				s.unpin()
				if !slices.Contains(m.l.list(), s) {
					t.Errorf("segment %d was swapped out and can be opened", s.base)
				}
			}
		}
		close(stop)
		readers.Wait()
		after, err := held.ReadAll(nil)
		mustNot(t, err)
		if !slices.Equal(before, after) {
			t.Fatal("a held span changed")
		}
		held.Release()
		if err := m.verify(m.l.Log, cleanedTo(m.l.Log)); err != nil {
			t.Fatal(err)
		}
		m.clock.advance(30 * time.Second)
	}
}

// readLikeAClient reads a log from its start in small fetches. A batch may begin below the offset asked
// for: it took up the offsets of others meanwhile. Within an answer batches follow each other.
func readLikeAClient(l *Log) error {
	for from := l.LocalStart(); from < l.LEO(); {
		span, err := l.Read(from, l.LEO(), 700, true)
		if err != nil {
			return err
		}
		b, err := span.ReadAll(nil)
		next := span.Next
		span.Release()
		if err != nil {
			return err
		}
		at := int64(-1)
		for len(b) > 0 {
			batch, err := record.Parse(b)
			if err != nil {
				return err
			}
			if err := batch.CheckCRC(); err != nil {
				return err
			}
			if at >= 0 && batch.BaseOffset() != at || at < 0 && batch.BaseOffset() > from {
				return fmt.Errorf("fetch at %d: batch at %d where %d is next", from, batch.BaseOffset(), at)
			}
			at, b = batch.NextOffset(), b[len(batch):]
		}
		if at <= from || at != next {
			return fmt.Errorf("fetch at %d ends at %d, the span says %d", from, at, next)
		}
		from = next
	}
	return nil
}

// TestARunThatIsCutOffIsMadeGood: wherever a run of many passes ends, what is marked as compacted is, and
// the next run does the rest.
func TestARunThatIsCutOffIsMadeGood(t *testing.T) {
	enough := errors.New("enough")
	for seed := range uint64(8) {
		m := newCompactModel(t, seed, 300)
		for range 250 {
			m.append()
			if m.rng.IntN(6) == 0 {
				m.end()
			}
		}
		m.endAll()
		m.settle()
		o := CompactOptions{Until: m.l.LSO(), DeleteRetention: m.retain, MapBytes: minMapSlots * keySlotBytes}
		left := 5
		o.Throttle = func(context.Context, int) error {
			if left--; left < 0 {
				return enough
			}
			return nil
		}
		err := enough
		for allowed := 5; errors.Is(err, enough); allowed += 3 {
			left = allowed
			_, err = m.l.Compact(t.Context(), o)
			if verr := m.verify(m.l.Log, cleanedTo(m.l.Log)); verr != nil {
				t.Fatalf("seed %d, cut off after %d: %v", seed, allowed, verr)
			}
		}
		mustNot(t, err)
		if d := m.l.Dirt(m.l.LSO(), 0, m.clock.Now()); d.DirtyBytes != 0 {
			t.Fatalf("seed %d: %+v", seed, d)
		}
	}
}

// TestTombstonesAndMarkersGoAfterDeleteRetention: neither before, nor without new records.
func TestTombstonesAndMarkersGoAfterDeleteRetention(t *testing.T) {
	m := newCompactModel(t, 1, 1)
	put := func(key string, value []byte, pid int64) int64 {
		b := record.NewBuilder(record.None)
		if pid >= 0 {
			b.SetTransactional()
			b.SetProducer(pid, 0, m.seqs[pid])
			m.seqs[pid]++
		}
		b.Append(record.Record{Key: []byte(key), Value: value, Timestamp: 5})
		batch, err := b.Build()
		mustNot(t, err)
		return m.l.mustAppend(t, 1, batch).First
	}
	put("a", []byte("old"), -1)
	tomb := put("a", nil, -1)
	put("b", []byte("aborted"), 7)
	abort := m.l.mustAppend(t, 1, record.NewEndTxnMarker(false, 7, 0, 1, 5)).First
	put("c", []byte("stays"), 7)
	m.l.mustAppend(t, 1, record.NewEndTxnMarker(true, 7, 0, 1, 5))
	mustNot(t, m.l.Roll("test"))
	m.settle()

	has := func() (tombstone, marker bool) {
		t.Helper()
		_, err := committed(m.l.Log, func(at int64, b record.Batch, _ record.Record) {
			tombstone, marker = tombstone || at == tomb, marker || at == abort
		})
		mustNot(t, err)
		return tombstone, marker
	}
	m.compact(1 << 20)
	m.clock.advance(m.retain - time.Second)
	if d := m.l.Dirt(m.l.LSO(), 0, m.clock.Now()); d.HorizonMS <= m.clock.Now().UnixMilli() {
		t.Errorf("the horizon %d lies before %d", d.HorizonMS, m.clock.Now().UnixMilli())
	}
	m.compact(1 << 20)
	if tombstone, marker := has(); !tombstone || !marker {
		t.Fatalf("before delete.retention.ms: tombstone %v, marker %v", tombstone, marker)
	}
	m.clock.advance(2 * time.Second)
	if d := m.l.Dirt(m.l.LSO(), 0, m.clock.Now()); d.HorizonMS == 0 || d.HorizonMS > m.clock.Now().UnixMilli() || d.DirtyBytes != 0 {
		t.Errorf("nothing says that a run is due: %+v", d)
	}
	m.compact(1 << 20)
	if tombstone, marker := has(); tombstone || marker {
		t.Fatalf("after delete.retention.ms: tombstone %v, marker %v", tombstone, marker)
	}
	if aborted, err := m.l.Aborted(0, m.l.LEO()); err != nil || len(aborted) != 0 {
		t.Fatalf("aborted transactions without marker are listed: %v %v", aborted, err)
	}
	if d := m.l.Dirt(m.l.LSO(), 0, m.clock.Now()); d.HorizonMS != 0 {
		t.Errorf("a horizon is left: %+v", d)
	}
}

// TestCompactionLeavesWhatItMayNotTouch: the active segment, what is at or above the bound, and what is
// younger than min.compaction.lag.ms.
func TestCompactionLeavesWhatItMayNotTouch(t *testing.T) {
	m := newCompactModel(t, 3, 2)
	for range 100 {
		m.append()
	}
	m.endAll()
	m.settle()
	list := m.l.list()
	until := list[2].meta.next + 1
	if _, err := m.l.Compact(t.Context(), CompactOptions{Until: until, MinLag: time.Hour, MapBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(list, m.l.list()) {
		t.Fatal("records younger than min.compaction.lag.ms were compacted")
	}
	if _, err := m.l.Compact(t.Context(), CompactOptions{Until: until, MapBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if got := cleanedTo(m.l.Log); got != list[2].meta.next {
		t.Fatalf("compacted to %d, the bound %d allows %d", got, until, list[2].meta.next)
	}
}

// TestAnUntouchedSegmentIsNotWrittenAgain: a segment that keeps all its records is only marked.
func TestAnUntouchedSegmentIsNotWrittenAgain(t *testing.T) {
	m := newCompactModel(t, 4, 1)
	i := 0
	for len(m.l.list()) < 4 {
		b := record.NewBuilder(record.None)
		b.Append(record.Record{Key: fmt.Appendf(nil, "unique %d", i), Value: make([]byte, 300), Timestamp: 1})
		batch, err := b.Build()
		mustNot(t, err)
		m.l.mustAppend(t, 1, batch)
		i++
	}
	m.settle()
	if st := m.compact(1 << 20); st.Swapped != 0 || cleanedTo(m.l.Log) != m.l.list()[3].base {
		t.Fatalf("swapped %d segments, compacted to %d", st.Swapped, cleanedTo(m.l.Log))
	}
	_, l := m.open(m.mem.KillClone())
	if got := cleanedTo(l.Log); got != l.list()[3].base {
		t.Fatalf("after a kill only %d is marked", got)
	}
}

// TestACleanStopKeepsWhatIsCompacted: the next start neither scans nor compacts again.
func TestACleanStopKeepsWhatIsCompacted(t *testing.T) {
	m := newCompactModel(t, 11, 10)
	for range 120 {
		m.append()
	}
	m.endAll()
	m.settle()
	m.compact(1 << 20)
	want, to := m.l.Dirt(m.l.LSO(), 0, m.clock.Now()), cleanedTo(m.l.Log)
	ck, ok := m.l.Checkpoint()
	if !ok {
		t.Fatal("no checkpoint")
	}
	mustNot(t, m.l.Close())
	mustNot(t, m.env.Close())
	cfg := testEnvConfig(m.mem.KillClone())
	cfg.Now = m.clock.Now
	l := openTestLog(t, newTestEnv(t, cfg), Options{Config: Config{SegmentBytes: 4096, IndexInterval: 512}, Checkpoint: &ck, Clean: true})
	if got := l.Dirt(l.LSO(), 0, m.clock.Now()); got != want || cleanedTo(l.Log) != to || want.CleanBytes == 0 || want.HorizonMS == 0 {
		t.Fatalf("%+v to %d, before the stop %+v to %d", got, cleanedTo(l.Log), want, to)
	}
	if err := m.verify(l.Log, to); err != nil {
		t.Fatal(err)
	}
}

// TestSmallNeighboursBecomeOneSegment: and its range is theirs.
func TestSmallNeighboursBecomeOneSegment(t *testing.T) {
	m := newCompactModel(t, 5, 3)
	for range 200 {
		m.append()
	}
	m.endAll()
	m.settle()
	before := len(m.l.list())
	m.compact(1 << 20)
	m.compact(1 << 20) // now it knows how small they have become
	list := m.l.list()
	if len(list) != 2 || before < 8 {
		t.Fatalf("%d segments became %d", before, len(list))
	}
	if list[0].base != 0 || list[1].base != list[0].meta.next {
		t.Fatalf("ranges: %+v", m.l.Segments())
	}
}

// TestCompactionStopsAtDamageAndChangesNothing.
func TestCompactionStopsAtDamageAndChangesNothing(t *testing.T) {
	m := newCompactModel(t, 6, 5)
	for range 100 {
		m.append()
	}
	m.endAll()
	m.settle()
	list := m.l.list()
	f, err := m.mem.OpenReadWrite(list[1].logName())
	mustNot(t, err)
	_, err = f.WriteAt([]byte{0xff, 0xff, 0xff}, record.HeaderLen+4)
	mustNot(t, err)
	mustNot(t, f.Close())
	var damaged *DamagedError
	if _, err := m.l.Compact(t.Context(), CompactOptions{Until: m.l.LSO(), MapBytes: 1 << 20}); !errors.As(err, &damaged) {
		t.Fatalf("compacted damaged bytes: %v", err)
	}
	if !slices.Equal(list, m.l.list()) {
		t.Fatal("segments were swapped")
	}
}

// TestCompactionEndsQuietlyWhenSegmentsGo: retention and truncation take segments away meanwhile.
func TestCompactionEndsQuietlyWhenSegmentsGo(t *testing.T) {
	for _, truncate := range []bool{false, true} {
		m := newCompactModel(t, 8, 5)
		for range 150 {
			m.append()
		}
		m.endAll()
		m.settle()
		once := sync.OnceFunc(func() {
			if truncate {
				mustNot(t, m.l.TruncateTo(m.l.list()[1].base+1))
				return
			}
			if _, _, err := m.l.DropBefore(m.l.list()[1].base); err != nil {
				t.Error(err)
			}
		})
		_, err := m.l.Compact(t.Context(), CompactOptions{Until: m.l.LSO(), MapBytes: 1 << 20, Throttle: func(context.Context, int) error {
			once()
			return nil
		}})
		mustNot(t, err)
		if _, err := readAll(m.l.Log, m.l.LocalStart(), m.l.LEO()); err != nil {
			t.Fatalf("truncate %v: %v", truncate, err)
		}
		mustNot(t, m.env.Failed())
	}
}

// TestCompactionWithoutSpaceLeavesTheLogAsItWas.
func TestCompactionWithoutSpaceLeavesTheLogAsItWas(t *testing.T) {
	m := newCompactModel(t, 9, 5)
	for range 100 {
		m.append()
	}
	m.endAll()
	m.settle()
	list := m.l.list()
	m.mem.SetFree(0)
	if _, err := m.l.Compact(t.Context(), CompactOptions{Until: m.l.LSO(), MapBytes: 1 << 20}); !errors.Is(err, ErrFull) {
		t.Fatalf("compaction on a full disk: %v", err)
	}
	mustNot(t, m.env.Failed())
	if !slices.Equal(list, m.l.list()) {
		t.Fatal("segments changed")
	}
	m.mem.SetFree(1 << 30)
	m.compact(1 << 20)
	if err := m.verify(m.l.Log, cleanedTo(m.l.Log)); err != nil {
		t.Fatal(err)
	}
}
