package tiering

import (
	"context"
	"errors"
	"testing"
	"time"

	"varve/tiering/object"
)

const testMaxDeleted = 8

// backlogWorld has 40 objects and room for a few dropped ones. Its bucket refuses deletions.
func backlogWorld(t *testing.T, pageEntries int) (*world, *object.Rule) {
	w := newWorld(t, func(c *Config) { c.PageEntries, c.MaxDeleted = pageEntries, testMaxDeleted })
	for range 40 {
		w.upload(w.fresh(2))
	}
	denied := &object.Rule{Op: object.OpDelete, Do: object.Fail(object.ErrDenied)}
	w.fault.Add(denied)
	return w, denied
}

func (w *world) waiting() int {
	w.t.Helper()
	m, err := w.p.current(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return len(m.m.Deleted)
}

// collectAnyway is collect for a bucket that may refuse.
func (w *world) collectAnyway() {
	w.clock.Advance(time.Hour)
	_, _ = w.p.Collect(context.Background(), CollectInput{AppliedByAll: 1, PointerIndex: 1})
}

func TestRetentionNeverListsMoreForDeletionThanMayWait(t *testing.T) {
	for _, pageEntries := range []int{2, 3, 1024} {
		w, _ := backlogWorld(t, pageEntries)
		one := w.entries()[0].RawBytes
		committed := 0
		for keep := int64(39); keep > 0; keep-- { // retention that wants one object more each time
			if _, ok := w.retain(Policy{Age: noLimit, Bytes: keep * one}); ok {
				committed++
			}
			if n := w.waiting(); n > testMaxDeleted {
				t.Fatalf("pages of %d: %d keys wait, at most %d may", pageEntries, n, testMaxDeleted)
			}
			w.collectAnyway()
		}
		if committed == 0 || committed > testMaxDeleted {
			t.Fatalf("pages of %d: %d manifests written for at most %d keys", pageEntries, committed, testMaxDeleted)
		}
		if len(w.entries()) < 40-testMaxDeleted {
			t.Fatalf("pages of %d: %d objects left", pageEntries, len(w.entries()))
		}
		w.fault.Clear()
		for range 40 {
			w.collectAnyway()
			w.retain(Policy{Age: noLimit, Bytes: 5 * one})
		}
		if n := len(w.entries()); n != 5 {
			t.Fatalf("pages of %d: once deletions work, retention ends at %d objects, want 5", pageEntries, n)
		}
	}
}

// DeleteRecords has moved raft's log start and cannot be taken back: the manifest follows in steps.
func TestDeletingMoreThanMayWaitGoesInStepsAndUploadsGoOn(t *testing.T) {
	for _, start := range []int64{157, 160, 200} { // in the last object, at its end, beyond it
		w, _ := backlogWorld(t, 3)
		w.fault.Clear()
		w.ptr.LogStart = min(start, w.ptr.TieredEnd) // what raft knows; the tier is told by Policy and Range
		w.p.SetLogStart(start)
		blocked := false
		for range 60 {
			w.retain(Policy{LogStart: start, Age: noLimit, Bytes: noLimit})
			if n := w.waiting(); n > testMaxDeleted {
				t.Fatalf("log start %d: %d keys wait, at most %d may", start, n, testMaxDeleted)
			}
			if w.ptr.LogStart < min(start, w.ptr.TieredEnd) {
				t.Fatalf("log start %d: the commit says %d", start, w.ptr.LogStart)
			}
			if err := w.readErr(start - 1); !errors.Is(err, ErrOutOfRange) {
				t.Fatalf("log start %d: read below it: %v", start, err)
			}
			if start > 160 {
				_, err := w.p.Upload(context.Background(), Range{First: start, Next: start + 2, LogStart: start, LeaderEpoch: w.epoch},
					&sliceReader{err: errors.New("not read")})
				blocked = blocked || errors.Is(err, ErrBacklog)
			}
			w.collectAnyway()
		}
		if want := map[bool]int{true: 0, false: 1}[start >= 160]; len(w.entries()) != want {
			t.Fatalf("log start %d: %d objects are live, want %d", start, len(w.entries()), want)
		}
		if start > 160 && !blocked {
			t.Error("an upload that leaves a gap did not wait for the objects below it")
		}
		w.ptr.TieredEnd = max(w.ptr.TieredEnd, start)
		w.src = nil
		batches := w.fresh(2)
		w.upload(batches)
		w.mustEqual(w.readAll(batches[0].First, 1000), joinBatches(batches))
	}
}
