package partition

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"varve/broker/commitlog"
	"varve/broker/record"
)

// CleanerConfig is what the broker says of compaction; it may change while the broker runs.
type CleanerConfig struct {
	MapBytes    int64         // log.cleaner.dedupe.buffer.size
	BytesPerSec int64         // log.cleaner.io.max.bytes.per.second, read and written together
	Backoff     time.Duration // log.cleaner.backoff.ms: pause when nothing is dirty enough
}

const (
	defaultMapBytes = 128 << 20        // Kafka's
	defaultBackoff  = 15 * time.Second // Kafka's
	// cleanBurst is what the throttle lets through at once: a few of the pieces that are charged.
	cleanBurst = 8 << 20
	// cleanRest keeps a log that is always dirty enough from having the cleaner to itself.
	cleanRest = time.Second
)

// cleaner is the one goroutine that compacts logs, the dirtiest first. One at a time bounds its memory
// to one offset map and its share of disk and CPU to one core.
type cleaner struct {
	config  func() CleanerConfig
	limiter *rate.Limiter

	runs, nanos, read, before, after, dropped atomic.Int64
}

// CleanerStats counts what compaction has done since the start.
type CleanerStats struct {
	Runs                    int64
	Busy                    time.Duration
	ReadBytes               int64
	BytesBefore, BytesAfter int64 // of the segments that were replaced, and of those that replaced them
	DroppedRecords          int64
	Uncleanable, Due        int // partitions now: given up for damage, and waiting for a run
}

// cleanState is what the cleaner keeps of a replica.
type cleanState struct {
	running sync.Mutex // held while the replica is compacted

	mu        sync.Mutex
	cancel    context.CancelFunc // of the run at hand
	stopped   bool
	failures  int
	notBefore time.Time
	bad       error // the log cannot be compacted: it is damaged
}

// stop ends a run and waits until it has let go.
func (c *cleanState) stop() {
	c.mu.Lock()
	c.stopped = true
	if c.cancel != nil {
		c.cancel()
	}
	c.mu.Unlock()
	c.running.Lock()
	//lint:ignore SA2001 the empty section is the wait
	c.running.Unlock()
}

func (c *cleanState) begin(ctx context.Context) (context.Context, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil, false
	}
	ctx, c.cancel = context.WithCancel(ctx)
	return ctx, true
}

// end notes how a run ended. first is true if the log is given up just now.
func (c *cleanState) end(err error, now time.Time) (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel()
	c.cancel = nil
	if err == nil {
		c.failures, c.notBefore = 0, now.Add(cleanRest)
		return false
	}
	c.notBefore = now.Add(min(retryFirst<<min(c.failures, 10), retryMost))
	c.failures++
	var damaged *commitlog.DamagedError
	if errors.As(err, &damaged) || errors.Is(err, record.ErrCorrupt) || errors.Is(err, record.ErrTooLarge) {
		first, c.bad = c.bad == nil, err
	}
	return first
}

// Uncleanable is why this log is compacted no more, or nil. It is tried again after a restart.
func (r *Replica) Uncleanable() error {
	r.clean.mu.Lock()
	defer r.clean.mu.Unlock()
	return r.clean.bad
}

// dirt tells how dirty a compacted log is, and whether it is time to compact it: by its ratio, by
// max.compaction.lag.ms, or because tombstones have outlived delete.retention.ms.
func (r *Replica) dirt(now time.Time) (ratio float64, due bool) {
	conf, l := r.conf.Load(), r.log.Load()
	if conf == nil || l == nil || !conf.Compacted {
		return 0, false
	}
	if r.tierEnd.Load() > r.logStart.Load() {
		return 0, false // older values lie in the tier: a tombstone that went would bring them back
	}
	r.clean.mu.Lock()
	wait := r.clean.stopped || r.clean.bad != nil || now.Before(r.clean.notBefore)
	r.clean.mu.Unlock()
	if wait {
		return 0, false
	}
	c := &conf.Compaction
	d := l.Dirt(r.Bounds().LSO, c.MinLag, now)
	overdue := d.OldestMS >= 0 && c.MaxLag > 0 && now.Sub(time.UnixMilli(d.OldestMS)) > c.MaxLag
	expired := d.HorizonMS > 0 && d.HorizonMS <= now.UnixMilli()
	return d.Ratio(), d.DirtyBytes > 0 && (d.Ratio() > c.MinDirtyRatio || overdue) || expired
}

// compact runs one compaction of the log. It takes no part in the role: every replica compacts on its
// own what lies below its HW.
func (r *Replica) compact(ctx context.Context, mapBytes int64, throttle func(context.Context, int) error) (st commitlog.CompactStats, err error) {
	conf, l := r.conf.Load(), r.log.Load()
	if l == nil || !r.clean.running.TryLock() {
		return st, nil
	}
	defer r.clean.running.Unlock()
	ctx, ok := r.clean.begin(ctx)
	if !ok {
		return st, nil
	}
	began := r.cfg.Now()
	st, err = l.Compact(ctx, commitlog.CompactOptions{
		Until: r.Bounds().LSO, MinLag: conf.Compaction.MinLag, DeleteRetention: conf.Compaction.DeleteRetention,
		MapBytes: mapBytes, Throttle: throttle,
	})
	if errors.Is(err, context.Canceled) || errors.Is(err, commitlog.ErrClosed) || errors.Is(err, commitlog.ErrFailed) {
		err = nil // the end of the replica or of the broker, which others tell of
	}
	now := r.cfg.Now()
	if r.clean.end(err, now) {
		r.cfg.Log.Error("log cannot be compacted and grows from here on", "partition", r.cfg.ID.String(), "err", err)
		return st, nil
	}
	if err != nil {
		return st, fmt.Errorf("compact %s: %w", r.cfg.ID, err)
	}
	r.cfg.Log.Info("compacted", "partition", r.cfg.ID.String(), "passes", st.Passes, "segments", st.Swapped,
		"bytes_before", st.BytesBefore, "bytes_after", st.BytesAfter, "records_dropped", st.Dropped,
		"took", now.Sub(began).Round(time.Millisecond).String())
	return st, nil
}

func (s *Set) initCleaner() {
	s.cleaner.config = s.cfg.Cleaner
	if s.cleaner.config == nil {
		s.cleaner.config = func() CleanerConfig { return CleanerConfig{} }
	}
	s.cleaner.limiter = rate.NewLimiter(rate.Inf, cleanBurst)
}

// cleanLoop compacts, the dirtiest log first, until the Set closes.
func (s *Set) cleanLoop() {
	for {
		for s.cleanDirtiest() {
		}
		backoff := s.cleaner.config().Backoff
		if backoff <= 0 {
			backoff = defaultBackoff
		}
		pause := time.NewTimer(backoff)
		select {
		case <-s.ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

// cleanDirtiest compacts the log that has most to gain, and answers whether there was one.
func (s *Set) cleanDirtiest() bool {
	if s.ctx.Err() != nil || !s.clock.trusted() || s.cfg.Env.Failed() != nil {
		return false
	}
	now := s.cfg.Now()
	var best *Replica
	most := -1.0
	s.Each(func(r *Replica) {
		if ratio, due := r.dirt(now); due && ratio > most {
			best, most = r, ratio
		}
	})
	if best == nil {
		return false
	}
	c := s.cleaner.config()
	limit := rate.Inf
	if c.BytesPerSec > 0 {
		limit = rate.Limit(c.BytesPerSec)
	}
	s.cleaner.limiter.SetLimit(limit)
	if c.MapBytes <= 0 {
		c.MapBytes = defaultMapBytes
	}
	began := time.Now() // for its monotonic reading alone
	st, err := best.compact(s.ctx, c.MapBytes, s.throttle)
	s.cleaner.nanos.Add(int64(time.Since(began)))
	if err != nil {
		s.cfg.Log.Warn("compaction failed, will be tried again", "err", err)
	}
	s.cleaner.runs.Add(1)
	s.cleaner.read.Add(st.ReadBytes)
	s.cleaner.before.Add(st.BytesBefore)
	s.cleaner.after.Add(st.BytesAfter)
	s.cleaner.dropped.Add(st.Dropped)
	return true
}

// throttle keeps the cleaner below log.cleaner.io.max.bytes.per.second.
func (s *Set) throttle(ctx context.Context, n int) error {
	for n > 0 {
		k := min(n, cleanBurst)
		if err := s.cleaner.limiter.WaitN(ctx, k); err != nil {
			return err
		}
		n -= k
	}
	return ctx.Err()
}

// CleanerStats tells what compaction did and what waits.
func (s *Set) CleanerStats() CleanerStats {
	c := &s.cleaner
	out := CleanerStats{
		Runs: c.runs.Load(), Busy: time.Duration(c.nanos.Load()), ReadBytes: c.read.Load(), BytesBefore: c.before.Load(), BytesAfter: c.after.Load(),
		DroppedRecords: c.dropped.Load(),
	}
	now := s.cfg.Now()
	s.Each(func(r *Replica) {
		if r.Uncleanable() != nil {
			out.Uncleanable++
		}
		if _, due := r.dirt(now); due {
			out.Due++
		}
	})
	return out
}
