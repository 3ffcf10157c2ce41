package commitlog

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"varve/broker/internal/vfs"
)

func TestAWorkerTakesItsShareOfTheDirtyLogs(t *testing.T) {
	var q flushQueue
	q.init()
	logs := make([]*Log, 10)
	for i := range logs {
		logs[i] = &Log{}
		q.push(logs[i])
	}
	var taken []*Log
	for _, want := range []int{3, 2, 2, 1, 1, 1} {
		group := q.pop(nil, 4)
		if len(group) != want {
			t.Fatalf("%d of %d logs to one of 4 workers, want %d", len(group), len(logs)-len(taken), want)
		}
		taken = append(taken, group...)
	}
	if !slices.Equal(taken, logs) {
		t.Fatal("logs did not come out in the order in which they became dirty")
	}
	for range 5 * flushGroup {
		q.push(&Log{})
	}
	if n := len(q.pop(nil, 1)); n != flushGroup {
		t.Fatalf("one worker took %d logs, the bound is %d", n, flushGroup)
	}
}

func TestAnAppendBeforeTheFlushOfAPoppedLogBeginsIsPartOfIt(t *testing.T) {
	var q flushQueue
	q.init()
	l := &Log{}
	q.push(l)
	q.pop(nil, 1)
	q.push(l)
	if l.flushState != flushQueued || q.mu.head != len(q.mu.ready) {
		t.Fatalf("state %d, %d logs queued: it waits for the flush that is to come", l.flushState, len(q.mu.ready)-q.mu.head)
	}
	q.begin(l)
	q.push(l) // this one may have come after the flush looked
	q.done(l)
	if l.flushState != flushQueued || q.mu.head == len(q.mu.ready) {
		t.Fatalf("state %d: nobody will flush what was appended during the flush", l.flushState)
	}
	q.begin(q.pop(nil, 1)[0])
	q.done(l)
	if l.flushState != flushIdle {
		t.Fatalf("state %d after the last flush", l.flushState)
	}
}

// writebackFS notes which files were written back and synced, in order; a sync waits for gate.
type writebackFS struct {
	vfs.FS
	began chan struct{} // one for each sync that waits for gate
	gate  chan struct{}
	mu    sync.Mutex
	seen  []string
}

type writebackFile struct {
	vfs.File
	fs *writebackFS
}

func (w *writebackFS) note(call string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, call)
}

func (w *writebackFS) Create(name string) (vfs.File, error) {
	f, err := w.FS.Create(name)
	return &writebackFile{f, w}, err
}

func (f *writebackFile) StartWriteback(off, n int64) {
	f.fs.note(fmt.Sprintf("write back %d+%d of %s", off, n, f.Name()))
	f.File.StartWriteback(off, n)
}

func (f *writebackFile) Sync() error {
	f.fs.note("sync " + f.Name())
	f.fs.began <- struct{}{}
	<-f.fs.gate
	return f.File.Sync()
}

func TestTheUnsyncedBytesOfAGroupAreWrittenBackBeforeItsFirstSync(t *testing.T) {
	fs := &writebackFS{FS: vfs.NewMem(), began: make(chan struct{}, 100), gate: make(chan struct{}, 100)}
	cfg := testEnvConfig(fs)
	cfg.FlushParallel = 1
	env := newTestEnv(t, cfg)
	var logs []testLog
	for p := range 3 {
		l := openTestLog(t, env, Options{Dir: partitionDir(p)})
		fs.gate <- struct{}{}
		l.fill(t, 1, 1)
		l.w.wait(1)
		<-fs.began
		logs = append(logs, l)
	}
	fs.mu.Lock()
	fs.seen = nil
	fs.mu.Unlock()
	logs[0].fill(t, 1, 1)
	<-fs.began // this sync holds the worker while the others become dirty
	var want []string
	path := func(i int) string { return segmentPath(logs[i].Log, 0) }
	size := logs[0].list()[0].meta.size / 2
	for i := 1; i < 3; i++ {
		logs[i].fill(t, 1, 1)
		want = append(want, fmt.Sprintf("write back %d+%d of %s", size, size, path(i)))
	}
	want = append([]string{"sync " + path(0)}, append(want, "sync "+path(1), "sync "+path(2))...)
	for range 100 - len(fs.gate) {
		fs.gate <- struct{}{}
	}
	for _, l := range logs {
		l.w.wait(2)
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if !slices.Equal(fs.seen, want) {
		t.Fatalf("disk saw\n%q\nwant\n%q", fs.seen, want)
	}
}
