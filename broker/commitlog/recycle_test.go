package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"varve/broker/internal/vfs"
)

// fixed is a batch whose size does not depend on what it says, so that batches of several
// partitions line up in recycled files.
func fixedBatch(p int, n int64) []byte {
	return batchOf(fmt.Sprintf("partition %03d batch %09d", p, n), 1, 7)
}

func recycleEnv(t *testing.T, fsys vfs.FS) (*Env, *stepCount) {
	t.Helper()
	steps := &stepCount{}
	cfg := testEnvConfig(fsys)
	cfg.OnStep = steps.note
	return newTestEnv(t, cfg), steps
}

func (c *stepCount) count(step string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[step]
}

// cycle appends n batches and then drops all but the newest sealed segments.
func (l testLog) cycle(t *testing.T, p, n int) {
	t.Helper()
	for range n {
		l.mustAppend(t, 1, fixedBatch(p, l.LEO()))
	}
	l.w.wait(l.LEO())
	_, _, err := l.DropBefore(l.LEO() - 3)
	mustNot(t, err)
}

func TestOwnFileIsReusedAndItsOldBatchesNeverComeBack(t *testing.T) {
	mem := vfs.NewMem()
	e, steps := recycleEnv(t, mem)
	l := openTestLog(t, e, Options{})
	for step := range 300 {
		l.cycle(t, 0, 1)
		// A crash at every fill of the recycled file, whatever follows the data in it.
		for _, fs := range []*vfs.Mem{mem.CrashClone(nil), mem.KillClone(), mem.CrashClone(newRand(uint64(step)))} {
			end, _, err := openAndCheck(fs, 0, anything(l, t))
			if err != nil || end != l.LEO() {
				t.Fatalf("step %d: end %d, want %d: %v", step, end, l.LEO(), err)
			}
		}
	}
	if steps.count("recycle.taken") < 5 || steps.count("recycle.zeroed") != 0 {
		t.Fatalf("%v", steps.seen)
	}
}

func TestAnotherPartitionsFileIsZeroedFirst(t *testing.T) {
	mem := vfs.NewMem()
	e, steps := recycleEnv(t, mem)
	var logs []testLog
	for p := range 3 {
		logs = append(logs, openTestLog(t, e, Options{Dir: partitionDir(p)}))
	}
	// Offsets, epochs and sizes agree in all partitions; only the payload tells them apart.
	for round := 0; steps.count("recycle.zeroed") < 3 || round < 30; round++ {
		for p := range logs {
			if p == 0 || round%5 != 0 { // partition 0 asks for more than its own files
				logs[p].cycle(t, p, 17)
			} else {
				logs[p].cycle(t, p, 40)
			}
		}
		if round > 10_000 {
			t.Fatalf("no foreign file was zeroed: %v", steps.seen)
		}
	}
	for p, l := range logs {
		for _, fs := range []*vfs.Mem{mem.CrashClone(nil), mem.KillClone()} {
			_, batches, err := openAndCheck(fs, p, anything(l, t))
			mustNot(t, err)
			for _, b := range batches {
				if !bytes.Contains(b, []byte(fmt.Sprintf("partition %03d ", p))) {
					t.Fatalf("partition %d holds %q", p, b)
				}
			}
		}
	}
}

func TestFileThatIsReadIsNotRecycled(t *testing.T) {
	mem := vfs.NewMem()
	e, steps := recycleEnv(t, mem)
	l := openTestLog(t, e, Options{})
	l.cycle(t, 0, 17)
	span, err := l.Read(l.LocalStart(), l.LEO(), 1, true)
	mustNot(t, err)
	before, err := span.ReadAll(nil)
	mustNot(t, err)
	seg := segmentPath(l.Log, l.LocalStart())
	returned := steps.count("recycle.returned")
	for range 40 {
		l.mustAppend(t, 1, fixedBatch(0, l.LEO()))
	}
	l.w.wait(l.LEO())
	list := l.list()
	n, _, err := l.DropBefore(list[1].base)
	if err != nil || n != 1 || steps.count("recycle.returned") != returned {
		t.Fatalf("%d dropped, %v, %v", n, err, steps.seen)
	}
	if _, err := mem.Stat(seg); err == nil {
		t.Fatal("the name is still there")
	}
	for range 20 {
		l.cycle(t, 0, 20)
	}
	after, err := span.ReadAll(nil)
	if err != nil || !bytes.Equal(before, after) {
		t.Fatalf("the span changed: %v", err)
	}
	span.Release()
}

func TestFileThatWasSentIsRecycledOnlyWithProof(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		t.Run(fmt.Sprintf("stuck=%v", stuck), func(t *testing.T) {
			fault := vfs.NewFault(vfs.NewMem())
			e, steps := recycleEnv(t, fault)
			if stuck { // a socket holds a page: the cache does not let go of it
				fault.Inject(vfs.Rule{Op: vfs.OpDropCache, Err: errors.New("page is in use")})
			}
			l := openTestLog(t, e, Options{})
			for len(l.list()) < 2 {
				l.mustAppend(t, 1, fixedBatch(0, l.LEO()))
			}
			l.w.wait(l.LEO())
			span, err := l.Read(0, 1, 1, true)
			mustNot(t, err)
			span.MarkSent()
			span.Release()
			n, _, err := l.DropBefore(l.list()[1].base)
			if err != nil || n != 1 {
				t.Fatal(n, err)
			}
			if got := steps.count("recycle.returned"); got != 1 && !stuck || got != 0 && stuck {
				t.Fatalf("recycled %d files", got)
			}
		})
	}
}

func TestPoolIsBounded(t *testing.T) {
	mem := vfs.NewMem()
	e, _ := recycleEnv(t, mem)
	var wg sync.WaitGroup
	for p := range 6 {
		l := openTestLog(t, e, Options{Dir: partitionDir(p)})
		wg.Go(func() {
			for range 10 {
				l.cycle(t, p, 20)
			}
		})
	}
	wg.Wait()
	mustNot(t, e.Close())
	files, err := mem.ReadDir(testDir + "/pool")
	if err != nil || len(files) > 4 {
		t.Fatalf("%d files in the pool, %v", len(files), err)
	}
	newTestEnv(t, testEnvConfig(mem))
	if files, err := mem.ReadDir(testDir + "/pool"); err != nil || len(files) != 0 {
		t.Fatalf("%d files after a restart, %v", len(files), err)
	}
}

func TestFilesAreReusedOnlyAfterAQuickFill(t *testing.T) {
	c := newClock()
	steps := &stepCount{}
	cfg := testEnvConfig(vfs.NewMem())
	cfg.Now, cfg.OnStep = c.Now, steps.note
	e := newTestEnv(t, cfg)
	l := openTestLog(t, e, Options{})
	for range 60 {
		c.advance(10 * 60 * 1e9) // a segment takes more than an hour
		l.cycle(t, 0, 1)
	}
	if steps.count("recycle.taken") != 0 || steps.count("recycle.returned") == 0 {
		t.Fatalf("%v", steps.seen)
	}
}

// TestATakenFileIsInItsPlaceBeforeAnythingInItIsDurable kills after the first write into a file that was
// renamed out of the pool, before any sync of its new name, and cuts the power after the start that found
// it; and it cuts the power once the write is durable. Whoever relies on the file syncs its name first.
func TestATakenFileIsInItsPlaceBeforeAnythingInItIsDurable(t *testing.T) {
	mem := vfs.NewMem()
	steps := &stepCount{}
	var killed *vfs.Mem
	taken := false
	cfg := testEnvConfig(mem)
	cfg.OnStep = func(step string) {
		steps.note(step)
		switch step { // both under the log's lock; nothing is left for a flush worker to sync
		case "recycle.taken":
			taken = true
		case "append.written":
			if taken {
				taken, killed = false, mem.KillClone()
			}
		}
	}
	l := openTestLog(t, newTestEnv(t, cfg), Options{})
	for found := 0; found < 3; {
		l.mustAppend(t, 1, fixedBatch(0, l.LEO()))
		l.w.wait(l.LEO())
		if killed == nil {
			_, _, err := l.DropBefore(l.LEO() - 3)
			mustNot(t, err)
			continue
		}
		for name, fs := range map[string]*vfs.Mem{"power cut": mem.CrashClone(nil), "kill": killed} {
			end, after := startThenCut(t, fs)
			if end != l.LEO() {
				t.Fatalf("%s after a file was taken: end %d of %d", name, end, l.LEO())
			}
			if again, _, err := openAndCheck(after, 0, anything(l, t)); err != nil || again != end {
				t.Fatalf("%s after a file was taken, a start, and a power cut: end %d of %d, %v", name, again, end, err)
			}
		}
		killed = nil
		found++
	}
}

// startThenCut opens partition 0 and cuts the power as soon as the log says what is durable, before the
// janitor has written an index, which syncs the directory too.
func startThenCut(t *testing.T, fs *vfs.Mem) (end int64, after *vfs.Mem) {
	t.Helper()
	cut := make(chan struct{})
	cfg := testEnvConfig(fs)
	cfg.OnStep = func(step string) {
		if step == "roll.before-index" {
			<-cut
		}
	}
	e := newTestEnv(t, cfg)
	l, err := Open(e, Options{Dir: partitionDir(0), Config: testConfig()})
	mustNot(t, err)
	end, after = l.Durable(), fs.CrashClone(nil)
	close(cut)
	mustNot(t, errors.Join(l.Close(), e.Close()))
	return end, after
}
