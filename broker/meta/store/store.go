// Package store keeps raft's log and its vote in Badger, durably: a call that returned nil has
// been fsynced. It knows entries and keys and nothing of what is in them.
//
// Rules (DESIGN section 6). A batch may be split over transactions, so entries are written in
// rising order, a suffix is cut from the top down and a prefix from the bottom up: whatever a crash
// leaves is contiguous, and Open checks that. The first error of any kind is final: it is reported
// once, everything after it fails, and nothing is retried, because a second fsync can report
// success for pages that are lost.
//
// A Store may be used from several goroutines at once.
package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/hashicorp/raft"

	"varve/broker/internal/badgerdir"
)

// Sizes of the Badger below. Metadata is a few megabytes; Badger's defaults would take 64 MiB a
// memtable and 256 MiB of cache.
const (
	memTableBytes = 8 << 20
	valueLogBytes = 64 << 20
	// valueThreshold keeps every value out of the value log, whose sync errors Badger only logs.
	// It is the highest that Badger takes.
	valueThreshold = 1 << 20
	// MaxEntryBytes bounds Data and Extensions of one entry: below valueThreshold with its frame.
	MaxEntryBytes = valueThreshold - 4096
	// maxTableFiles at level 0 before compaction: two of at most 8 MiB keep reads and disk small.
	maxTableFiles = 2
)

var (
	// ErrFailed is wrapped by everything that fails after the first storage error.
	ErrFailed = errors.New("raft store has failed")
	// ErrLocked is returned by Open when another process has the directory open.
	ErrLocked = errors.New("raft store is open in another process")
	// ErrNotContiguous is returned by Open when entries are missing in the middle.
	ErrNotContiguous = errors.New("raft log has a gap")
)

var (
	_ raft.LogStore          = (*Store)(nil)
	_ raft.MonotonicLogStore = (*Store)(nil)
	_ raft.StableStore       = (*Store)(nil)
)

// Config tells Open where and how.
type Config struct {
	Dir string
	Log *slog.Logger
	// Fatal is called once with the first storage error, from any goroutine. It must not call
	// the Store and must not block.
	Fatal func(error)
	// Timeout is how long a write may take before it counts as failed; 0 is for ever.
	Timeout time.Duration
}

// Store is a raft.LogStore and raft.StableStore.
type Store struct {
	db      *badger.DB
	latch   *latch
	timeout time.Duration
	// released ends the calls that a failed store holds back, see holdBack.
	released    chan struct{}
	releaseOnce sync.Once

	mu struct {
		sync.RWMutex
		// first <= last, and every entry between them is stored; both 0 when the log is empty.
		first, last uint64
	}
}

// latch remembers the first storage error.
type latch struct {
	fatal func(error)
	mu    struct {
		sync.Mutex
		err error
	}
}

func (l *latch) fail(err error) error {
	l.mu.Lock()
	first := l.mu.err == nil
	if first {
		l.mu.err = fmt.Errorf("%w: %w", ErrFailed, err)
	}
	err = l.mu.err
	l.mu.Unlock()
	if first {
		l.fatal(err)
	}
	return err
}

func (l *latch) get() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.err
}

// Open opens or creates the store in c.Dir and checks it.
func Open(c Config) (*Store, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Fatal == nil {
		c.Fatal = func(error) {}
	}
	if err := badgerdir.RemoveEmpty(c.Dir, c.Log); err != nil {
		return nil, fmt.Errorf("open raft store %s: %w", c.Dir, err)
	}
	l := &latch{fatal: c.Fatal}
	db, err := badger.Open(badgerOptions(c, l))
	if err != nil {
		if strings.Contains(err.Error(), "directory lock") { // Badger has no sentinel for it
			return nil, fmt.Errorf("open raft store %s: %w", c.Dir, ErrLocked)
		}
		return nil, fmt.Errorf("open raft store %s: %w", c.Dir, err)
	}
	s := &Store{db: db, latch: l, timeout: c.Timeout, released: make(chan struct{})}
	if err := s.check(); err != nil {
		return nil, errors.Join(fmt.Errorf("open raft store %s: %w", c.Dir, err), db.Close())
	}
	if err := l.get(); err != nil { // Badger opens with tables left out, and only logs it
		return nil, errors.Join(fmt.Errorf("open raft store %s: %w", c.Dir, err), db.Close())
	}
	return s, nil
}

func badgerOptions(c Config, l *latch) badger.Options {
	return badger.DefaultOptions(c.Dir).
		WithSyncWrites(true). // the default loses acknowledged transactions on power loss
		WithMemTableSize(memTableBytes).
		WithNumMemtables(2).
		WithNumLevelZeroTables(maxTableFiles).
		WithNumLevelZeroTablesStall(2 * maxTableFiles).
		WithBaseTableSize(2 << 20).
		WithValueLogFileSize(valueLogBytes).
		WithValueThreshold(valueThreshold).
		WithNumCompactors(2). // Badger's least
		WithCompression(options.None).
		WithBlockCacheSize(0). // needed only with compression or encryption
		WithIndexCacheSize(0). // all indexes stay in memory: there are two or three tables
		WithNumGoroutines(1).
		WithDetectConflicts(false). // one writer
		WithMetricsEnabled(false).
		WithLogger(&badgerLog{c.Log, l})
}

// Close closes the store. After a failure it reports the failure, never a clean end.
func (s *Store) Close() error {
	s.Release()
	err := s.db.Close()
	if failed := s.latch.get(); failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("close raft store: %w", err)
	}
	return nil
}

// Failed is the first storage error, or nil.
func (s *Store) Failed() error { return s.latch.get() }

// Release lets go of the calls that a failed store holds back. The owner calls it before it waits
// for raft to stop.
func (s *Store) Release() { s.releaseOnce.Do(func() { close(s.released) }) }

// holdBack ends the calling goroutine after Release. raft panics when its term or vote cannot be
// stored; a process that is about to end with a clear message must not end with that instead.
func (s *Store) holdBack() {
	<-s.released
	runtime.Goexit()
}

// watch starts the watchdog of a write: a disk that hangs without an error is treated as one that
// fails. The result ends it.
func (s *Store) watch(what string) (stop func()) {
	if s.timeout <= 0 {
		return func() {}
	}
	timer := time.AfterFunc(s.timeout, func() {
		_ = s.latch.fail(fmt.Errorf("%s: no answer from the disk in %s", what, s.timeout)) // told to the owner
	})
	return func() { timer.Stop() }
}

// IsMonotonic tells raft that gaps are refused (raft.MonotonicLogStore).
func (s *Store) IsMonotonic() bool { return true }

// check reads every key of the log, without values, and sets first and last.
func (s *Store) check() error {
	return s.db.View(func(txn *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.PrefetchValues = false
		o.Prefix = []byte{logPrefix}
		it := txn.NewIterator(o)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			key := it.Item().Key()
			if len(key) != logKeyLen {
				return fmt.Errorf("key %x is no log key", key)
			}
			index := binary.BigEndian.Uint64(key[1:])
			if s.mu.last != 0 && index != s.mu.last+1 {
				return fmt.Errorf("entry %d follows %d: %w", index, s.mu.last, ErrNotContiguous)
			}
			if s.mu.first == 0 {
				s.mu.first = index
			}
			s.mu.last = index
		}
		return nil
	})
}
