package commitlog

import (
	"errors"
	"math"
	"testing"
	"time"

	"varve/broker/internal/vfs"
	"varve/broker/record"
)

func TestRemovingADirtyLogIsNoStorageError(t *testing.T) {
	mem := vfs.NewMem()
	e := newTestEnv(t, testEnvConfig(mem))
	for i := range 200 {
		l := openTestLog(t, e, Options{Dir: partitionDir(i)})
		l.fill(t, 1, 3)
		mustNot(t, l.Remove())
		if err := e.Failed(); err != nil {
			t.Fatalf("log %d: %v", i, err)
		}
	}
	mustNot(t, e.Close())
}

func TestASegmentThatRollsWhenAllIsDurableGetsItsIndexFile(t *testing.T) {
	cfg := testEnvConfig(vfs.NewMem())
	sealed := make(chan struct{}, 1)
	cfg.OnStep = func(step string) {
		if step == "roll.renamed" {
			sealed <- struct{}{}
		}
	}
	l := openTestLog(t, newTestEnv(t, cfg), Options{})
	l.fill(t, 1, 3)
	l.w.wait(3)
	mustNot(t, l.Roll("test"))
	<-sealed
}

func TestTwoBadIndexFilesInARowAreScannedNotAPanic(t *testing.T) {
	mem := vfs.NewMem()
	e := newTestEnv(t, testEnvConfig(mem))
	l := openTestLog(t, e, Options{})
	bases := []int64{}
	for range 3 {
		bases = append(bases, l.LEO())
		l.mustAppend(t, 1, producedBatch("x", 1, 7, 0, int32(l.LEO())))
		l.w.wait(l.LEO())
		mustNot(t, l.Roll("test"))
	}
	leo := l.LEO()
	mustNot(t, l.Close())
	mustNot(t, e.Close())
	flip := func(base, fromEnd, at int64) {
		f, err := mem.OpenReadWrite(indexPath(l.Log, base))
		mustNot(t, err)
		size, err := f.Size()
		mustNot(t, err)
		pos := at
		if fromEnd > 0 {
			pos = size - fromEnd
		}
		_, err = f.WriteAt([]byte{0xff}, pos)
		mustNot(t, err)
		mustNot(t, f.Sync())
		mustNot(t, f.Close())
	}
	flip(bases[0], 1, 0) // footer
	flip(bases[2], 0, 3) // body
	flip(bases[1], 0, 3) // body
	e2 := newTestEnv(t, testEnvConfig(mem))
	got := openTestLog(t, e2, Options{})
	if got.LEO() != leo || got.Producers() != 1 {
		t.Fatalf("end %d, %d producers; want %d, 1", got.LEO(), got.Producers(), leo)
	}
}

func TestALazyAppendDuringAFlushIsFlushedLater(t *testing.T) {
	var q flushQueue
	q.init()
	l := &Log{}
	cfg := Config{WriteCaching: true}.withDefaults()
	l.cfg.Store(&cfg)
	now := time.UnixMilli(1_700_000_000_000)
	q.push(l)
	q.begin(q.pop(nil, 1)[0])
	q.pushLazy(l, now) // appended after the flush took its snapshot
	q.done(l)
	q.pushDue(now.Add(cfg.FlushEvery))
	if l.flushState != flushQueued {
		t.Fatalf("state %d: nobody will flush it", l.flushState)
	}
}

func hugeBatch(base int64) record.Batch {
	b := batchOf("x", 1, 1)
	b.SetBaseOffset(base)
	// last offset delta and count say MaxInt32 records, as a compressed batch may
	b[23], b[24], b[25], b[26] = 0x7f, 0xff, 0xff, 0xfe
	b[57], b[58], b[59], b[60] = 0x7f, 0xff, 0xff, 0xff
	return b
}

func TestAFollowersRunNeverOutgrowsTheOffsetsOfASegment(t *testing.T) {
	mem := vfs.NewMem()
	e := newTestEnv(t, testEnvConfig(mem))
	l := openTestLog(t, e, Options{})
	var run []byte
	next := int64(0)
	for range 4 {
		b := hugeBatch(next)
		b.SetLeaderEpoch(0)
		next = b.NextOffset()
		run = append(run, b...)
	}
	mustNot(t, l.AppendFollower(run))
	for _, s := range l.list() {
		if s.meta.next-s.base > math.MaxInt32 {
			t.Fatalf("segment [%d, %d) has more offsets than its index can name", s.base, s.meta.next)
		}
	}
}

func TestAFileWithUnsyncedBytesIsNotClosed(t *testing.T) {
	mem := vfs.NewMem()
	cfg := testEnvConfig(mem)
	cfg.MaxOpenFiles = 1
	e := newTestEnv(t, cfg)
	conf := testConfig()
	conf.WriteCaching, conf.FlushEvery = true, time.Hour
	l := openTestLog(t, e, Options{Config: conf})
	l.fill(t, 1, 1)
	other := openTestLog(t, e, Options{Dir: partitionDir(1), Config: conf})
	other.fill(t, 1, 1)
	s := l.list()[0]
	for range 4 {
		e.files.evict(nil)
	}
	open := func() bool { s.io.Lock(); defer s.io.Unlock(); return s.io.file != nil }
	if !open() {
		t.Fatal("a file was closed between a write and its fdatasync: an error of its write-back may be lost")
	}
	l.flushMu.Lock()
	mustNot(t, l.flush())
	l.flushMu.Unlock()
	for range 4 {
		e.files.evict(nil)
	}
	if open() {
		t.Fatal("a synced file stays open above the limit")
	}
}

func TestFilesOfTheProcessBeforeAreRecycledOnlyWithProof(t *testing.T) {
	for _, clean := range []bool{true, false} {
		mem := vfs.NewMem()
		e := newTestEnv(t, testEnvConfig(mem))
		l := openTestLog(t, e, Options{})
		l.fill(t, 1, 60)
		c, ok := l.Checkpoint()
		if !ok {
			t.Fatal("no checkpoint")
		}
		mustNot(t, l.Close())
		mustNot(t, e.Close())
		e = newTestEnv(t, testEnvConfig(mem))
		l = openTestLog(t, e, Options{Checkpoint: &c, Clean: clean})
		for _, s := range l.list() {
			if free, sent := s.retire(); !free || !sent {
				t.Fatalf("clean %v: segment %d: free %v, sent %v; an orphaned socket may hold its pages", clean, s.base, free, sent)
			}
			s.unretire()
		}
	}
}

func TestADirectoryThatAFailedResetMadeIsDurableBeforeItsRecords(t *testing.T) {
	mem := vfs.NewMem()
	e := newTestEnv(t, testEnvConfig(mem))
	first := openTestLog(t, e, Options{})
	first.fill(t, 1, 1)
	first.w.wait(1) // its topic's directory was synced; the next partition's is not in it yet

	l := openTestLog(t, e, Options{Dir: partitionDir(1)})
	mem.SetFree(0)
	err := l.ResetTo(10, nil, nil)
	if err == nil || e.Failed() != nil {
		t.Fatalf("reset on a full disk: %v, %v", err, e.Failed())
	}
	mem.SetFree(1 << 30)
	mustNot(t, l.Close())
	l = openTestLog(t, e, Options{Dir: partitionDir(1)}) // as the partition does on the next request
	mustNot(t, l.ResetTo(10, nil, nil))
	l.fill(t, 1, 3)
	l.w.wait(13)

	after := mem.CrashClone(nil)
	got := openTestLog(t, newTestEnv(t, testEnvConfig(after)), Options{Dir: partitionDir(1)})
	if got.LEO() != 13 {
		t.Fatalf("log end %d after a power cut, 13 was durable", got.LEO())
	}
}

func TestALostDirectoryIsDamageWhateverItsGenerationWas(t *testing.T) {
	for _, reset := range []bool{false, true} {
		mem := vfs.NewMem()
		e := newTestEnv(t, testEnvConfig(mem))
		l := openTestLog(t, e, Options{})
		if reset {
			mustNot(t, l.ResetTo(10, nil, nil))
		}
		l.fill(t, 1, 3)
		c, ok := l.Checkpoint()
		if !ok {
			t.Fatal("no checkpoint")
		}
		mustNot(t, l.Close())
		mustNot(t, mem.RemoveAll(partitionDir(0)))
		for _, clean := range []bool{true, false} {
			_, err := Open(e, Options{Dir: partitionDir(0), Config: testConfig(), Checkpoint: &c, Clean: clean})
			var damaged *DamagedError
			if !errors.As(err, &damaged) {
				t.Errorf("reset %v, clean %v: records up to %d were durable, and the open says %v", reset, clean, c.Offset, err)
			}
		}
	}
}
