package commitlog

import (
	"fmt"
	"math/rand/v2"
	"path"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"varve/broker/internal/vfs"
	"varve/broker/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testDir = "data"

func partitionDir(p int) string {
	return fmt.Sprintf("%s/topics/AAAAAAAAAAAAAAAAAAAAAA/%d", testDir, p)
}

// quiet is a clock that stands still unless a test moves it.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.UnixMilli(1_700_000_000_000)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	c.mu.Unlock()
}

func testEnvConfig(fsys vfs.FS) EnvConfig {
	return EnvConfig{FS: fsys, Dir: testDir, Now: newClock().Now, FlushParallel: 2, PoolFiles: 4, PoolBytes: 1 << 30, Log: discardLog}
}

func newTestEnv(t testing.TB, cfg EnvConfig) *Env {
	t.Helper()
	mustNot(t, makeDataDir(cfg.FS, cfg.Dir))
	e, err := NewEnv(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func testConfig() Config {
	return Config{SegmentBytes: 2048, IndexInterval: 256, RecycleWindow: time.Hour, RecycleOwn: true}
}

// durableWaiter turns OnDurable into something a test can wait for.
type durableWaiter struct {
	mu   sync.Mutex
	cond *sync.Cond
	at   int64
}

func newDurableWaiter() *durableWaiter {
	w := &durableWaiter{}
	w.cond = sync.NewCond(&w.mu)
	return w
}

func (w *durableWaiter) on(d int64) {
	w.mu.Lock()
	w.at = max(w.at, d)
	w.mu.Unlock()
	w.cond.Broadcast()
}

func (w *durableWaiter) reset(d int64) {
	w.mu.Lock()
	w.at = d
	w.mu.Unlock()
}

func (w *durableWaiter) wait(d int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.at < d {
		w.cond.Wait()
	}
}

type testLog struct {
	*Log
	w *durableWaiter
}

func openTestLog(t testing.TB, e *Env, o Options) testLog {
	t.Helper()
	if o.Dir == "" {
		o.Dir = partitionDir(0)
	}
	if o.Config == (Config{}) {
		o.Config = testConfig()
	}
	w := newDurableWaiter()
	o.OnDurable = w.on
	l, err := Open(e, o)
	if err != nil {
		t.Fatalf("open %s: %v", o.Dir, err)
	}
	w.at = l.Durable()
	return testLog{l, w}
}

// batchOf builds a batch of n records with the given value.
func batchOf(value string, n int, ts int64) record.Batch {
	b := record.NewBuilder(record.None)
	for i := range n {
		b.Append(record.Record{Timestamp: ts + int64(i), Key: []byte("k"), Value: []byte(value)})
	}
	batch, err := b.Build()
	if err != nil {
		panic(err)
	}
	return append(record.Batch(nil), batch...)
}

// producedBatch is batchOf one record, from an idempotent producer.
func producedBatch(value string, ts, id int64, epoch int16, seq int32) record.Batch {
	b := record.NewBuilder(record.None)
	b.SetProducer(id, epoch, seq)
	b.Append(record.Record{Timestamp: ts, Key: []byte("k"), Value: []byte(value)})
	batch, err := b.Build()
	if err != nil {
		panic(err)
	}
	return append(record.Batch(nil), batch...)
}

func (l testLog) mustAppend(t testing.TB, epoch int32, b record.Batch) AppendInfo {
	t.Helper()
	info, err := l.AppendLeader(b, epoch, l.env.cfg.Now().UnixMilli())
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return info
}

func (l testLog) fill(t testing.TB, epoch int32, n int) {
	t.Helper()
	for i := range n {
		l.mustAppend(t, epoch, batchOf(fmt.Sprintf("fill %d at %d", i, l.LEO()), 1, 1000+l.LEO()))
	}
}

// readAll reads [from, end) and checks that it is gapless batches with right checksums.
func readAll(l *Log, from, end int64) ([]record.Batch, error) {
	var out []record.Batch
	for from < end {
		span, err := l.Read(from, end, 700, true)
		if err != nil {
			return nil, err
		}
		b, err := span.ReadAll(nil)
		next := span.Next
		span.Release()
		if err != nil {
			return nil, err
		}
		if next <= from {
			return nil, fmt.Errorf("read at %d below %d gives nothing", from, end)
		}
		for len(b) > 0 {
			batch, err := record.Parse(b)
			if err != nil {
				return nil, err
			}
			if err := batch.CheckCRC(); err != nil {
				return nil, err
			}
			if len(out) > 0 && batch.BaseOffset() != from {
				return nil, fmt.Errorf("batch at %d where %d is next", batch.BaseOffset(), from)
			}
			out = append(out, batch)
			from = batch.NextOffset()
			b = b[len(batch):]
		}
		if from != next {
			return nil, fmt.Errorf("span says next %d, batches end at %d", next, from)
		}
	}
	return out, nil
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

func mustNot(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func segmentPath(l *Log, base int64) string { return path.Join(l.dir, segmentName(base, logSuffix)) }

func indexPath(l *Log, base int64) string { return path.Join(l.dir, segmentName(base, indexSuffix)) }

// makeDataDir makes the data directory durable, as its owner does before it opens an Env.
func makeDataDir(fsys vfs.FS, dir string) error {
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	return fsys.SyncDir(path.Dir(dir))
}
