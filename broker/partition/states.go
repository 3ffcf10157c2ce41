package partition

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/dgraph-io/badger/v4"

	"varve/broker/commitlog"
	"varve/broker/internal/badgerdir"
)

// State is what is kept of a replica between starts. Nothing in it is believed by itself: the
// checkpoint holds the offset and epoch it was taken at and is used only if the log has that batch.
type State struct {
	HW         int64                `json:"hw"`
	Checkpoint commitlog.Checkpoint `json:"checkpoint"`
	// Unproven says that the log could not be recovered after an unclean stop: the checkpoint is older
	// than the log's end, and no later clean stop makes it the end.
	Unproven bool `json:"unproven,omitempty"`
}

// States is the state database of a broker, in data/state: Badger without synced writes, because
// all of it can be rebuilt (design 6). If it does not open it is moved aside; the newest such are kept.
type States struct{ db *badger.DB }

const (
	stateMemTable = 8 << 20  // small: a checkpoint is a few hundred bytes
	stateValueLog = 64 << 20 // Badger's smallest useful value-log file times eight
	stateCache    = 1 << 20
)

// OpenStates opens or makes the database in dir. What a kill left half made is repaired; a database that
// does not open after that is set aside and made anew.
func OpenStates(dir string, log *slog.Logger) (*States, error) {
	if err := badgerdir.RemoveEmpty(dir, log); err != nil {
		return nil, fmt.Errorf("open state database %s: %w", dir, err)
	}
	db, err := openBadger(dir)
	if err == nil {
		return &States{db}, nil
	}
	aside, moveErr := badgerdir.SetAside(dir, time.Now(), log)
	if moveErr != nil {
		return nil, fmt.Errorf("open state database %s: %w", dir, errors.Join(err, moveErr))
	}
	log.Warn("state database does not open, moved aside and rebuilt", "dir", dir, "moved_to", aside, "err", err)
	if db, err = openBadger(dir); err != nil {
		return nil, fmt.Errorf("open state database %s: %w", dir, err)
	}
	return &States{db}, nil
}

func openBadger(dir string) (*badger.DB, error) {
	return badger.Open(badger.DefaultOptions(dir).WithLogger(nil).WithMemTableSize(stateMemTable).
		WithValueLogFileSize(stateValueLog).WithNumMemtables(2).WithNumCompactors(2).
		WithBlockCacheSize(stateCache).WithIndexCacheSize(stateCache).WithMetricsEnabled(false))
}

const statePrefix = "p/"

func stateKey(id ID) []byte {
	k := append([]byte(statePrefix), id.TopicID[:]...)
	return binary.BigEndian.AppendUint32(k, uint32(id.Partition))
}

// Get returns the state of one replica; ok is false if there is none that can be read.
func (s *States) Get(id ID) (st State, ok bool) {
	if s == nil {
		return State{}, false
	}
	err := s.db.View(func(tx *badger.Txn) error {
		item, err := tx.Get(stateKey(id))
		if err != nil {
			return err
		}
		return item.Value(func(v []byte) error { return json.Unmarshal(v, &st) })
	})
	return st, err == nil
}

// Put keeps the states of several replicas.
func (s *States) Put(states map[ID]State) error {
	wb := s.db.NewWriteBatch()
	defer wb.Cancel()
	for id, st := range states {
		v, err := json.Marshal(st)
		if err != nil {
			return fmt.Errorf("encode state of %s: %w", id, err)
		}
		if err := wb.Set(stateKey(id), v); err != nil {
			return fmt.Errorf("keep state of %s: %w", id, err)
		}
	}
	if err := wb.Flush(); err != nil {
		return fmt.Errorf("keep states: %w", err)
	}
	return nil
}

// Delete forgets a replica.
func (s *States) Delete(id ID) error {
	return s.db.Update(func(tx *badger.Txn) error { return tx.Delete(stateKey(id)) })
}

// Digest is a checksum over all that is kept. A clean stop leaves it in its marker: a database that lost
// its last writes, or was put back from a copy, has another one, and then no checkpoint is taken for the
// end of its log.
func (s *States) Digest() (string, error) {
	sum := sha256.New()
	var length [8]byte
	add := func(b []byte) {
		binary.BigEndian.PutUint64(length[:], uint64(len(b)))
		sum.Write(length[:])
		sum.Write(b)
	}
	err := s.db.View(func(tx *badger.Txn) error {
		opt := badger.DefaultIteratorOptions
		opt.Prefix = []byte(statePrefix)
		it := tx.NewIterator(opt)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			add(it.Item().Key())
			err := it.Item().Value(func(v []byte) error { add(v); return nil })
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("read state database: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Sync makes what was put durable; a clean stop calls it before its marker.
func (s *States) Sync() error { return s.db.Sync() }

// Close closes the database.
func (s *States) Close() error { return s.db.Close() }
