package tiering

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/semaphore"

	"varve/tiering/object"
)

// Tier is one broker's access to the tier: the slots, budgets and caches that all
// partitions share.
//
// Goroutines, all started by background and waited for by Close: one that sweeps
// idle streams and views, one that writes the disk cache, and one for each read
// under way (at most ReadSlots of them hold a GET).
type Tier struct {
	cfg   Config
	store object.Store

	slabs     *slabPool
	chunks    *chunkSet
	metaCache *otter.Cache[string, metaValue]
	disk      *diskCache // nil: none
	readSlots *semaphore.Weighted
	// aheadSlots are fewer than readSlots and taken before them: what somebody waits
	// for finds a slot however much is read ahead.
	aheadSlots *semaphore.Weighted
	uploads    chan *uploadSlot
	rates      rates
	courtesy   *courtesy
	started    time.Time                         // with a monotonic reading, if Now gives one
	uptime     func(now time.Time) time.Duration // since started, by the monotonic clock
	stats      stats

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu struct {
		sync.Mutex
		closed     bool
		streams    map[*stream]struct{}
		views      map[*Partition]*view // partitions that hold a manifest
		viewBytes  int64
		viewsSwept time.Time
		metas      map[string]*metaFlight
	}
	streamCount atomic.Int64 // len(mu.streams), for readers
	// readers is how many sequential readers were active in the last seconds; set
	// by sweep, and raised as soon as one proves to be sequential.
	readers atomic.Int64
}

// uploadSlot is the right to build one object, with the memory and the file for it.
type uploadSlot struct {
	n     int
	build *builder // nil until first used
	spool *spool
}

// New opens the tier. It does no request to the store.
func New(cfg Config) (*Tier, error) {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open tier: %w", err)
	}
	t := &Tier{cfg: cfg, store: cfg.Store, slabs: newSlabPool(cfg.MemoryBytes), started: cfg.Now()}
	t.uptime = func(now time.Time) time.Duration { return now.Sub(t.started) }
	t.mu.streams = make(map[*stream]struct{})
	t.mu.views = make(map[*Partition]*view)
	t.mu.metas = make(map[string]*metaFlight)
	t.slabs.reclaim = t.reclaim
	t.readSlots = semaphore.NewWeighted(int64(cfg.ReadSlots))
	t.aheadSlots = semaphore.NewWeighted(int64(max(cfg.ReadSlots*3/4, 1)))
	t.courtesy = newCourtesy(cfg.HotRequests, runtime.NumCPU())
	t.SetRates(cfg.UploadBytesPerSecond, cfg.ReadBytesPerSecond)
	var err error
	if t.chunks, err = newChunkSet(t.slabs, cfg.MemoryBytes/4); err != nil {
		return nil, err
	}
	if t.metaCache, err = newMetaCache(cfg.MemoryBytes / 4); err != nil {
		return nil, err
	}
	if cfg.SpoolDir != "" {
		if err := prepareSpools(cfg.SpoolDir); err != nil {
			return nil, err
		}
		t.uploads = make(chan *uploadSlot, cfg.UploadSlots)
		for i := range cfg.UploadSlots {
			t.uploads <- &uploadSlot{n: i}
		}
	}
	if cfg.CacheDir != "" && cfg.CacheBytes > 0 {
		short := func() bool { return t.slabs.waiting.Load() > 0 }
		if t.disk, err = openDiskCache(&cfg, &t.stats, short); err != nil {
			return nil, err
		}
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.background(t.sweepLoop)
	if t.disk != nil {
		t.background(func() { t.disk.run(t.ctx) })
	}
	return t, nil
}

func prepareSpools(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("open tier: %w", err)
	}
	return clearSpools(dir)
}

// Partition returns a handle for one partition. It costs nothing until it is
// used; the caller keeps one for each partition and shares it.
func (t *Tier) Partition(id PartitionID) *Partition {
	if id.Cluster == "" {
		id.Cluster = t.cfg.Cluster
	}
	return &Partition{t: t, id: id, dir: id.dir()}
}

// StoreName is the store's address for people.
func (t *Tier) StoreName() string { return t.store.Name() }

// background runs fn on a goroutine that Close waits for; false if t is closed.
func (t *Tier) background(fn func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closed {
		return false
	}
	t.wg.Go(fn)
	return true
}

// Close ends every read and upload under way, waits for them and frees the
// memory. Data that callers still hold stays valid until they release it.
func (t *Tier) Close() error {
	t.mu.Lock()
	if t.mu.closed {
		t.mu.Unlock()
		return nil
	}
	t.mu.closed = true
	streams := make([]*stream, 0, len(t.mu.streams))
	for s := range t.mu.streams {
		streams = append(streams, s)
	}
	t.mu.Unlock()
	t.cancel()
	t.wg.Wait()
	if t.disk != nil {
		t.disk.drain()
	}
	for _, s := range streams {
		s.close()
	}
	t.chunks.cache.InvalidateAll()
	t.chunks.cache.StopAllGoroutines()
	t.metaCache.StopAllGoroutines()
	var err error
	for range cap(t.uploads) {
		if slot := <-t.uploads; slot.spool != nil {
			err = slot.spool.close()
		}
	}
	return err
}

// request bounds one call of the store by its size: a store that moves less than
// 1 MiB/s is down for our purposes, whatever it says.
func (t *Tier) request(ctx context.Context, bytes int64) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 30*time.Second+time.Duration(bytes>>20)*time.Second)
}

// sweepLoop drops what has been idle.
func (t *Tier) sweepLoop() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-tick.C:
			t.sweep(t.cfg.Now())
		}
	}
}

// sweep drops streams and views that nobody has used for a while before now, and
// counts the readers that share the memory for read-ahead.
func (t *Tier) sweep(now time.Time) {
	t.mu.Lock()
	var idle []*stream
	readers := int64(0)
	for s := range t.mu.streams {
		unused, sequential := s.activity(now)
		if unused > streamIdle {
			idle = append(idle, s)
		}
		if sequential && unused < readerActive {
			readers++
		}
	}
	if now.Sub(t.mu.viewsSwept) >= viewIdle/10 {
		t.mu.viewsSwept = now
		for p, v := range t.mu.views {
			if now.Sub(time.Unix(0, v.used.Load())) > viewIdle {
				t.dropViewLocked(p, v)
			}
		}
	}
	t.readers.Store(readers)
	active := len(t.mu.streams) - len(idle)
	t.mu.Unlock()
	for _, s := range idle {
		s.p.dropStream(s)
	}
	if active == 0 {
		t.slabs.trim()
	}
}

// reclaim frees about bytes of budget for a demand read: what is read ahead for
// readers that seem to have gone, and the coldest of the cache; when it has to be
// asked again, also what is read ahead for the others, the least recent first.
func (t *Tier) reclaim(bytes int64, again bool) {
	now, left := t.cfg.Now(), bytes
	for _, s := range t.streamsByUse() {
		if unused, _ := s.activity(now); left > 0 && (again || unused > readerActive) {
			left -= s.dropAhead()
		}
	}
	t.chunks.shrink(max(left, bytes/2))
}
