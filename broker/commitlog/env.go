package commitlog

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"varve/broker/internal/vfs"
)

// Limits that are not configured.
const (
	// indexCacheBytes bounds the index entries of sealed segments in memory: 2 million entries,
	// the indexes of 8 GiB of the densest data.
	indexCacheBytes = 32 << 20
	// janitorEvery is the period of the free-space check and of lazy flushes. Space is also
	// checked at each large allocation, so half would only cost wake-ups.
	janitorEvery = time.Second
	// watchdogSteps is how finely DiskTimeout is measured: an operation is found to hang after
	// 1 to 1.125 of it.
	watchdogSteps = 8
	// defaultFlushEvery is the background flush of a write.caching log that names none.
	defaultFlushEvery = time.Second
	// lazyFlushBytes flushes a write.caching log before its period, so that no roll meets a
	// cliff of dirty pages.
	lazyFlushBytes = 32 << 20
)

// EnvConfig configures what the logs of one data directory share.
type EnvConfig struct {
	FS  vfs.FS
	Dir string           // data directory, which must exist durably: topics/ and pool/ lie in it
	Now func() time.Time // nil: time.Now

	MaxOpenFiles  int           // segment files kept open; pinned ones may exceed it. 0: 1024
	PoolFiles     int           // recycled files kept at most. 0: none
	PoolBytes     int64         // their bytes at most. 0: 2 % of the disk
	ReserveBytes  int64         // free space below which data is refused. 0: none
	DiskTimeout   time.Duration // a disk operation longer than this is final. 0: no watchdog
	FlushParallel int           // fdatasyncs at a time. 0: 4
	Fatal         func(error)   // called once, on the first final storage error; may be nil
	Log           *slog.Logger  // nil: slog.Default()
	OnStep        func(step string)
}

func (c *EnvConfig) setDefaults() {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MaxOpenFiles <= 0 {
		c.MaxOpenFiles = 1024
	}
	if c.FlushParallel <= 0 {
		// Each parks an OS thread; beyond four the journal of one disk serialises them anyway.
		c.FlushParallel = 4
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.OnStep == nil {
		c.OnStep = func(string) {}
	}
}

// Env is what the logs of one data directory share: the flusher, the open files, the pool of
// recycled segment files, the disk reserve, and the latch that the first final storage error
// closes for good.
type Env struct {
	cfg EnvConfig

	failed  atomic.Pointer[error]
	full    atomic.Bool
	closing atomic.Bool
	guards  atomic.Uint64 // of verifications, see BeginVerification

	queue   flushQueue
	dirs    dirSet
	files   fileCache
	indexes indexCache
	pool    filePool
	janitor janitor
	watch   watchdog

	wg   sync.WaitGroup
	stop chan struct{}
}

// NewEnv starts the shared machinery of a data directory. Files that an earlier process left in
// the pool are removed: what a crash may have left in them cannot be told, and their directory
// entries may even name a segment in use.
func NewEnv(cfg EnvConfig) (*Env, error) {
	cfg.setDefaults()
	if cfg.FS == nil || cfg.Dir == "" {
		return nil, errors.New("commitlog: FS and Dir are required")
	}
	e := &Env{cfg: cfg, stop: make(chan struct{})}
	e.queue.init()
	e.dirs.init(e)
	e.files.init(cfg.MaxOpenFiles)
	e.indexes.init(indexCacheBytes)
	if err := e.pool.open(e); err != nil {
		return nil, err
	}
	e.janitor.init(e)
	e.watch.init(e)
	e.checkSpace()

	for range cfg.FlushParallel {
		e.wg.Go(e.flushWorker)
	}
	e.wg.Go(e.janitor.run)
	if cfg.DiskTimeout > 0 {
		e.wg.Go(e.watch.run)
	}
	return e, nil
}

// Close flushes every dirty log, stops all goroutines and waits for them. Logs should be closed
// before. It returns the final storage error, if there was one: such a stop is never clean.
func (e *Env) Close() error {
	if e.closing.Swap(true) {
		return e.Failed()
	}
	e.queue.close()
	close(e.stop)
	e.wg.Wait()
	e.files.closeAll()
	return e.Failed()
}

// Failed is the final storage error, or nil.
func (e *Env) Failed() error {
	if p := e.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// Full tells whether free space is below the reserve; appends to logs that are not Internal are
// then refused with ErrFull.
func (e *Env) Full() bool { return e.full.Load() }

// fail closes the latch. The first error is kept and reported; every append, flush and close from
// here on answers ErrFailed.
func (e *Env) fail(cause error) error {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	if !e.failed.CompareAndSwap(nil, &err) {
		return e.Failed()
	}
	e.cfg.Log.Error("storage failed, nothing more is acknowledged", "dir", e.cfg.Dir, "err", cause)
	if e.cfg.Fatal != nil {
		e.cfg.Fatal(err)
	}
	return err
}

// writeError turns the error of a write path into what the caller is told: ErrFull if space is
// all that was missing, else the latch closes.
func (e *Env) writeError(err error) error {
	if isNoSpace(err) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return e.fail(err)
}

func (e *Env) step(name string) { e.cfg.OnStep(name) }

// checkSpace compares the free bytes with the reserve.
func (e *Env) checkSpace() {
	if e.cfg.ReserveBytes <= 0 {
		return
	}
	u, err := e.cfg.FS.Usage(e.cfg.Dir)
	if err != nil {
		e.cfg.Log.Warn("cannot tell free space", "dir", e.cfg.Dir, "err", err)
		return
	}
	full := u.Free < e.cfg.ReserveBytes
	if e.full.Swap(full) != full {
		e.cfg.Log.Warn("disk reserve", "full", full, "free_bytes", u.Free, "reserve_bytes", e.cfg.ReserveBytes)
	}
}
