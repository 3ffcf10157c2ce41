package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// opened is a store and what Fatal was told.
type opened struct {
	*Store
	fatal *atomic.Pointer[error]
}

func open(t *testing.T, dir string) opened {
	t.Helper()
	fatal := &atomic.Pointer[error]{}
	s, err := Open(Config{Dir: dir, Log: slog.New(slog.DiscardHandler), Fatal: func(err error) {
		if !fatal.CompareAndSwap(nil, &err) {
			t.Error("Fatal was called twice")
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return opened{s, fatal}
}

func (o opened) close(t *testing.T) {
	t.Helper()
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
}

func entry(index uint64) *raft.Log {
	return &raft.Log{
		Index: index, Term: 1 + index/10, Type: raft.LogCommand, Data: fmt.Appendf(nil, "entry %d", index),
		Extensions: []byte{byte(index)}, AppendedAt: time.Unix(0, int64(1e18+index)),
	}
}

func entries(from, to uint64) []*raft.Log {
	var list []*raft.Log
	for i := from; i <= to; i++ {
		list = append(list, entry(i))
	}
	return list
}

// holds checks that the log is exactly first to last; 0, 0 is empty.
func (o opened) holds(t *testing.T, first, last uint64) {
	t.Helper()
	f, err1 := o.FirstIndex()
	l, err2 := o.LastIndex()
	if f != first || l != last || err1 != nil || err2 != nil {
		t.Errorf("log is %d to %d, want %d to %d (%v, %v)", f, l, first, last, err1, err2)
	}
	for i := max(first, 1); i <= last; i++ {
		var have raft.Log
		if err := o.GetLog(i, &have); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		if !reflect.DeepEqual(&have, entry(i)) {
			t.Errorf("entry %d is %+v", i, have)
		}
	}
	for _, i := range []uint64{0, first - 1, last + 1} {
		var have raft.Log
		if err := o.GetLog(i, &have); !errors.Is(err, raft.ErrLogNotFound) && (i < first || i > last) {
			t.Errorf("entry %d outside the log: %v", i, err)
		}
	}
}

func store(t *testing.T, o opened, list []*raft.Log) {
	t.Helper()
	if err := o.StoreLogs(list); err != nil {
		t.Fatal(err)
	}
}

func TestLogKeepsWhatRaftNeeds(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	s.holds(t, 0, 0)
	store(t, s, entries(1, 50))
	if err := s.StoreLog(entry(51)); err != nil {
		t.Fatal(err)
	}
	s.holds(t, 1, 51)
	s.close(t)
	s = open(t, dir)
	s.holds(t, 1, 51)
	cut := func(lo, hi uint64) {
		t.Helper()
		if err := s.DeleteRange(lo, hi); err != nil {
			t.Fatal(err)
		}
	}
	cut(1, 10) // prefix
	s.holds(t, 11, 51)
	cut(40, 51) // suffix
	s.holds(t, 11, 39)
	cut(0, 12) // more than is there
	cut(38, 1000)
	cut(500, 600)
	cut(9, 3)
	s.holds(t, 13, 37)
	store(t, s, entries(38, 40))
	s.close(t)
	s = open(t, dir)
	s.holds(t, 13, 40)
	cut(1, 40)
	s.holds(t, 0, 0)
	store(t, s, entries(1000, 1001)) // after a snapshot was installed
	s.close(t)
	s = open(t, dir)
	defer s.close(t)
	s.holds(t, 1000, 1001)
	if s.fatal.Load() != nil {
		t.Error(*s.fatal.Load())
	}
}

func TestGapsAndMiddleCutsAreRefused(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.close(t)
	store(t, s, entries(5, 10))
	for _, bad := range [][]*raft.Log{{entry(12)}, {entry(10)}, {entry(11), entry(13)}, {entry(4)}} {
		if err := s.StoreLogs(bad); !errors.Is(err, ErrNotContiguous) {
			t.Errorf("stored %d after 10: %v", bad[0].Index, err)
		}
	}
	if err := s.DeleteRange(6, 9); !errors.Is(err, ErrNotContiguous) {
		t.Errorf("cut the middle: %v", err)
	}
	if err := s.StoreLog(&raft.Log{Index: 11, Data: make([]byte, MaxEntryBytes+1)}); err == nil {
		t.Error("stored an entry that would go to the value log")
	}
	if err := s.StoreLogs(nil); err != nil {
		t.Error(err)
	}
	s.holds(t, 5, 10)
}

func TestBatchLargerThanATransactionIsStoredWhole(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	big := make([]byte, MaxEntryBytes)
	for i := range big {
		big[i] = byte(i * 7)
	}
	var list []*raft.Log
	for i := range uint64(4) {
		list = append(list, &raft.Log{Index: i + 1, Data: big})
	}
	store(t, s, list)
	s.close(t)
	s = open(t, dir)
	defer s.close(t)
	for i := range uint64(4) {
		var l raft.Log
		if err := s.GetLog(i+1, &l); err != nil || !bytes.Equal(l.Data, big) {
			t.Errorf("entry %d: %d bytes, %v", i+1, len(l.Data), err)
		}
	}
	for i := range uint64(30_000) { // deletes in several transactions
		list = append(list, &raft.Log{Index: i + 5})
	}
	store(t, s, list[4:])
	if err := s.DeleteRange(1, 30_003); err != nil {
		t.Fatal(err)
	}
	if f, _ := s.FirstIndex(); f != 30_004 {
		t.Errorf("first index %d", f)
	}
}

func TestStableValuesAreKept(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if b, err := s.Get([]byte("none")); err != nil || len(b) != 0 {
		t.Errorf("missing key: %q, %v", b, err)
	}
	if n, err := s.GetUint64([]byte("none")); err != nil || n != 0 {
		t.Errorf("missing number: %d, %v", n, err)
	}
	for i := range uint64(3) {
		if err := errors.Join(s.SetUint64([]byte("term"), i+41), s.Set([]byte("vote"), fmt.Appendf(nil, "v%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	s.close(t)
	s = open(t, dir)
	defer s.close(t)
	if n, err := s.GetUint64([]byte("term")); err != nil || n != 43 {
		t.Errorf("term %d, %v", n, err)
	}
	if b, err := s.Get([]byte("vote")); err != nil || string(b) != "v2" {
		t.Errorf("vote %q, %v", b, err)
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	defer s.close(t)
	if _, err := Open(Config{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v", err)
	}
}

// What a killed process leaves is what its files hold at that moment: a copy of the directory.
func TestAnsweredEntriesSurviveAKill(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	defer s.close(t)
	for i := range uint64(6) {
		store(t, s, entries(i*10+1, i*10+10))
		if err := s.SetUint64([]byte("term"), i); err != nil {
			t.Fatal(err)
		}
		first := uint64(1)
		if i == 5 {
			if err := errors.Join(s.DeleteRange(1, 20), s.DeleteRange(56, 60)); err != nil {
				t.Fatal(err)
			}
			first = 21
		}
		last := i*10 + 10
		if i == 5 {
			last = 55
		}
		to := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		killed := open(t, to)
		killed.holds(t, first, last)
		if n, err := killed.GetUint64([]byte("term")); err != nil || n != i {
			t.Errorf("term %d, %v", n, err)
		}
		killed.close(t)
	}
}

func TestGapIsFoundOnOpen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	store(t, s, entries(1, 5))
	if err := s.db.Update(func(txn *badger.Txn) error { return txn.Delete(logKey(3)) }); err != nil {
		t.Fatal(err)
	}
	s.close(t)
	if _, err := Open(Config{Dir: dir, Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, ErrNotContiguous) {
		t.Errorf("got %v", err)
	}
}

func TestFirstErrorIsFinal(t *testing.T) {
	s := open(t, t.TempDir())
	store(t, s, entries(1, 5))
	bad := encodeEntry(entry(3))
	bad[len(bad)-6] ^= 1
	if err := s.db.Update(func(txn *badger.Txn) error { return txn.Set(logKey(3), bad) }); err != nil {
		t.Fatal(err)
	}
	var l raft.Log
	if err := s.GetLog(3, &l); !errors.Is(err, ErrFailed) || !errors.Is(err, errCorrupt) {
		t.Errorf("rotten entry: %v", err)
	}
	if p := s.fatal.Load(); p == nil || !errors.Is(*p, errCorrupt) {
		t.Error("Fatal was not told")
	}
	_, err1 := s.FirstIndex()
	_, err2 := s.LastIndex()
	_, err3 := s.Get([]byte("x"))
	_, err4 := s.GetUint64([]byte("x"))
	for i, err := range []error{err1, err2, err3, err4, s.GetLog(1, &l), s.StoreLog(entry(6)), s.DeleteRange(1, 2), s.Failed()} {
		if !errors.Is(err, ErrFailed) {
			t.Errorf("call %d after the failure: %v", i, err)
		}
	}
	held := make(chan struct{})
	go func() { // raft would panic if this returned an error
		defer close(held)
		_ = s.SetUint64([]byte("term"), 1)
		t.Error("a vote on a failed store came back")
	}()
	s.Release()
	<-held
	if err := s.Close(); !errors.Is(err, ErrFailed) {
		t.Errorf("close after a failure: %v", err)
	}
}

func TestWhatBadgerOnlyLogsIsFinalToo(t *testing.T) {
	for _, log := range []func(*badgerLog){
		func(b *badgerLog) { b.Errorf("error flushing memtable to disk: %v, retrying", "EIO") },
		func(b *badgerLog) { b.Warningf("While running doCompact: %v\n", "EIO") },
	} {
		s := open(t, t.TempDir())
		logger := &badgerLog{slog.New(slog.DiscardHandler), s.latch}
		logger.Infof("x")
		logger.Debugf("x")
		logger.Warningf("harmless")
		if s.Failed() != nil {
			t.Error("failed too early")
		}
		log(logger)
		if !errors.Is(s.Failed(), ErrFailed) || s.fatal.Load() == nil {
			t.Error("not latched")
		}
		_ = s.Close() // the failure
	}
}

func TestHangingWriteIsAFailure(t *testing.T) {
	s := open(t, t.TempDir())
	s.timeout = time.Nanosecond
	stop := s.watch("a write that never ends")
	defer stop()
	for s.Failed() == nil {
		runtime.Gosched()
	}
	if !errors.Is(s.StoreLog(entry(1)), ErrFailed) || !errors.Is(s.Close(), ErrFailed) {
		t.Error("the store went on")
	}
}

func FuzzEntry(f *testing.F) {
	f.Add(uint64(1), encodeEntry(entry(1)))
	f.Add(uint64(2), encodeEntry(&raft.Log{Index: 2}))
	f.Add(uint64(0), []byte{})
	f.Fuzz(func(t *testing.T, index uint64, b []byte) {
		for _, in := range [][]byte{b, sealed(index, b)} {
			var l raft.Log
			if decodeEntry(index, in, &l) != nil {
				continue
			}
			if l.Index != index || !bytes.Equal(encodeEntry(&l), in) {
				t.Fatalf("%x came back as %x", in, encodeEntry(&l))
			}
			if decodeEntry(index+1, in, &l) == nil {
				t.Fatal("an entry was read under another index")
			}
		}
	})
}

// sealed gives b the checksum that it should end with, so that the fuzzer gets past it.
func sealed(index uint64, b []byte) []byte {
	if len(b) < entryOverhead {
		return b
	}
	body := bytes.Clone(b[:len(b)-4])
	crc := entryCRC(index, body)
	return append(body, byte(crc), byte(crc>>8), byte(crc>>16), byte(crc>>24))
}
