package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"varve/broker/internal/vfs"
	"varve/broker/record"
)

// TestReadersBesideEverythingSeeOnlyTheirLog reads while others append, drop, truncate, roll and
// recycle, in two partitions with batches of equal size, with few open files. Each batch says in
// its payload which partition and offset it is.
func TestReadersBesideEverythingSeeOnlyTheirLog(t *testing.T) {
	cfg := testEnvConfig(vfs.NewMem())
	cfg.MaxOpenFiles = 3
	e := newTestEnv(t, cfg)
	var writers, readers sync.WaitGroup
	var done atomic.Bool
	for p := range 2 {
		l := openTestLog(t, e, Options{Dir: partitionDir(p)})
		writers.Go(func() { churn(t, l, p) })
		for r := range 2 {
			readers.Go(func() {
				for seed := uint64(r); !done.Load(); seed++ {
					if err := readSome(l.Log, p, seed); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		readers.Go(func() {
			for !done.Load() {
				l.Checkpoint()
				l.Segments()
				l.LSO()
			}
		})
	}
	writers.Wait()
	done.Store(true)
	readers.Wait()
}

func churn(t *testing.T, l testLog, p int) {
	rng := newRand(uint64(p))
	epoch := int32(0)
	for range 1500 {
		switch k := rng.IntN(100); {
		case k < 90:
			for range 3 {
				if _, err := l.AppendLeader(fixedBatch(p, l.LEO()), epoch, 0); err != nil {
					t.Error(err)
					return
				}
			}
		case k < 96:
			if _, _, err := l.DropBefore(l.LEO() - 30); err != nil {
				t.Error(err)
			}
		case k < 98:
			epoch++
			if err := l.TruncateTo(max(l.LocalStart(), l.LEO()-5)); err != nil {
				t.Error(err)
			}
		case k < 99:
			if err := l.Roll("test"); err != nil {
				t.Error(err)
			}
		default:
			epoch++
			if err := l.ResetTo(l.LEO()+3, nil, nil); err != nil {
				t.Error(err)
			}
		}
	}
}

func readSome(l *Log, p int, seed uint64) error {
	rng := newRand(seed)
	start, end := l.LocalStart(), l.LEO()
	if end <= start {
		return nil
	}
	from := start + rng.Int64N(end-start)
	span, err := l.Read(from, end, rng.IntN(3000), true)
	if errors.Is(err, ErrOutOfRange) {
		return nil // dropped or truncated meanwhile
	}
	if err != nil {
		return err
	}
	defer span.Release()
	b, err := span.ReadAll(nil)
	if err != nil {
		return err
	}
	for again := range 2 {
		for rest := b; len(rest) > 0; {
			batch, err := record.Parse(rest)
			if err != nil {
				return fmt.Errorf("pass %d: %w", again, err)
			}
			want := fmt.Sprintf("partition %03d batch %09d", p, batch.BaseOffset())
			if batch.CheckCRC() != nil || !bytes.Contains(batch, []byte(want)) {
				return fmt.Errorf("pass %d: batch %d of partition %d holds %q", again, batch.BaseOffset(), p, batch)
			}
			rest = rest[len(batch):]
		}
		if b, err = span.ReadAll(b[:0]); err != nil {
			return err
		}
	}
	return nil
}

func TestOpenFilesStayBelowTheLimit(t *testing.T) {
	cfg := testEnvConfig(vfs.NewMem())
	cfg.MaxOpenFiles = 5
	e := newTestEnv(t, cfg)
	for p := range 20 {
		l := openTestLog(t, e, Options{Dir: partitionDir(p)})
		l.fill(t, 1, 40)
		l.w.wait(40)
		if _, err := readAll(l.Log, 0, 40); err != nil {
			t.Fatal(err)
		}
	}
	if n := e.files.count(); n > 5 {
		t.Fatalf("%d open files", n)
	}
}

func TestClosedLogRefuses(t *testing.T) {
	e := newTestEnv(t, testEnvConfig(vfs.NewMem()))
	l := openTestLog(t, e, Options{})
	l.fill(t, 1, 1)
	mustNot(t, l.Close())
	mustNot(t, l.Close())
	if _, err := l.AppendLeader(batchOf("x", 1, 0), 1, 0); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	l2 := openTestLog(t, e, Options{})
	if l2.LEO() != 1 {
		t.Fatal("the record is gone")
	}
	mustNot(t, l2.Remove())
	if l3 := openTestLog(t, e, Options{}); l3.LEO() != 0 {
		t.Fatal("a removed log is still there")
	}
}
