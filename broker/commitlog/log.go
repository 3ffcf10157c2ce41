package commitlog

import (
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// Log is the segmented log of one partition. An idle Log has no goroutine, no open file and under
// 1 KiB of memory.
//
//	LocalStart <= Durable <= LEO
type Log struct {
	env       *Env
	dir       string
	onDurable func(int64)
	cfg       atomic.Pointer[Config]

	// Written under mu; readers need no lock.
	localStart atomic.Int64
	durable    atomic.Int64
	leo        atomic.Int64
	tieredEnd  atomic.Int64
	damaged    atomic.Pointer[error] // set by MarkDamaged, once
	// segments is the list, oldest first, gapless; only the last may be unsealed. The slice is
	// never changed, each change publishes a new one.
	segments atomic.Pointer[[]*segment]

	compacting atomic.Bool // one Compact at a time

	filesMu sync.Mutex // one change of the directory's set of files at a time
	flushMu sync.Mutex // one flush at a time
	// flushState belongs to the queue and is guarded by its lock; lazySince too.
	flushState flushState
	lazySince  time.Time
	advanced   atomic.Bool // Durable rose and onDurable was not called since
	// unstable is len(producers.open) + len(ended): while it is 0, a read of LSO takes no lock.
	unstable atomic.Int32

	mu struct {
		sync.Mutex
		closed     bool
		removed    bool
		epochs     epochHistory
		producers  producerTable
		ended      []endedTxn // whose marker may lie at or above HW, by rising marker offset (unstable.go)
		generation uint64     // of the start file: rises with each truncation and reset
		startBase  int64      // base of the start file, 0 if there is none
		names      uint32     // counts file names made; names > namesSynced: a directory sync is due
		namesSync  uint32
		poolSync   bool // a file was taken from the pool: its directory must be synced, too
		dir        dirState
	}
}

func (l *Log) config() *Config { return l.cfg.Load() }

// SetConfig takes effect with the next append or roll.
func (l *Log) SetConfig(c Config) {
	c = c.withDefaults()
	l.cfg.Store(&c)
	if !c.WriteCaching && l.Durable() < l.LEO() {
		l.env.queue.push(l)
	}
}

// Dir is the directory of the log.
func (l *Log) Dir() string { return l.dir }

// LocalStart is the base offset of the first segment here. A caller that knows LogStart serves from
// max(LogStart, LocalStart).
func (l *Log) LocalStart() int64 { return l.localStart.Load() }

// LEO is the offset of the next append.
func (l *Log) LEO() int64 { return l.leo.Load() }

// Durable is the end of what a power cut cannot take.
func (l *Log) Durable() int64 { return l.durable.Load() }

// SetTieredEnd tells a new TieredEnd; see Options.
func (l *Log) SetTieredEnd(end int64) { l.tieredEnd.Store(end) }

// SetLogStart tells a new LogStart: epochs that end at or below it are forgotten.
func (l *Log) SetLogStart(start int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.epochs = l.mu.epochs.from(start)
}

// list is the current segment list.
func (l *Log) list() []*segment {
	if p := l.segments.Load(); p != nil {
		return *p
	}
	return nil
}

// setListLocked publishes a new list. The caller holds mu and never touches list again.
func (l *Log) setListLocked(list []*segment) {
	l.segments.Store(&list)
	start := l.mu.startBase
	if len(list) > 0 {
		start = list[0].base
	}
	l.localStart.Store(start)
}

// activeLocked is the unsealed last segment, or nil.
func (l *Log) activeLocked() *segment {
	list := l.list()
	if n := len(list); n > 0 && !list[n-1].sealed.Load() {
		return list[n-1]
	}
	return nil
}

// find is the segment that holds offset: the last one with base <= offset.
func find(list []*segment, offset int64) int {
	return sort.Search(len(list), func(i int) bool { return list[i].base > offset }) - 1
}

// usableLocked tells why the log takes no change, if so.
func (l *Log) usableLocked() error {
	if l.mu.closed || l.env.closing.Load() {
		return ErrClosed
	}
	if err := l.Damaged(); err != nil {
		return err
	}
	return l.env.Failed()
}

// Epochs is the leader-epoch history, oldest first. The caller must not change it.
func (l *Log) Epochs() []EpochStart {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.epochs
}

// EpochEnd answers OffsetForLeaderEpoch (KIP-101, KIP-320): the largest epoch <= asked that exists
// and its end offset, which is LEO for the newest one; -1, -1 if there is none.
func (l *Log) EpochEnd(asked int32) (epoch int32, end int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.epochs.end(asked, l.leo.Load())
}

// AddOlderEpochs completes the history below what the log knows itself, from the manifest.
func (l *Log) AddOlderEpochs(older []EpochStart) error {
	if !epochHistory(older).valid() {
		return fmt.Errorf("older epochs %v: not rising", older)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.mu.epochs.joined(older); h.valid() {
		l.mu.epochs = h
		return nil
	}
	return fmt.Errorf("older epochs %v do not fit before %v", older, l.mu.epochs)
}

// Segments describes the segments, oldest first.
func (l *Log) Segments() []SegmentInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.list()
	out := make([]SegmentInfo, 0, len(list))
	for _, s := range list {
		if s.meta.size > 0 {
			out = append(out, s.meta.info(s.sealed.Load()))
		}
	}
	return out
}

// SizeBytes is the sum of the segments' logical lengths.
func (l *Log) SizeBytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int64
	for _, s := range l.list() {
		n += s.meta.size
	}
	return n
}

// Producers is how many producer ids are remembered.
func (l *Log) Producers() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.producers.byID)
}

// ExpireProducers forgets producers that were idle for longer than ProducerExpiry.
func (l *Log) ExpireProducers(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.producers.expire(now.Add(-l.config().ProducerExpiry).UnixMilli())
}

// Close flushes and closes the files. It answers ErrFailed if the log cannot be said to be
// durable; a stop after that is not clean.
func (l *Log) Close() error {
	l.filesMu.Lock()
	defer l.filesMu.Unlock()
	l.flushMu.Lock()
	defer l.flushMu.Unlock()
	l.mu.Lock()
	closed := l.mu.closed
	l.mu.Unlock()
	if closed {
		return l.env.Failed()
	}
	err := l.flush()
	if err == nil {
		err = l.persistSealed()
	}
	l.mu.Lock()
	l.mu.closed = true
	list := l.list()
	l.mu.Unlock()
	for _, s := range list {
		s.closeIdle()
	}
	l.env.pool.disown(l)
	return err
}

// Remove closes the log and deletes its directory. Held Spans stay readable.
func (l *Log) Remove() error {
	l.filesMu.Lock()
	defer l.filesMu.Unlock()
	l.flushMu.Lock()
	defer l.flushMu.Unlock()
	l.mu.Lock()
	l.mu.closed, l.mu.removed = true, true
	list := l.list()
	l.mu.Unlock()
	for _, s := range list {
		s.retire()
	}
	l.env.pool.disown(l)
	if err := l.env.cfg.FS.RemoveAll(l.dir); err != nil {
		return fmt.Errorf("remove log: %w", err)
	}
	l.env.dirs.forget(l.dir)
	return nil
}
