package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

func stableKey(key []byte) []byte { return append([]byte{stablePrefix}, key...) }

// Set implements raft.StableStore. On a failed store it does not return, see holdBack.
func (s *Store) Set(key, value []byte) error {
	if s.latch.get() == nil {
		stop := s.watch("store raft state")
		err := s.db.Update(func(txn *badger.Txn) error { return txn.Set(stableKey(key), value) })
		stop()
		if err != nil {
			_ = s.latch.fail(fmt.Errorf("store %.40q: %w", key, err)) // told to the owner
		}
		if s.latch.get() == nil {
			return nil
		}
	}
	s.holdBack()
	return s.latch.get()
}

// Get implements raft.StableStore; a missing key is nil without an error.
func (s *Store) Get(key []byte) ([]byte, error) {
	if err := s.latch.get(); err != nil {
		return nil, err
	}
	var value []byte
	err := s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(stableKey(key))
		if err != nil {
			return err
		}
		value, err = item.ValueCopy(nil)
		return err
	})
	if err != nil && !errors.Is(err, badger.ErrKeyNotFound) {
		return nil, s.latch.fail(fmt.Errorf("read %.40q: %w", key, err))
	}
	return value, nil
}

// SetUint64 implements raft.StableStore.
func (s *Store) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 implements raft.StableStore; a missing key is 0.
func (s *Store) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	switch {
	case err != nil:
		return 0, err
	case len(b) == 0:
		return 0, nil
	case len(b) != 8:
		return 0, s.latch.fail(fmt.Errorf("read %.40q: %d bytes for a number of 8", key, len(b)))
	}
	return binary.BigEndian.Uint64(b), nil
}
