package partition

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"varve/broker/commitlog"
)

// openState is how far the opening of the local log got.
type openState struct {
	sync.Mutex
	err      error             // a damaged replica stays closed; zero means not tried or open
	needTier bool              // the log can begin only at the tier border, which is not known yet
	border   *commitlog.Border // the tier border, fetched by a worker
}

// errNeedsTier says that a log waits for the bucket: what it is to begin with is there alone.
var errNeedsTier = errors.New("the local log begins at the tier border, which is being fetched from the object store")

// borderTimeout bounds the bucket reads of a start at the tier border; a worker tries again.
const borderTimeout = 10 * time.Second

// Log opens the local log on first use; idle partitions cost no file and no goroutine. It never waits for
// the bucket where there are workers to do that: a connection must not stand still for the others on it.
func (r *Replica) Log() (*commitlog.Log, error) {
	if l := r.log.Load(); l != nil {
		return l, nil
	}
	l, err := r.tryOpen()
	if errors.Is(err, errNeedsTier) {
		if r.kick != nil {
			r.kick()
			return nil, err
		}
		if err := r.fetchBorder(r.life); err != nil {
			return nil, err
		}
		return r.tryOpen()
	}
	return l, err
}

// logForWork is Log for a worker, which may wait for the bucket.
func (r *Replica) logForWork(ctx context.Context) (*commitlog.Log, error) {
	if l := r.log.Load(); l != nil {
		return l, nil
	}
	l, err := r.tryOpen()
	if !errors.Is(err, errNeedsTier) {
		return l, err
	}
	if err := r.fetchBorder(ctx); err != nil {
		return nil, err
	}
	return r.tryOpen()
}

func (r *Replica) tryOpen() (*commitlog.Log, error) {
	r.open.Lock()
	defer r.open.Unlock()
	if l := r.log.Load(); l != nil {
		return l, nil
	}
	if r.open.err != nil {
		return nil, r.open.err
	}
	r.mu.Lock()
	stopped := r.mu.stopped
	r.mu.Unlock()
	if stopped {
		return nil, fmt.Errorf("open %s: %w", r.cfg.ID, ErrStopped)
	}
	if r.open.needTier && r.open.border == nil { // nothing new since the last try: do not scan again
		return nil, fmt.Errorf("open %s: %w: %w", r.cfg.ID, ErrStorage, errNeedsTier)
	}
	l, err := r.openLog()
	if err != nil {
		err = fmt.Errorf("open %s: %w: %w", r.cfg.ID, ErrStorage, err)
		var damaged *commitlog.DamagedError
		if errors.As(err, &damaged) {
			// The replica gives up its seats; with no other replica it stays offline until an
			// operator decides. A log never just gets shorter (design 5, Damage).
			r.open.err = err
			r.cfg.Log.Error("replica damaged, partition offline: records that only this disk had are missing or changed; "+
				"put the file back as it was and restart, or delete the topic",
				"partition", r.cfg.ID.String(), "file", damaged.File, "byte", damaged.Pos, "offset", damaged.Offset,
				"tiered_end", r.tierEnd.Load(), "reason", damaged.Reason)
		}
		return nil, err
	}
	r.open.needTier, r.open.border = false, nil
	r.log.Store(l)
	r.mu.Lock()
	// What Apply brought while the log was being opened: it saw no log to tell.
	l.SetConfig(r.conf.Load().Log)
	l.SetTieredEnd(r.tierEnd.Load())
	l.SetLogStart(r.logStart.Load())
	r.startHWLocked(l)
	done := r.advanceHWLocked()
	r.mu.Unlock()
	done.finish(nil)
	return l, nil
}

func (r *Replica) openLog() (*commitlog.Log, error) {
	conf := r.conf.Load()
	if conf == nil {
		return nil, errors.New("no assignment applied yet")
	}
	o := commitlog.Options{
		Dir: r.Dir(), Config: conf.Log, Clean: r.cfg.Clean, OnDurable: r.onDurable,
		LogStart: r.logStart.Load(), TieredEnd: r.tierEnd.Load(),
	}
	if r.cold != nil && o.TieredEnd >= o.LogStart && o.TieredEnd > 0 {
		o.Border = r.borderLocked
	}
	if st, ok := r.cfg.States.Get(r.cfg.ID); ok {
		r.cachedHW = st.HW
		o.Checkpoint, o.Clean = &st.Checkpoint, o.Clean && !st.Unproven
	}
	l, err := commitlog.Open(r.cfg.Env, o)
	if err != nil {
		return nil, err
	}
	if err := r.voidBelowTier(l); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// voidBelowTier drops a local log that ends below what is tiered and starts it at the tier border
// (design 8.2): the committed cold range is a replica that is always in sync. A log that ends below
// LogStart (write.caching lost its tail after DeleteRecords) goes on at LogStart: what would be
// appended below it could never be read.
func (r *Replica) voidBelowTier(l *commitlog.Log) error {
	end, start := r.tierEnd.Load(), r.logStart.Load()
	if l.LEO() >= max(end, start) {
		return nil
	}
	if start >= end { // everything below was deleted: nothing to fetch
		return l.ResetTo(start, nil, nil)
	}
	if r.cold == nil {
		return fmt.Errorf("local log ends at %d, below the tiered end %d, and no store is configured", l.LEO(), end)
	}
	b, err := r.borderLocked()
	if err != nil {
		return err
	}
	r.cfg.Log.Warn("local log is void below the tier, starting at its border",
		"partition", r.cfg.ID.String(), "log_end", l.LEO(), "tiered_end", end)
	return l.ResetTo(b.Offset, b.Epochs, b.Producers)
}

// borderLocked is the tier border if it was fetched. The caller holds r.open.
func (r *Replica) borderLocked() (commitlog.Border, error) {
	if b := r.open.border; b != nil && b.Offset == r.tierEnd.Load() {
		return *b, nil
	}
	r.open.needTier, r.open.border = true, nil
	return commitlog.Border{}, errNeedsTier
}

// fetchBorder reads from the bucket what a log that begins at the tier border has to know.
func (r *Replica) fetchBorder(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, borderTimeout)
	defer cancel()
	end := r.tierEnd.Load()
	epochs, err := r.cold.Epochs(ctx)
	if err != nil {
		return fmt.Errorf("open %s: %w: epochs at tier border %d: %w", r.cfg.ID, ErrStorage, end, err)
	}
	producers, at, err := r.cold.Producers(ctx)
	if err != nil {
		return fmt.Errorf("open %s: %w: producers at tier border %d: %w", r.cfg.ID, ErrStorage, end, err)
	}
	if at > end { // TieredEnd moved meanwhile
		return fmt.Errorf("open %s: %w: producers as of %d, tier border %d", r.cfg.ID, ErrStorage, at, end)
	}
	b := commitlog.Border{Offset: end, Epochs: make([]commitlog.EpochStart, len(epochs)), Producers: producers}
	for i, e := range epochs {
		b.Epochs[i] = commitlog.EpochStart{Epoch: e.Epoch, Start: e.Start}
	}
	r.open.Lock()
	r.open.border = &b
	r.open.Unlock()
	return nil
}

// passDamage answers a read that met damage in the local log. If the segment lies wholly below the tier's
// end its cold copy is served instead, and the workers drop it.
func (r *Replica) passDamage(l *commitlog.Log, offset int64, err error) bool {
	var damaged *commitlog.DamagedError
	if r.cold == nil || !errors.As(err, &damaged) {
		return false
	}
	for _, s := range l.Segments() {
		if offset < s.Base || offset >= s.Next {
			continue
		}
		if !s.Sealed || s.Next > r.tierEnd.Load() {
			return false
		}
		if old := r.damagedTo.Load(); old < s.Next && r.damagedTo.CompareAndSwap(old, s.Next) {
			r.cfg.Log.Warn("a local segment is damaged, its cold copy is served", "partition", r.cfg.ID.String(), "err", err)
			if r.kick != nil {
				r.kick()
			}
		}
		return true
	}
	return false
}
