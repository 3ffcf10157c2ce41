package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/raft"
)

// Keys: 'l' and the index in 8 big-endian bytes, so that key order is index order; 's' and raft's
// name for stable values.
const (
	logPrefix    = 'l'
	stablePrefix = 's'
	logKeyLen    = 9
)

func logKey(index uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{logPrefix}, index)
}

// FirstIndex implements raft.LogStore.
func (s *Store) FirstIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.first, s.latch.get()
}

// LastIndex implements raft.LogStore.
func (s *Store) LastIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.last, s.latch.get()
}

// GetLog implements raft.LogStore. A missing entry is raft.ErrLogNotFound; one that does not have
// its checksum is a storage error like any other.
func (s *Store) GetLog(index uint64, out *raft.Log) error {
	if err := s.latch.get(); err != nil {
		return err
	}
	err := s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(logKey(index))
		if err != nil {
			return err
		}
		return item.Value(func(b []byte) error { return decodeEntry(index, b, out) })
	})
	switch {
	case errors.Is(err, badger.ErrKeyNotFound):
		return raft.ErrLogNotFound
	case err != nil:
		return s.latch.fail(fmt.Errorf("read raft entry %d: %w", index, err))
	}
	return nil
}

// StoreLog implements raft.LogStore.
func (s *Store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. The entries must follow the last one, without a gap.
func (s *Store) StoreLogs(logs []*raft.Log) error {
	if err := s.latch.get(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(logs) == 0 {
		return nil
	}
	for i, l := range logs {
		want := l.Index
		if i > 0 {
			want = logs[0].Index + uint64(i)
		} else if s.mu.last != 0 {
			want = s.mu.last + 1
		}
		if l.Index != want || l.Index == 0 {
			return fmt.Errorf("store raft entry %d where %d is next: %w", l.Index, want, ErrNotContiguous)
		}
		if n := len(l.Data) + len(l.Extensions); n > MaxEntryBytes {
			return fmt.Errorf("store raft entry %d of %d bytes, at most %d", l.Index, n, MaxEntryBytes)
		}
	}
	defer s.watch("store raft entries")()
	w := s.newWriter(func(index uint64) { // a committed transaction ends with entry index
		if s.mu.first == 0 {
			s.mu.first = logs[0].Index
		}
		s.mu.last = index
	})
	for _, l := range logs {
		w.do(l.Index, func(txn *badger.Txn) error { return txn.Set(logKey(l.Index), encodeEntry(l)) })
	}
	if err := w.finish(); err != nil {
		return s.latch.fail(fmt.Errorf("store raft entries from %d: %w", logs[0].Index, err))
	}
	return s.latch.get() // Badger may have logged an error that it did not return
}

// DeleteRange implements raft.LogStore: a prefix from the bottom up, a suffix from the top down.
// Both ends are inclusive; what is not there is no error, but a hole in the middle is refused.
func (s *Store) DeleteRange(lo, hi uint64) error {
	if err := s.latch.get(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	first, last := s.mu.first, s.mu.last
	lo, hi = max(lo, first), min(hi, last)
	if last == 0 || lo > hi {
		return nil
	}
	if lo > first && hi < last {
		return fmt.Errorf("cut raft entries %d to %d of %d to %d: %w", lo, hi, first, last, ErrNotContiguous)
	}
	defer s.watch("cut raft entries")()
	if err := s.cut(lo, hi, lo == first); err != nil {
		return s.latch.fail(fmt.Errorf("cut raft entries %d to %d: %w", lo, hi, err))
	}
	return nil
}

func (s *Store) cut(lo, hi uint64, prefix bool) error {
	w := s.newWriter(func(index uint64) {
		if prefix {
			s.mu.first = index + 1
		} else {
			s.mu.last = index - 1
		}
		if s.mu.first > s.mu.last {
			s.mu.first, s.mu.last = 0, 0
		}
	})
	for n := range hi - lo + 1 {
		index := lo + n
		if !prefix {
			index = hi - n
		}
		w.do(index, func(txn *badger.Txn) error { return txn.Delete(logKey(index)) })
	}
	return w.finish()
}

// writer runs changes in order in as few transactions as Badger allows. Each is fsynced before the
// next begins, so a crash keeps a prefix of the changes.
type writer struct {
	db        *badger.DB
	txn       *badger.Txn
	last      uint64 // of the changes in txn
	committed func(last uint64)
	err       error
}

func (s *Store) newWriter(committed func(last uint64)) *writer {
	return &writer{db: s.db, txn: s.db.NewTransaction(true), committed: committed}
}

func (w *writer) do(index uint64, change func(*badger.Txn) error) {
	if w.err != nil {
		return
	}
	err := change(w.txn)
	if errors.Is(err, badger.ErrTxnTooBig) {
		if w.commit(); w.err != nil {
			return
		}
		w.txn = w.db.NewTransaction(true)
		err = change(w.txn)
	}
	w.err, w.last = err, index
}

func (w *writer) commit() {
	if w.last == 0 {
		return
	}
	if w.err = w.txn.Commit(); w.err == nil {
		w.committed(w.last)
		w.last = 0
	}
}

func (w *writer) finish() error {
	if w.err == nil {
		w.commit()
	}
	w.txn.Discard()
	return w.err
}
