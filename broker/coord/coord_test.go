package coord

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"varve/broker/internal/vfs"
	"varve/broker/partition"
)

func TestPartitionForIsJavasHash(t *testing.T) {
	// Computed with Java: Math.abs("...".hashCode()) % 50, and the smallest int ("polygenelubricants").
	for key, want := range map[string]int32{
		"": 0, "a": 47, "group": 47, "my-group": 12, "polygenelubricants": 0, "gr\u00fcn": 49, "\U0001F600": 49,
	} {
		if got := PartitionOf(key, 50); got != want {
			t.Errorf("%q: partition %d, Java says %d", key, got, want)
		}
	}
}

func TestStateIsReplayedAfterARestart(t *testing.T) {
	w := newWorld(t)
	w.put("a", "1", "b", "1")
	w.put("a", "2")
	if err := w.call(Step{Records: []Record{{Key: []byte("b")}}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		now, _ := w.state()
		if fmt.Sprint(now) != "map[a:2]" {
			t.Fatalf("state is %v", now)
		}
		w.restart()
	}
}

func TestReplyWaitsUntilTheDiskHasTheRecords(t *testing.T) {
	w := newWorld(t)
	w.put("a", "1")
	block := make(chan struct{})
	w.fault.Inject(vfs.Rule{Op: vfs.OpSync, Block: block})
	applied, done, read := make(chan struct{}), make(chan error, 1), make(chan error, 1)
	err := w.rt.Do(0, func(Machine, time.Time) Step {
		return Step{Records: put("a", "2"), Then: func(err error) { done <- err }}
	}, func(err error) { done <- err })
	if err != nil {
		t.Fatal(err)
	}
	err = w.rt.Do(0, func(m Machine, _ time.Time) Step {
		if m.(*table).now["a"] != "2" {
			t.Error("a later event does not see the change of an earlier one")
		}
		return Step{Then: func(err error) { read <- err }}
	}, func(err error) { read <- err })
	if err != nil {
		t.Fatal(err)
	}
	err = w.rt.Do(0, func(Machine, time.Time) Step { close(applied); return Step{} }, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	<-applied
	// A read in a later turn, when the write is appended, and an event after it, so that its turn is over.
	late, over := make(chan error, 1), make(chan struct{})
	err = w.rt.Do(0, func(Machine, time.Time) Step { return Step{Then: func(err error) { late <- err }} }, func(err error) { late <- err })
	if err != nil {
		t.Fatal(err)
	}
	err = w.rt.Do(0, func(Machine, time.Time) Step { close(over); return Step{} }, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	<-over
	select {
	case <-done:
		t.Error("a write was answered before its fdatasync")
	case <-read:
		t.Error("a read that saw what is not durable was answered")
	case <-late:
		t.Error("a later read that saw what is not durable was answered")
	default:
	}
	close(block)
	if t.Failed() {
		return
	}
	for _, c := range []chan error{done, read, late} {
		if err := <-c; err != nil {
			t.Fatal(err)
		}
	}
}

func TestManyEventsShareOneAppend(t *testing.T) {
	w := newWorld(t)
	release := w.hold()
	done := make(chan error, 50)
	for i := range 50 {
		err := w.rt.Do(0, func(Machine, time.Time) Step {
			return Step{Records: put(fmt.Sprint(i), "x"), Then: func(err error) { done <- err }}
		}, func(err error) { done <- err })
		if err != nil {
			t.Fatal(err)
		}
	}
	release()
	for range 50 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if b := w.batches(); len(b) != 1 || b[0].Count() != 50 {
		t.Fatalf("%d batches, the first of %d records", len(b), b[0].Count())
	}
}

func TestFullQueueRefusesAtOnce(t *testing.T) {
	w := newWorld(t)
	release := w.hold()
	answers := make(chan error, 101)
	nothing := func(Machine, time.Time) Step { return Step{Then: func(err error) { answers <- err }} }
	for range 100 {
		if err := w.rt.Do(0, nothing, func(err error) { answers <- err }); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.rt.Do(0, nothing, func(error) { t.Error("a refused event was dropped") }); !errors.Is(err, ErrOverloaded) {
		t.Fatalf("the event after a full queue got %v", err)
	}
	release()
	for range 100 {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
}

func TestLostLeadershipEndsEverythingThatWaits(t *testing.T) {
	w := newWorld(t)
	w.put("a", "1")
	block := make(chan struct{})
	w.fault.Inject(vfs.Rule{Op: vfs.OpSync, Block: block})
	parked, queued := make(chan error, 1), make(chan error, 1)
	applied := make(chan struct{})
	out := make(chan struct{})
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(w.rt.Do(0, func(Machine, time.Time) Step {
		return Step{Records: put("a", "2"), Then: func(err error) { parked <- err }}
	}, func(err error) { parked <- err }))
	must(w.rt.Do(0, func(Machine, time.Time) Step { close(applied); <-out; return Step{} }, func(error) {}))
	<-applied
	must(w.rt.Do(0, func(Machine, time.Time) Step { t.Error("an event ran in a lost shard"); return Step{} }, func(err error) { queued <- err }))
	m := w.machine()
	w.epoch++
	w.assign(2)
	w.rt.Apply(1, nil)
	close(out)
	if err := <-parked; !errors.Is(err, ErrNotCoordinator) {
		t.Errorf("a parked reply got %v", err)
	}
	if err := <-queued; !errors.Is(err, ErrNotCoordinator) {
		t.Errorf("a queued event got %v", err)
	}
	if err := w.rt.Do(0, nil, nil); !errors.Is(err, ErrNotCoordinator) {
		t.Errorf("an event after it got %v", err)
	}
	close(block)
	w.rt.done.Wait()
	if m.stopped != 1 {
		t.Errorf("Stopped was called %d times", m.stopped)
	}
	w.epoch++
	w.assign(1)
	w.lead()
	if now, _ := w.state(); now["a"] != "1" && now["a"] != "2" { // the outcome was not known
		t.Errorf("the next epoch has %v", now)
	}
}

func TestShardDoesNotWriteInALaterEpochOfItsBroker(t *testing.T) {
	w := newWorld(t)
	w.put("a", "1")
	release := w.hold()
	done := make(chan error, 1)
	err := w.rt.Do(0, func(Machine, time.Time) Step {
		return Step{Records: put("a", "2"), Then: func(err error) { done <- err }}
	}, func(err error) { done <- err })
	if err != nil {
		t.Fatal(err)
	}
	w.epoch++
	w.assign(1) // the broker leads again, but the runtime was not told yet
	release()
	if err := <-done; !errors.Is(err, ErrNotCoordinator) {
		t.Fatalf("a write of the old epoch got %v", err)
	}
	w.lead()
	if now, _ := w.state(); now["a"] != "1" {
		t.Fatalf("the log has %v", now)
	}
}

func TestRefusedAppendDropsTheStateAndLoadsItAnew(t *testing.T) {
	w := newWorld(t)
	w.put("a", "1")
	w.isr = 0 // fewer than min.insync.replicas
	w.assign(1)
	if err := w.call(Step{Records: put("a", "2")}); !errors.Is(err, ErrNotCoordinator) {
		t.Fatalf("a write that the log refused got %v", err)
	}
	w.isr = 1
	w.assign(1)
	if now, _ := w.state(); now["a"] != "1" {
		t.Fatalf("state after the refusal is %v", now)
	}
	w.put("a", "3")
}

func TestMachineThatRefusesItsOwnRecordIsLoadedAnew(t *testing.T) {
	w := newWorld(t)
	w.put("a", "1")
	w.machine().refuse = "b"
	if err := w.call(Step{Records: put("a", "2", "b", "2")}); !errors.Is(err, ErrNotCoordinator) {
		t.Fatal(err)
	}
	if now, _ := w.state(); fmt.Sprint(now) != "map[a:1]" {
		t.Fatalf("half a step stayed: %v", now)
	}
}

func TestTooLargeStepChangesNothing(t *testing.T) {
	w := newWorld(t)
	big := Step{Records: []Record{{Key: []byte("a"), Value: make([]byte, MaxStepBytes)}}}
	if err := w.call(big); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	if now, _ := w.state(); len(now) != 0 {
		t.Fatal("the step was applied")
	}
}

func TestMarkersAreOrderedWithTheEventsAroundThem(t *testing.T) {
	w := newWorld(t)
	txn := func(k, v string) Step {
		return Step{Records: put(k, v), Transactional: true, ProducerID: 7, ProducerEpoch: 1}
	}
	if err := w.call(txn("a", "1")); err != nil {
		t.Fatal(err)
	}
	if now, pending := w.state(); len(now) != 0 || pending != 1 {
		t.Fatalf("an open transaction shows %v, %d pending", now, pending)
	}
	w.restart()
	if now, pending := w.state(); len(now) != 0 || pending != 1 {
		t.Fatalf("an open transaction shows %v, %d pending after a restart", now, pending)
	}
	if err := w.rt.WriteMarker(t.Context(), 0, Marker{ProducerID: 7, ProducerEpoch: 1, Commit: true}); err != nil {
		t.Fatal(err)
	}
	if err := w.call(txn("b", "1")); err != nil {
		t.Fatal(err)
	}
	if err := w.rt.WriteMarker(t.Context(), 0, Marker{ProducerID: 7, ProducerEpoch: 1}); err != nil {
		t.Fatal(err)
	}
	w.put("c", "1")
	for range 2 {
		if now, pending := w.state(); fmt.Sprint(now) != "map[a:1 c:1]" || pending != 0 {
			t.Fatalf("state is %v, %d pending", now, pending)
		}
		w.restart()
	}
}

func TestMarkerComesAfterTheRecordsThatWereQueuedBeforeIt(t *testing.T) {
	w := newWorld(t)
	if err := w.call(Step{Records: put("a", "txn"), Transactional: true, ProducerID: 7, ProducerEpoch: 1}); err != nil {
		t.Fatal(err)
	}
	release := w.hold()
	done := make(chan error, 2)
	err := w.rt.Do(0, func(Machine, time.Time) Step {
		return Step{Records: put("a", "plain"), Then: func(err error) { done <- err }}
	}, func(err error) { done <- err })
	if err != nil {
		t.Fatal(err)
	}
	w.rt.StartMarker(0, Marker{ProducerID: 7, ProducerEpoch: 1, Commit: true}, func(err error) { done <- err })
	release()
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for _, when := range []string{"in memory", "as replayed"} {
		if now, _ := w.state(); now["a"] != "txn" {
			t.Errorf("%s the state is %v", when, now)
		}
		w.restart()
	}
}

func TestFencedProducerDoesNotCostTheShardItsState(t *testing.T) {
	w := newWorld(t)
	if err := w.call(Step{Records: put("a", "1"), Transactional: true, ProducerID: 7, ProducerEpoch: 5}); err != nil {
		t.Fatal(err)
	}
	m := w.machine()
	err := w.call(Step{Records: put("a", "0"), Transactional: true, ProducerID: 7, ProducerEpoch: 4})
	if !errors.Is(err, partition.ErrInvalidProducerEpoch) {
		t.Fatalf("a zombie got %v", err)
	}
	if err := w.rt.WriteMarker(t.Context(), 0, Marker{ProducerID: 7, ProducerEpoch: 4}); !errors.Is(err, partition.ErrInvalidProducerEpoch) {
		t.Fatalf("a zombie's marker got %v", err)
	}
	if _, pending := w.state(); pending != 1 || w.machine() != m || m.stopped != 0 {
		t.Fatal("the state was dropped")
	}
}

func TestTimerTicksWithoutEvents(t *testing.T) {
	w := newWorld(t)
	w.state()
	m := w.machine()
	if err := w.rt.Call(t.Context(), 0, func(m Machine, now time.Time) Step {
		m.(*table).timer = now.Add(time.Millisecond)
		return Step{}
	}); err != nil {
		t.Fatal(err)
	}
	<-m.ticked
}
