package commitlog

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"varve/broker/internal/vfs"
)

func TestFsyncErrorIsFinalAndLostPagesAreNotServedAfterRestart(t *testing.T) {
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprintf("kill=%v", kill), func(t *testing.T) {
			mem := vfs.NewMem()
			fault := vfs.NewFault(mem)
			cfg := testEnvConfig(fault)
			fatal := make(chan error, 8)
			cfg.Fatal = func(err error) { fatal <- err }
			e := newTestEnv(t, cfg)
			l := openTestLog(t, e, Options{})
			l.fill(t, 1, 3)
			l.w.wait(3)
			before, err := readAll(l.Log, 0, 3)
			mustNot(t, err)

			broken := errors.New("input/output error")
			fault.Inject(vfs.Rule{Op: vfs.OpSync, Glob: "*.log", Nth: 1, Err: broken})
			l.fill(t, 1, 1)
			if err := <-fatal; !errors.Is(err, broken) || !errors.Is(err, ErrFailed) {
				t.Fatalf("fatal: %v", err)
			}
			if l.Durable() != 3 || l.w.at != 3 {
				t.Fatalf("durable %d, told %d", l.Durable(), l.w.at)
			}
			if _, err := l.AppendLeader(batchOf("late", 1, 0), 1, 0); !errors.Is(err, ErrFailed) {
				t.Fatalf("append after the error: %v", err)
			}
			if err := l.Close(); !errors.Is(err, ErrFailed) {
				t.Fatalf("close: %v", err)
			}
			if _, ok := l.Checkpoint(); ok {
				t.Fatal("a failed log gives a checkpoint")
			}
			if err := e.Close(); !errors.Is(err, ErrFailed) {
				t.Fatalf("close environment: %v", err)
			}
			if len(fatal) != 0 {
				t.Fatal("told twice")
			}

			// The process ends; the machine lives on, or not. The page cache still shows record 3,
			// which no sync can bring to the disk any more.
			after := mem
			if kill {
				after = mem.KillClone()
			}
			e2 := newTestEnv(t, testEnvConfig(after))
			l2 := openTestLog(t, e2, Options{})
			if l2.LEO() != 3 {
				t.Fatalf("log ends at %d: a page that is not on the disk was taken for durable", l2.LEO())
			}
			got, err := readAll(l2.Log, 0, 3)
			mustNot(t, err)
			for i := range got {
				if string(got[i]) != string(before[i]) {
					t.Fatalf("batch %d changed", i)
				}
			}
			l2.fill(t, 2, 1)
			l2.w.wait(4)
			if end, _, err := openAndCheck(after.CrashClone(nil), 0, anything(l2, t)); err != nil || end != 4 {
				t.Fatalf("end %d, %v", end, err)
			}
		})
	}
}

// anything expects exactly the batches that the log has now.
func anything(l testLog, t *testing.T) crashExpect {
	t.Helper()
	m := &modelLog{possible: map[int64]map[string]bool{}}
	batches, err := readAll(l.Log, l.LocalStart(), l.LEO())
	mustNot(t, err)
	for _, b := range batches {
		m.add(b)
	}
	return crashExpect{possible: m.possible, start: l.LocalStart(), promised: l.Durable(), resetTo: -1}
}

func TestEverySyncErrorIsFinal(t *testing.T) {
	for _, rule := range []vfs.Rule{
		{Op: vfs.OpSyncDir, Glob: "*", Nth: 1},
		{Op: vfs.OpSync, Glob: "*.index.tmp", Nth: 1},
		{Op: vfs.OpSync, Glob: "*.log", Nth: 1},
		{Op: vfs.OpSync, Glob: "*.log", Nth: 1, Err: vfs.ErrNoSpace}, // delayed allocation: as lost as any
		{Op: vfs.OpWrite, Glob: "*.log", Nth: 2},
		{Op: vfs.OpRename, Glob: "*.index", Nth: 1},
	} {
		t.Run(fmt.Sprintf("%s %s", rule.Op, rule.Glob), func(t *testing.T) {
			if rule.Err == nil {
				rule.Err = errors.New("broken")
			}
			fault := vfs.NewFault(vfs.NewMem())
			cfg := testEnvConfig(fault)
			fatal := make(chan struct{})
			cfg.Fatal = func(error) { close(fatal) } // a second call panics
			e := newTestEnv(t, cfg)
			l := openTestLog(t, e, Options{})
			fault.Inject(rule)
			var err error
			for i := 0; err == nil && i < 200; i++ {
				_, err = l.AppendLeader(batchOf("0123456789012345678901234567890123456789", 5, 0), 1, 0)
				if i > 50 {
					<-fatal
				}
			}
			if !errors.Is(err, ErrFailed) {
				t.Fatalf("appends go on: %v", err)
			}
			if err := e.Close(); !errors.Is(err, ErrFailed) {
				t.Fatalf("close: %v", err)
			}
		})
	}
}

func TestFullDiskRefusesAppendsAndLosesNothing(t *testing.T) {
	mem := vfs.NewMem()
	e := newTestEnv(t, testEnvConfig(mem))
	conf := testConfig()
	conf.SegmentBytes = 1 << 20
	l := openTestLog(t, e, Options{Config: conf})
	l.fill(t, 1, 5)
	l.w.wait(5)
	mem.SetFree(64 << 10)
	var n int
	var err error
	for ; n < 10_000 && err == nil; n++ {
		_, err = l.AppendLeader(batchOf(fmt.Sprintf("%0500d", n), 1, 0), 1, 0)
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("append %d: %v", n, err)
	}
	end := l.LEO()
	if _, err := l.AppendLeader(batchOf(fmt.Sprintf("%080000d", n), 1, 0), 1, 0); !errors.Is(err, ErrFull) {
		t.Fatalf("%v", err)
	}
	l.w.wait(end)
	got, err := readAll(l.Log, 0, end)
	mustNot(t, err)
	if e.Failed() != nil || int64(len(got)) != end {
		t.Fatalf("%v, %d batches", e.Failed(), len(got))
	}
	if e2, _, err := openAndCheck(mem.CrashClone(newRand(1)), 0, anything(l, t)); err != nil || e2 != end {
		t.Fatalf("end %d, %v", e2, err)
	}
	mem.SetFree(16 << 20)
	l.mustAppend(t, 1, batchOf("space again", 1, 0))
	l.w.wait(end + 1)
}

func TestPartialWriteForWantOfSpaceIsOverwritten(t *testing.T) {
	mem := vfs.NewMem()
	fault := vfs.NewFault(mem)
	e := newTestEnv(t, testEnvConfig(fault))
	l := openTestLog(t, e, Options{})
	l.fill(t, 1, 2)
	l.w.wait(2)
	fault.Inject(vfs.Rule{Op: vfs.OpWrite, Glob: "*.log", Nth: 1, Err: fmt.Errorf("x: %w", vfs.ErrNoSpace), WriteFirst: 70})
	if _, err := l.AppendLeader(batchOf("first try", 1, 0), 1, 0); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	if l.LEO() != 2 {
		t.Fatalf("end %d", l.LEO())
	}
	if end, _, err := openAndCheck(mem.KillClone(), 0, anything(l, t)); err != nil || end != 2 {
		t.Fatalf("end %d, %v", end, err)
	}
	l.mustAppend(t, 1, batchOf("second try", 1, 0))
	l.w.wait(3)
	if end, _, err := openAndCheck(mem.CrashClone(nil), 0, anything(l, t)); err != nil || end != 3 {
		t.Fatalf("end %d, %v", end, err)
	}
}

func TestReserveRefusesDataButNotInternalLogs(t *testing.T) {
	mem := vfs.NewMem()
	mem.SetFree(1 << 20)
	cfg := testEnvConfig(mem)
	cfg.ReserveBytes = 2 << 20
	e := newTestEnv(t, cfg)
	if !e.Full() {
		t.Fatal("not full")
	}
	l := openTestLog(t, e, Options{})
	if _, err := l.AppendLeader(batchOf("x", 1, 0), 1, 0); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	conf := testConfig()
	conf.Internal = true
	in := openTestLog(t, e, Options{Dir: partitionDir(1), Config: conf})
	in.fill(t, 1, 1)
	mem.SetFree(8 << 20)
	e.checkSpace()
	l.fill(t, 1, 1)
}

func TestHangingDiskIsFinal(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	cfg := testEnvConfig(fault)
	cfg.DiskTimeout = 30 * time.Millisecond
	fatal := make(chan error, 1)
	cfg.Fatal = func(err error) { fatal <- err }
	e := newTestEnv(t, cfg)
	l := openTestLog(t, e, Options{})
	release := make(chan struct{})
	fault.Inject(vfs.Rule{Op: vfs.OpSync, Glob: "*.log", Block: release})
	l.fill(t, 1, 1)
	if err := <-fatal; !errors.Is(err, ErrHung) {
		t.Fatal(err)
	}
	close(release)
	if err := e.Close(); !errors.Is(err, ErrHung) {
		t.Fatal(err)
	}
	if l.Durable() != 0 {
		t.Fatalf("durable %d after the disk was given up", l.Durable())
	}
}

func TestIndexThatFindsNoSpaceIsWrittenLater(t *testing.T) {
	mem := vfs.NewMem()
	fault := vfs.NewFault(mem)
	e := newTestEnv(t, testEnvConfig(fault))
	l := openTestLog(t, e, Options{})
	full := fault.Inject(vfs.Rule{Op: vfs.OpCreate, Glob: "*.index.tmp", Err: fmt.Errorf("x: %w", vfs.ErrNoSpace)})
	l.fill(t, 1, 40)
	l.w.wait(40)
	if err := l.Close(); !errors.Is(err, ErrFull) {
		t.Fatalf("close without room for indexes: %v", err)
	}
	full.Remove()
	if e.Failed() != nil {
		t.Fatal(e.Failed())
	}
	mustNot(t, e.Close())
	e2 := newTestEnv(t, testEnvConfig(mem))
	l2 := openTestLog(t, e2, Options{})
	if l2.LEO() != 40 {
		t.Fatalf("end %d", l2.LEO())
	}
	mustNot(t, l2.Close())
	for _, s := range l2.Segments() {
		if _, err := mem.Stat(indexPath(l2.Log, s.Base)); s.Sealed && err != nil {
			t.Fatal(err)
		}
	}
}
