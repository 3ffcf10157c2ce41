package partition

import (
	"errors"
	"testing"
	"time"

	"varve/broker/commitlog"
	"varve/tiering/object"
)

// hangTheBucket makes a void replica whose open waits for the bucket.
func hangTheBucket(t *testing.T) (w *world, rule *object.Rule) {
	t.Helper()
	w = newWorld(t, func(c *TopicConfig) { c.LocalBytes = 0 })
	w.append(100, 3, 100)
	w.mustWork()
	w.stop()
	if err := w.fs.RemoveAll("data/topics"); err != nil {
		t.Fatal(err)
	}
	rule = &object.Rule{Op: object.OpGet, Do: object.Hang()}
	w.fault.Add(rule)
	w.mu.a.LeaderEpoch++
	w.start()
	return w, rule
}

func TestStopCutsOffAnOpenThatWaitsForTheBucket(t *testing.T) {
	w, rule := hangTheBucket(t)
	failed := make(chan error, 1)
	go func() {
		_, err := w.r.Log()
		failed <- err
	}()
	<-rule.Entered()
	start := time.Now()
	if err := w.r.Stop(false); err != nil {
		t.Error(err)
	}
	if err := <-failed; err == nil {
		t.Error("the open went well")
	}
	if took := time.Since(start); took >= borderTimeout {
		t.Errorf("Stop took %v, as long as the bucket", took)
	}
}

func TestAnOpenTakesOverWhatWasAppliedMeanwhile(t *testing.T) {
	w, rule := hangTheBucket(t)
	opened := make(chan error, 1)
	go func() {
		_, err := w.r.Log()
		opened <- err
	}()
	<-rule.Entered()
	w.mu.Lock()
	conf := *w.mu.a.Config
	conf.Log.SegmentBytes = 1 << 20 // before, a segment held 4 KiB
	w.mu.a.Config = &conf
	next := w.mu.a
	w.mu.Unlock()
	w.r.Apply(next)
	rule.Release()
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	w.append(20, 3, 1000)
	if segments := w.r.Segments(); len(segments) != 1 {
		t.Errorf("%d segments of 60 KB in all: the log rolls by the config of before", len(segments))
	}
}

func TestALogThatEndsBelowLogStartGoesOnAtLogStart(t *testing.T) {
	w := newWorld(t, func(c *TopicConfig) {
		c.Tiered = false
		c.Log = commitlog.Config{SegmentBytes: 1 << 20, WriteCaching: true, FlushEvery: time.Hour}
	})
	w.append(10, 3, 100)
	start, err := w.r.DeleteRecords(t.Context(), -1)
	if err != nil || start != 30 {
		t.Fatalf("log start %d, %v", start, err)
	}
	cut := w.fs.CrashClone(nil) // nothing was synced: the log is gone, what raft knows is not
	w.stop()
	w.fs = cut
	w.mu.a.LeaderEpoch++
	w.start()
	info, _, err := w.r.Append(batchAt(1, 1, 10), nil)
	if err != nil || info.First < start {
		t.Fatalf("appended at %d, %v: below the log start %d nobody reads it", info.First, err, start)
	}
	w.r.check()
	if bases, err := w.readAll(start); err != nil || len(bases) != 1 {
		t.Errorf("read %v, %v", bases, err)
	}
}

func TestADeletedTopicIsAtOnceNeitherWrittenNorRead(t *testing.T) {
	w := newWorld(t, nil)
	s := NewSet(SetConfig{NodeID: 1, Dir: "data/topics", Env: w.env, Tier: w.tier, Propose: w.propose, Now: w.clockNow, Log: quiet()})
	id := [16]byte{2}
	assigned := w.mu.a
	s.Apply([]Update{{Name: "d", ID: id, IDText: "AgAAAAAAAAAAAAAAAAAAAA", Partitions: 1, Assign: func(int32) (Assignment, bool) { return assigned, true }}}, nil)
	r := s.ByName("d").Partition(0)
	if _, _, err := r.Append(batchAt(1, 1, 10), nil); err != nil {
		t.Fatal(err)
	}
	woken := &wakes{make(chan int64, 8)}
	sub := &Sub{Owner: woken}
	r.Subscribe(sub)
	gone := s.Apply(nil, [][16]byte{id})
	if len(gone) != 1 || s.ByName("d") != nil || s.ByID(id) != nil {
		t.Fatalf("%d replicas are gone, the table has it still", len(gone))
	}
	sub.Unsubscribe()
	if len(woken.c) == 0 {
		t.Error("who waited for it was not woken")
	}
	if _, _, err := r.Append(batchAt(1, 1, 10), nil); !errors.Is(err, ErrNotLeader) {
		t.Errorf("append: %v", err)
	}
	if err := r.CheckLeader(-1); !errors.Is(err, ErrNotLeader) {
		t.Errorf("fetch: %v", err)
	}
	if err := r.Stop(true); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
