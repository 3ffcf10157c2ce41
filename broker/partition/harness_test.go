package partition

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"varve/broker/commitlog"
	"varve/broker/internal/vfs"
	"varve/broker/record"
	"varve/tiering"
	"varve/tiering/object"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errStale = errors.New("stale")

// world is one replica over a memory disk and a memory bucket, with the metadata log reduced to its
// rules: a commit is applied only if its prev is the current manifest and its epoch the current one.
type world struct {
	t     *testing.T
	fs    *vfs.Mem
	fault *object.Fault
	env   *commitlog.Env
	tier  *tiering.Tier
	r     *Replica
	now   time.Time
	clock clockGuard

	mu struct {
		sync.Mutex
		a Assignment
	}
	fatal error
}

func newWorld(t *testing.T, change func(*TopicConfig)) *world {
	t.Helper()
	w := &world{t: t, fs: vfs.NewMem(), fault: object.NewFault(object.NewMem()), now: time.UnixMilli(1_700_000_000_000)}
	conf := &TopicConfig{
		Log:          commitlog.Config{SegmentBytes: 4096},
		RetentionAge: -1, RetentionBytes: -1, LocalAge: -1, LocalBytes: -1, Tiered: true, MinISR: 1, MaxBatchBytes: 1 << 20,
	}
	if change != nil {
		change(conf)
	}
	w.mu.a = Assignment{Leader: 1, LeaderEpoch: 5, Replicas: 1, ISR: 1, Partitions: 1, Config: conf}
	w.clock.start(w.now)
	w.start()
	t.Cleanup(w.stop)
	return w
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// start opens a broker's worth of parts over the disk as it is.
func (w *world) start() {
	w.t.Helper()
	var err error
	w.env, err = commitlog.NewEnv(commitlog.EnvConfig{FS: w.fs, Dir: "data", Now: w.clockNow, Log: quiet(), Fatal: func(err error) { w.fatal = err }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.tier, err = tiering.New(tiering.Config{
		Store: w.fault, Cluster: "c", SpoolDir: w.t.TempDir(), Now: w.clockNow, Log: quiet(),
		Split: func(b []byte) (int, int64, int64, error) {
			batch, err := record.Parse(b)
			if err != nil {
				return 0, 0, 0, err
			}
			return batch.Len(), batch.BaseOffset(), batch.LastOffset(), nil
		},
		Timestamps: func(b []byte, ts, from int64) (int64, int64, bool, error) {
			for r, err := range record.Batch(b).Records(1 << 20) {
				if err != nil {
					return 0, 0, false, err
				}
				if r.Timestamp >= ts && r.Offset >= from {
					return r.Offset, r.Timestamp, true, nil
				}
			}
			return 0, 0, false, nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.r = New(Config{
		ID: ID{Topic: "t", TopicID: [16]byte{1}, TopicIDText: "AQAAAAAAAAAAAAAAAAAAAA"}, NodeID: 1, Dir: "data/topics",
		Env: w.env, Tier: w.tier, Propose: w.propose, Now: w.clockNow, Log: quiet(),
		AppliedByAll: func() uint64 { return 1 << 60 },
	})
	w.mu.Lock()
	a := w.mu.a
	w.mu.Unlock()
	w.r.Apply(a)
}

func (w *world) clockNow() time.Time { return w.now }

func (w *world) stop() {
	w.t.Helper()
	if err := w.r.Stop(false); err != nil {
		w.t.Error(err)
	}
	if err := w.env.Close(); err != nil && w.fatal == nil {
		w.t.Error(err)
	}
	if err := w.tier.Close(); err != nil {
		w.t.Error(err)
	}
}

// restart is a clean stop and a start in the next leader epoch.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.mu.a.LeaderEpoch++
	w.start()
}

// propose is the FSM's rule, and the Apply that follows it.
func (w *world) propose(_ context.Context, _ ID, c Change) error {
	w.mu.Lock()
	a := &w.mu.a
	if c.LeaderEpoch != a.LeaderEpoch {
		w.mu.Unlock()
		return fmt.Errorf("epoch %d: %w", c.LeaderEpoch, ErrNotLeader)
	}
	switch {
	case c.Tier != nil && (c.Tier.Prev != a.Tier.Name || c.Tier.LogStart < a.LogStart || c.Tier.TieredEnd < a.Tier.TieredEnd):
		w.mu.Unlock()
		return errStale
	case c.Tier != nil:
		a.Tier, a.LogStart = c.Tier.Pointer(), max(a.LogStart, c.Tier.LogStart)
		a.TierIndex++
	case *c.LogStart > a.LogStart:
		a.LogStart = *c.LogStart
	}
	next := *a
	w.mu.Unlock()
	w.r.Apply(next)
	return nil
}

// collector is an AckOwner that remembers.
type collector struct {
	mu   sync.Mutex
	errs []error
	got  chan struct{}
}

func newCollector() *collector { return &collector{got: make(chan struct{}, 1024)} }

func (c *collector) Acked(_ *Ack, err error) {
	c.mu.Lock()
	c.errs = append(c.errs, err)
	c.mu.Unlock()
	c.got <- struct{}{}
}

func batchAt(ms int64, n, valueBytes int) record.Batch {
	b := record.NewBuilder(record.None)
	for i := range n {
		b.Append(record.Record{Timestamp: ms + int64(i), Value: make([]byte, valueBytes)})
	}
	batch, err := b.Build()
	if err != nil {
		panic(err)
	}
	return batch
}

// append writes batches with acks=all and waits until HW covers them.
func (w *world) append(batches, records, valueBytes int) {
	w.t.Helper()
	c := newCollector()
	parked := 0
	for range batches {
		_, later, err := w.r.Append(batchAt(w.now.UnixMilli(), records, valueBytes), &Ack{Owner: c})
		if err != nil {
			w.t.Fatal(err)
		}
		if later {
			parked++
		}
		w.r.check()
	}
	for range parked {
		<-c.got
	}
	for _, err := range c.errs {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	w.r.check()
}

func (w *world) work() error {
	defer w.r.check()
	return w.r.doWork(w.t.Context(), &w.clock, 0)
}

func (w *world) mustWork() {
	w.t.Helper()
	if err := w.work(); err != nil {
		w.t.Fatal(err)
	}
}

// readAll reads from offset to HW over both tiers and returns the offsets of the batches.
func (w *world) readAll(from int64) (bases []int64, err error) {
	for from < w.r.HW() {
		h, err := w.r.ReadHot(from, 1<<20, true, false)
		if err != nil {
			return bases, err
		}
		var b []byte
		if h.Cold {
			d, err := w.r.ReadCold(w.t.Context(), from, 1<<20, true)
			if err != nil {
				return bases, err
			}
			for _, part := range d.Buffers {
				b = append(b, part...)
			}
			d.Release()
		} else {
			b, err = h.Span.ReadAll(nil)
			h.Span.Release()
			if err != nil {
				return bases, err
			}
		}
		for len(b) > 0 {
			batch, err := record.Parse(b)
			if err != nil {
				return bases, err
			}
			if err := batch.CheckCRC(); err != nil {
				return bases, err
			}
			if batch.NextOffset() > from {
				if batch.BaseOffset() > from {
					return bases, fmt.Errorf("gap: wanted %d, batch begins at %d", from, batch.BaseOffset())
				}
				bases = append(bases, batch.BaseOffset())
				from = batch.NextOffset()
			}
			b = b[batch.Len():]
		}
	}
	return bases, nil
}
