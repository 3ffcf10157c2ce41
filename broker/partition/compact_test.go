package partition

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"varve/broker/commitlog"
	"varve/broker/internal/vfs"
	"varve/broker/record"
)

// cleanWorld is a Set with two compacted partitions on a memory disk; its goroutines do not run.
type cleanWorld struct {
	t   *testing.T
	fs  *vfs.Mem
	set *Set
	now time.Time
	out *bytes.Buffer
}

func newCleanWorld(t *testing.T, change func(*TopicConfig)) *cleanWorld {
	t.Helper()
	w := &cleanWorld{t: t, fs: vfs.NewMem(), now: time.UnixMilli(1_700_000_000_000), out: &bytes.Buffer{}}
	if err := w.fs.MkdirAll("data"); err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return w.now }
	env, err := commitlog.NewEnv(commitlog.EnvConfig{FS: w.fs, Dir: "data", Now: now, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	conf := &TopicConfig{
		Log:          commitlog.Config{SegmentBytes: 4096},
		RetentionAge: -1, RetentionBytes: -1, LocalAge: -1, LocalBytes: -1, MinISR: 1, MaxBatchBytes: 1 << 20, Compacted: true,
		Compaction: CompactionConfig{MinDirtyRatio: 0.5, DeleteRetention: time.Hour},
	}
	if change != nil {
		change(conf)
	}
	w.set = NewSet(SetConfig{
		NodeID: 1, Dir: "data/topics", Env: env, Now: now, Log: slog.New(slog.NewTextHandler(w.out, nil)),
		Propose: func(_ context.Context, _ ID, c Change) error { return w.apply(conf, *c.LogStart) },
	})
	if err := w.apply(conf, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.set.Close(); err != nil {
			t.Error(err)
		}
		if err := env.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *cleanWorld) apply(conf *TopicConfig, start int64) error {
	w.set.Apply([]Update{{Name: "t", ID: [16]byte{1}, IDText: "AQAAAAAAAAAAAAAAAAAAAA", Partitions: 2, Assign: func(int32) (Assignment, bool) {
		return Assignment{Leader: 1, LeaderEpoch: 1, Replicas: 1, ISR: 1, Partitions: 2, Config: conf, LogStart: start}, true
	}}}, nil)
	return nil
}

// fill appends n records with few keys to a partition, and waits until they are committed and every
// sealed segment has its index.
func (w *cleanWorld) fill(p int32, n int) *commitlog.Log {
	w.t.Helper()
	r := w.set.ByName("t").Partition(p)
	for i := range n {
		b := record.NewBuilder(record.None)
		b.Append(record.Record{Timestamp: w.now.UnixMilli(), Key: fmt.Appendf(nil, "k%d", i%3), Value: make([]byte, 200)})
		batch, err := b.Build()
		if err != nil {
			w.t.Fatal(err)
		}
		ack := newWaitAck()
		_, parked, err := r.Append(batch, ack.ack)
		if err != nil {
			w.t.Fatal(err)
		}
		if parked {
			<-ack.done
		}
	}
	l, err := r.Log()
	if err != nil {
		w.t.Fatal(err)
	}
	if _, ok := l.Checkpoint(); !ok {
		w.t.Fatal("no checkpoint")
	}
	if err := l.IndexSealed(); err != nil {
		w.t.Fatal(err)
	}
	return l
}

type waitAck struct {
	ack  *Ack
	done chan struct{}
}

func newWaitAck() *waitAck {
	a := &waitAck{done: make(chan struct{})}
	a.ack = &Ack{Owner: a}
	return a
}

func (a *waitAck) Acked(*Ack, error) { close(a.done) }

func TestTheDirtiestLogIsCompactedFirst(t *testing.T) {
	w := newCleanWorld(t, nil)
	first, second := w.fill(0, 100), w.fill(1, 40)
	for range 2 {
		if !w.set.cleanDirtiest() {
			t.Fatal("two dirty logs, less than two runs")
		}
	}
	if w.set.cleanDirtiest() {
		t.Fatal("a run though nothing is dirty")
	}
	for _, l := range []*commitlog.Log{first, second} {
		if d := l.Dirt(l.LEO(), 0, w.now); d.DirtyBytes != 0 || d.CleanBytes > 2000 {
			t.Fatalf("%+v", d)
		}
	}
	w.now = w.now.Add(2 * cleanRest)
	w.fill(0, 30)
	w.fill(1, 200)
	sizes := [2]int64{first.SizeBytes(), second.SizeBytes()}
	if !w.set.cleanDirtiest() || second.SizeBytes() >= sizes[1] || first.SizeBytes() != sizes[0] {
		t.Fatalf("sizes %v became %d and %d", sizes, first.SizeBytes(), second.SizeBytes())
	}
	if st := w.set.CleanerStats(); st.Runs != 3 || st.DroppedRecords == 0 || st.BytesAfter >= st.BytesBefore || st.Uncleanable != 0 {
		t.Fatalf("%+v", st)
	}
}

func TestDirtyRatioAndLagsDecideWhenALogIsCompacted(t *testing.T) {
	w := newCleanWorld(t, func(c *TopicConfig) {
		c.Compaction.MinDirtyRatio, c.Compaction.MinLag, c.Compaction.MaxLag = 1, time.Minute, time.Hour
	})
	w.fill(0, 60)
	if w.set.cleanDirtiest() {
		t.Fatal("a run before min.compaction.lag.ms")
	}
	w.now = w.now.Add(2 * time.Minute)
	if w.set.cleanDirtiest() {
		t.Fatal("a run though the ratio is not above 1 and max.compaction.lag.ms is not over")
	}
	w.now = w.now.Add(time.Hour)
	if !w.set.cleanDirtiest() {
		t.Fatal("no run after max.compaction.lag.ms")
	}
}

func TestCompactionWaitsForTheHighWatermark(t *testing.T) {
	w := newCleanWorld(t, nil)
	l := w.fill(0, 60)
	w.set.ByName("t").Partition(0).hw.Store(1) // as a replica whose leader has not told more
	if w.set.cleanDirtiest() {
		t.Fatal("a run above the high watermark")
	}
	if d := l.Dirt(l.LEO(), 0, w.now); d.DirtyBytes == 0 {
		t.Fatal("nothing was dirty")
	}
}

func TestADamagedLogIsGivenUpOnce(t *testing.T) {
	w := newCleanWorld(t, nil)
	w.fill(0, 60)
	f, err := w.fs.OpenReadWrite("data/topics/AQAAAAAAAAAAAAAAAAAAAA/0/00000000000000000000.log")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{1, 2, 3}, 100); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if !w.set.cleanDirtiest() {
		t.Fatal("no run")
	}
	for range 3 {
		w.now = w.now.Add(time.Hour)
		if w.set.cleanDirtiest() {
			t.Fatal("a damaged log is tried again")
		}
	}
	if n := strings.Count(w.out.String(), "cannot be compacted"); n != 1 {
		t.Fatalf("told %d times: %s", n, w.out)
	}
	if st := w.set.CleanerStats(); st.Uncleanable != 1 {
		t.Fatalf("%+v", st)
	}
}

// TestStopEndsACompaction: a run that the throttle holds up ends with the replica.
func TestStopEndsACompaction(t *testing.T) {
	w := newCleanWorld(t, nil)
	w.fill(0, 60)
	r := w.set.ByName("t").Partition(0)
	reached, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := r.compact(context.Background(), 1<<20, func(ctx context.Context, _ int) error {
			close(reached)
			<-ctx.Done()
			return ctx.Err()
		})
		ended <- err
	}()
	<-reached
	if err := r.Stop(false); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if _, due := r.dirt(w.now); due {
		t.Fatal("a stopped replica is due")
	}
}

// TestCompactAndDeleteAlsoRetires: with both policies retention moves LogStart as without compaction.
func TestCompactAndDeleteAlsoRetires(t *testing.T) {
	w := newCleanWorld(t, func(c *TopicConfig) { c.RetentionBytes = 8192 })
	l := w.fill(0, 200)
	r := w.set.ByName("t").Partition(0)
	if err := r.doWork(t.Context(), &w.set.clock, time.Hour); err != nil {
		t.Fatal(err)
	}
	if r.LogStart() == 0 || l.LocalStart() != r.LogStart() {
		t.Fatalf("log start %d, local start %d", r.LogStart(), l.LocalStart())
	}
	w.now = w.now.Add(time.Hour)
	if !w.set.cleanDirtiest() {
		t.Fatal("no run")
	}
	if l.LocalStart() != r.LogStart() {
		t.Fatalf("log start %d, local start %d", r.LogStart(), l.LocalStart())
	}
}
