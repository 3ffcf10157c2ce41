package vfs

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
)

var errDisk = errors.New("the disk says no")

func TestFailedSyncLosesPagesAndThenLies(t *testing.T) {
	m := NewMem()
	fsys := NewFault(m)
	f := mustCreate(t, fsys, "a")
	mustWrite(t, f, 0, "safe")
	must(t, f.Sync())
	must(t, fsys.SyncDir("."))
	mustWrite(t, f, 0, "lost")
	rule := fsys.Inject(Rule{Op: OpSync, Glob: "a", Nth: 1, Err: errDisk})
	wantErr(t, f.Sync(), errDisk)
	must(t, f.Sync())
	if rule.Hits() != 1 {
		t.Fatalf("%d hits", rule.Hits())
	}
	mustContain(t, fsys, "a", "lost")
	for seed := range uint64(50) {
		mustContain(t, m.CrashClone(rand.New(rand.NewPCG(seed, 0))), "a", "safe")
	}
	f.DropCache(0, 0)
	mustContain(t, fsys, "a", "safe")
	mustWrite(t, f, 0, "next")
	must(t, f.Sync())
	mustContain(t, m.CrashClone(nil), "a", "next")
}

func TestRulesMeetTheirOperationOnly(t *testing.T) {
	fsys := NewFault(NewMem(), Rule{Op: OpCreate, Glob: "*.log", Nth: 2, Err: errDisk})
	mustCreate(t, fsys, "1.log")
	mustCreate(t, fsys, "1.index")
	_, err := fsys.Create("2.log")
	wantErr(t, err, errDisk)
	mustCreate(t, fsys, "2.log")

	for op, do := range map[Op]func() error{
		OpOpen:          func() error { _, err := fsys.Open("1.log"); return err },
		OpOpenReadWrite: func() error { _, err := fsys.OpenReadWrite("1.log"); return err },
		OpRename:        func() error { return fsys.Rename("1.index", "1.log") },
		OpRemove:        func() error { return fsys.Remove("1.log") },
		OpRemoveAll:     func() error { return fsys.RemoveAll("1.log") },
		OpMkdirAll:      func() error { return fsys.MkdirAll("1.log") },
		OpReadDir:       func() error { _, err := fsys.ReadDir("1.log"); return err },
		OpStat:          func() error { _, err := fsys.Stat("1.log"); return err },
		OpSyncDir:       func() error { return fsys.SyncDir("1.log") },
		OpLock:          func() error { _, err := fsys.Lock("1.log"); return err },
		OpUsage:         func() error { _, err := fsys.Usage("1.log"); return err },
	} {
		rule := fsys.Inject(Rule{Op: op, Glob: "1.*", Err: errDisk})
		wantErr(t, do(), errDisk)
		rule.Remove()
		if rule.Hits() != 1 {
			t.Fatalf("%s: %d hits", op, rule.Hits())
		}
	}
	if _, err := fsys.Stat("1.log"); err != nil {
		t.Fatalf("a refused operation was done: %v", err)
	}
}

func TestFileRules(t *testing.T) {
	m := NewMem()
	fsys := NewFault(m)
	f := mustCreate(t, fsys, "d")
	mustWrite(t, f, 0, "abcdef")
	must(t, f.Sync())
	for op, do := range map[Op]func() error{
		OpRead:     func() error { _, err := f.ReadAt(make([]byte, 1), 0); return err },
		OpTruncate: func() error { return f.Truncate(0) },
		OpAllocate: func() error { return f.Allocate(0, 1) },
		OpResident: func() error { _, err := f.Resident(0, 1); return err },
	} {
		rule := fsys.Inject(Rule{Op: op, Err: errDisk})
		wantErr(t, do(), errDisk)
		rule.Remove()
	}
	stuck := fsys.Inject(Rule{Op: OpDropCache, Err: errDisk})
	f.DropCache(0, 0)
	if some, err := f.Resident(0, 0); !some || err != nil {
		t.Fatalf("the cache was dropped: %v, %v", some, err)
	}
	stuck.Remove()
	torn := fsys.Inject(Rule{Op: OpWrite, Err: errDisk, WriteFirst: 2})
	n, err := f.WriteAt([]byte("XYZ"), 0)
	wantErr(t, err, errDisk)
	torn.Remove()
	if n != 2 {
		t.Fatalf("%d bytes written", n)
	}
	mustContain(t, fsys, "d", "XYcdef")
	fsys.Inject(Rule{Op: OpClose, Err: errDisk})
	wantErr(t, f.Close(), errDisk)
}

func TestBlockedOperationWaitsForItsRelease(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{})
	fsys := NewFault(NewMem())
	f := mustCreate(t, fsys, "a")
	fsys.Inject(Rule{Op: OpSync, Nth: 1, Block: release, Hook: func(Op, string) { close(arrived) }})
	var wg sync.WaitGroup
	var order []string
	wg.Go(func() {
		if err := f.Sync(); err != nil {
			t.Error(err)
		}
		order = append(order, "synced")
	})
	<-arrived
	must(t, f.Sync())
	order = append(order, "released")
	close(release)
	wg.Wait()
	if order[0] != "released" {
		t.Fatal("the sync did not wait")
	}
}
