package partition

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"varve/broker/commitlog"
	"varve/tiering/object"
)

// tieredWorld is a replica of several segments, all local, the sealed ones of the first part also tiered;
// it is stopped. sealed are the segments below TieredEnd.
func tieredWorld(t *testing.T) (w *world, sealed []commitlog.SegmentInfo, bases []int64) {
	t.Helper()
	w = newWorld(t, nil)
	w.append(120, 3, 100)
	w.mustWork()
	for _, s := range w.r.Segments() {
		if s.Sealed && s.Next <= w.r.TieredEnd() {
			sealed = append(sealed, s)
		}
	}
	if len(sealed) < 4 || sealed[0].Base != 0 {
		t.Fatalf("tiered to %d: %v", w.r.TieredEnd(), sealed)
	}
	bases, err := w.readAll(0)
	if err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.mu.a.LeaderEpoch++
	return w, sealed, bases
}

func (w *world) file(base int64, suffix string) string {
	w.t.Helper()
	entries, err := w.fs.ReadDir(w.r.Dir())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		if commitlogBase(e.Name()) == base && strings.HasSuffix(e.Name(), suffix) {
			return w.r.Dir() + "/" + e.Name()
		}
	}
	w.t.Fatalf("no %s of %d", suffix, base)
	return ""
}

func commitlogBase(name string) (base int64) {
	for _, c := range name {
		if c < '0' || c > '9' {
			break
		}
		base = base*10 + int64(c-'0')
	}
	return base
}

func (w *world) remove(base int64, suffixes ...string) {
	w.t.Helper()
	for _, s := range suffixes {
		if err := w.fs.Remove(w.file(base, s)); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) truncate(base int64) {
	w.t.Helper()
	f, err := w.fs.OpenReadWrite(w.file(base, ".log"))
	if err == nil {
		err = errors.Join(f.Truncate(1000), f.Sync(), f.Close())
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestDamageBelowTheTiersEndDoesNotTakeThePartitionOffline(t *testing.T) {
	for name, x := range map[string]struct {
		harm  func(w *world, s []commitlog.SegmentInfo)
		aside bool
	}{
		"the first file is missing":     {func(w *world, s []commitlog.SegmentInfo) { w.remove(s[0].Base, ".log") }, false},
		"one in the middle is missing":  {func(w *world, s []commitlog.SegmentInfo) { w.remove(s[2].Base, ".log") }, false},
		"its index is missing, too":     {func(w *world, s []commitlog.SegmentInfo) { w.remove(s[2].Base, ".log", ".index") }, false},
		"the last one is missing":       {func(w *world, s []commitlog.SegmentInfo) { w.remove(s[len(s)-1].Base, ".log") }, false},
		"the last one and its index":    {func(w *world, s []commitlog.SegmentInfo) { w.remove(s[len(s)-1].Base, ".log", ".index") }, false},
		"one is shorter than it was":    {func(w *world, s []commitlog.SegmentInfo) { w.truncate(s[1].Base) }, true},
		"two are gone":                  {func(w *world, s []commitlog.SegmentInfo) { w.truncate(s[0].Base); w.remove(s[2].Base, ".log") }, false},
		"a bit is rotten, and no index": {func(w *world, s []commitlog.SegmentInfo) { w.flipBit(); w.remove(s[0].Base, ".index") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			w, sealed, want := tieredWorld(t)
			x.harm(w, sealed)
			before := w.r.TieredEnd()
			w.start()
			w.append(3, 3, 100)
			got, err := w.readAll(0)
			if err != nil || len(got) != len(want)+3 || !slices.Equal(got[:len(want)], want) {
				t.Fatalf("read %d batches of %d: %v", len(got), len(want)+3, err)
			}
			l, err := w.r.Log()
			if err != nil || l.LocalStart() == 0 || l.LocalStart() > before {
				t.Fatalf("local from %d, tiered to %d: %v", l.LocalStart(), before, err)
			}
			stray, err := w.fs.ReadDir("data/stray")
			if x.aside != (err == nil && len(stray) == 1) {
				t.Errorf("set aside: %v, %v", stray, err)
			}
			w.restart() // it stays so, and nothing is set aside again
			if _, err := w.r.Log(); err != nil {
				t.Fatal(err)
			}
			if got, err := w.readAll(0); err != nil || len(got) != len(want)+3 {
				t.Errorf("after another start: %d batches, %v", len(got), err)
			}
			if again, _ := w.fs.ReadDir("data/stray"); len(again) != len(stray) {
				t.Errorf("set aside again: %v", again)
			}
		})
	}
}

func TestDamageAboveTheTiersEndKeepsThePartitionOfflineAndChangesNothing(t *testing.T) {
	w, _, want := tieredWorld(t)
	w.start()
	w.mu.a.Config.CopyDisabled = true
	w.append(60, 3, 100) // sealed, and in no bucket
	all, err := w.readAll(0)
	if err != nil || len(all) != len(want)+60 {
		t.Fatal(len(all), err)
	}
	var lost commitlog.SegmentInfo
	for _, s := range w.r.Segments() {
		if s.Sealed && s.Base >= w.r.TieredEnd() {
			lost = s
			break
		}
	}
	w.stop()
	whole := w.fs.KillClone()
	w.remove(lost.Base, ".log")
	w.remove(0, ".log") // and damage below does not help over it
	count := func() int {
		e, err := w.fs.ReadDir(w.r.Dir())
		if err != nil {
			t.Fatal(err)
		}
		return len(e)
	}
	files := count()
	w.mu.a.LeaderEpoch++
	w.start()
	for range 2 {
		_, err := w.r.ReadHot(0, 1<<20, true, false)
		var damaged *commitlog.DamagedError
		if !errors.Is(err, ErrStorage) || !errors.As(err, &damaged) || damaged.Offset < w.r.TieredEnd() || !strings.HasPrefix(damaged.File, w.r.Dir()) {
			t.Fatalf("records that only the disk had are lost: %v", err)
		}
	}
	if n := count(); n != files {
		t.Errorf("%d files where %d were", n, files)
	}
	w.stop()
	w.fs = whole // the operator puts the files back
	w.mu.a.LeaderEpoch++
	w.start()
	if _, err := w.r.Log(); err != nil {
		t.Fatal(err)
	}
	if got, err := w.readAll(0); err != nil || !slices.Equal(got, all) {
		t.Errorf("files put back: %d batches of %d, %v", len(got), len(all), err)
	}
}

func TestADamagedLogThatKnowsItsStateOpensWhileTheBucketIsDead(t *testing.T) {
	w, sealed, _ := tieredWorld(t)
	w.remove(sealed[1].Base, ".log")
	w.fault.Add(&object.Rule{Op: object.OpGet, Do: object.Fail(errors.New("bucket is dead"))})
	w.start()
	w.append(3, 3, 100)
	if l, err := w.r.Log(); err != nil || l.LocalStart() != sealed[1].Next {
		t.Errorf("local from %d, want %d: %v", l.LocalStart(), sealed[1].Next, err)
	}
}

func TestARequestNeverWaitsForTheBucketThatAWorkerOpensFrom(t *testing.T) {
	w, _, want := tieredWorld(t)
	if err := w.fs.RemoveAll("data/topics"); err != nil {
		t.Fatal(err)
	}
	rule := &object.Rule{Op: object.OpGet, Do: object.Hang()}
	w.fault.Add(rule)
	w.start()
	kicked := 0
	w.r.kick = func() { kicked++ }
	if _, err := w.r.Log(); !errors.Is(err, ErrStorage) || kicked != 1 {
		t.Fatalf("the first request: %v, %d kicks", err, kicked)
	}
	ctx, cancel := context.WithCancel(t.Context())
	worker := make(chan error, 1)
	go func() {
		_, err := w.r.logForWork(ctx)
		worker <- err
	}()
	<-rule.Entered()
	if _, err := w.r.Log(); !errors.Is(err, ErrStorage) { // would hang here
		t.Fatalf("while a worker waits for the bucket: %v", err)
	}
	cancel()
	if err := <-worker; err == nil {
		t.Fatal("opened without the bucket")
	}
	w.fault.Clear()
	l, err := w.r.logForWork(t.Context())
	if err != nil || l.LocalStart() != w.r.TieredEnd() {
		t.Fatalf("the bucket is back: %v", err)
	}
	got, err := w.readAll(0)
	if err != nil || len(got) == 0 || !slices.Equal(got, want[:len(got)]) {
		t.Errorf("read %d batches: %v", len(got), err)
	}
}

func TestASegmentThatIsLostWhileTheLogIsOpenIsServedFromTheTier(t *testing.T) {
	w, sealed, want := tieredWorld(t)
	w.start()
	if _, err := w.r.Log(); err != nil {
		t.Fatal(err)
	}
	w.remove(sealed[1].Base, ".log")
	got, err := w.readAll(0)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("read %d batches of %d: %v", len(got), len(want), err)
	}
	w.mustWork()
	if l, err := w.r.Log(); err != nil || l.LocalStart() != sealed[1].Next {
		t.Errorf("the damaged segment is still part of the log: %v", err)
	}
}
