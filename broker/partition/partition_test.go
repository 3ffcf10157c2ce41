package partition

import (
	"context"
	"errors"
	"testing"
	"time"

	"varve/broker/commitlog"
	"varve/tiering/object"
)

func TestAckWaitsForDurableAndBelongsToItsEpoch(t *testing.T) {
	w := newWorld(t, func(c *TopicConfig) { c.MinISR = 2 })
	w.mu.a.Replicas, w.mu.a.ISR = 2, 2
	w.r.Apply(w.mu.a)
	c := newCollector()
	// The ISR falls below min ISR between the check before the append and the answer: HW stays.
	info, parked, err := w.r.Append(batchAt(1, 1, 10), nil)
	if err != nil || parked || info.First != 0 {
		t.Fatal(info, parked, err)
	}
	w.mu.a.ISR = 1
	w.r.Apply(w.mu.a)
	if _, _, err := w.r.Append(batchAt(1, 1, 10), &Ack{Owner: c}); !errors.Is(err, ErrNotEnoughReplicas) {
		t.Fatalf("acks=all below min ISR: %v", err)
	}
	if _, _, err := w.r.Append(batchAt(1, 1, 10), nil); err != nil {
		t.Fatalf("acks=1 below min ISR: %v", err)
	}
	l, err := w.r.Log()
	if err != nil {
		t.Fatal(err)
	}
	if cp, ok := l.Checkpoint(); !ok || l.Durable() != 2 {
		t.Fatalf("durable %d after a flush, %v", l.Durable(), cp)
	}
	if w.r.HW() > 1 {
		t.Errorf("HW moved to %d while the ISR was below min ISR", w.r.HW())
	}
	w.mu.a.ISR = 2
	w.r.Apply(w.mu.a)
	if w.r.HW() != 2 {
		t.Errorf("HW %d once the ISR is whole again, want 2", w.r.HW())
	}
}

func TestParkedAckIsAnsweredNotLeaderWhenItsEpochEnds(t *testing.T) {
	w := newWorld(t, nil)
	c := newCollector()
	w.r.mu.Lock() // park by hand: the flusher is too quick to be raced on purpose
	w.r.mu.acks.push(&Ack{Owner: c, End: 100})
	w.r.mu.Unlock()
	w.mu.a.LeaderEpoch++ // this broker leads again, in a new epoch
	w.r.Apply(w.mu.a)
	<-c.got
	if !errors.Is(c.errs[0], ErrNotLeader) {
		t.Errorf("answered %v", c.errs[0])
	}
	if w.r.LeaderEpoch() != 6 {
		t.Errorf("leader epoch %d", w.r.LeaderEpoch())
	}
	if err := w.r.CheckLeader(5); !errors.Is(err, ErrFencedEpoch) {
		t.Errorf("a client of the old epoch gets %v", err)
	}
	if err := w.r.CheckLeader(7); !errors.Is(err, ErrUnknownEpoch) {
		t.Errorf("a client ahead of us gets %v", err)
	}
}

func TestOlderAssignmentIsIgnored(t *testing.T) {
	w := newWorld(t, nil)
	old := w.mu.a
	old.LeaderEpoch, old.Leader = 4, 2
	w.r.Apply(old)
	if !w.r.IsLeader() || w.r.LeaderEpoch() != 5 {
		t.Errorf("leader %v in epoch %d after a stale assignment", w.r.IsLeader(), w.r.LeaderEpoch())
	}
}

func TestReadsCrossTheSeamWithoutGap(t *testing.T) {
	w := newWorld(t, func(c *TopicConfig) { c.LocalBytes = 4096 })
	w.append(100, 3, 100)
	w.mustWork()
	l, _ := w.r.Log()
	if l.LocalStart() == 0 || w.r.TieredEnd() < l.LocalStart() {
		t.Fatalf("local from %d, tiered to %d: nothing moved", l.LocalStart(), w.r.TieredEnd())
	}
	for _, from := range []int64{0, 1, l.LocalStart() - 1, l.LocalStart(), w.r.TieredEnd(), 299} {
		bases, err := w.readAll(from)
		if err != nil || len(bases) == 0 {
			t.Fatalf("from %d: %d batches, %v", from, len(bases), err)
		}
	}
	if _, err := w.r.ReadHot(301, 100, true, false); !errors.Is(err, ErrOffsetOutOfRange) {
		t.Errorf("above LEO: %v", err)
	}
	w.restart()
	if _, err := w.r.Log(); err != nil {
		t.Fatal(err)
	}
	if bases, err := w.readAll(0); err != nil || len(bases) != 100 {
		t.Fatalf("after a restart: %d batches, %v", len(bases), err)
	}
}

func TestColdFailureIsAStorageErrorAndNeverASkip(t *testing.T) {
	w := newWorld(t, func(c *TopicConfig) { c.LocalBytes = 0 })
	w.append(60, 3, 100)
	w.mustWork()
	for _, action := range []object.Action{object.Missing(), object.Truncate(100), object.FlipBit(800), object.Fail(object.ErrUnavailable)} {
		w.fault.Add(&object.Rule{Op: object.OpGet, Key: ".seg.lz4", Do: action})
		bases, err := w.readAll(0)
		if !errors.Is(err, ErrStorage) {
			t.Errorf("%v: %d batches, err %v", action, len(bases), err)
		}
		if h, err := w.r.ReadHot(w.r.HW()-1, 1000, true, false); err != nil || h.Cold {
			t.Errorf("%v: hot read is touched: %v", action, err)
		} else {
			h.Span.Release()
		}
		w.fault.Clear()
	}
	if bases, err := w.readAll(0); err != nil || len(bases) != 60 {
		t.Errorf("after the store is well again: %d batches, %v", len(bases), err)
	}
}

func TestNothingIsDroppedLocallyBeforeTheCommit(t *testing.T) {
	w := newWorld(t, func(c *TopicConfig) { c.LocalBytes = 0 })
	w.append(60, 3, 100)
	w.fault.Add(&object.Rule{Op: object.OpPut, Key: "/manifest/", Do: object.Fail(object.ErrUnavailable)})
	if err := w.work(); err == nil {
		t.Fatal("an upload whose manifest failed says it went well")
	}
	l, _ := w.r.Log()
	if l.LocalStart() != 0 || w.r.TieredEnd() != 0 {
		t.Fatalf("local from %d, tiered to %d without a commit", l.LocalStart(), w.r.TieredEnd())
	}
	w.fault.Clear()
	w.mustWork()
	if l.LocalStart() == 0 {
		t.Error("nothing left the disk after the commit")
	}
	if bases, err := w.readAll(0); err != nil || len(bases) != 60 {
		t.Errorf("%d batches, %v", len(bases), err)
	}
}

func TestADeposedLeadersCommitIsRefusedAndChangesNothing(t *testing.T) {
	w := newWorld(t, func(c *TopicConfig) { c.LocalBytes = 0 })
	w.append(60, 3, 100)
	w.mu.Lock()
	w.mu.a.LeaderEpoch++ // raft has moved on, this replica has not heard of it
	w.mu.Unlock()
	if err := w.work(); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("a stale commit: %v", err)
	}
	l, _ := w.r.Log()
	if l.LocalStart() != 0 || w.r.TieredEnd() != 0 {
		t.Errorf("local from %d, tiered to %d", l.LocalStart(), w.r.TieredEnd())
	}
}

func TestListOffsetsIsExactOverBothTiers(t *testing.T) {
	w := newWorld(t, func(c *TopicConfig) { c.LocalBytes = 4096 })
	start := w.now.UnixMilli()
	for range 50 {
		w.append(1, 4, 200)
		w.now = w.now.Add(time.Second)
	}
	w.mustWork()
	l, _ := w.r.Log()
	local, tiered := l.LocalStart(), w.r.TieredEnd()
	find := func(ts int64) Found {
		t.Helper()
		f, err := w.r.ListOffset(t.Context(), ts, false)
		if err != nil {
			t.Fatalf("timestamp %d: %v", ts, err)
		}
		return f
	}
	for ts, want := range map[int64]int64{
		Latest: 200, Earliest: 0, EarliestLocal: local, LatestTiered: tiered - 1, EarliestPendingUpload: tiered, MaxTimestamp: 199,
		start: 0, start + 1: 1, start + 4: 4, start + 1000: 4, start + 20_002: 82, start + 49_003: 199, start + 49_004: -1, 0: 0,
	} {
		if got := find(ts); got.Offset != want {
			t.Errorf("timestamp %d: offset %d, want %d (local from %d, tiered to %d)", ts, got.Offset, want, local, tiered)
		}
	}
	if got := find(start + 20_002); got.Timestamp != start+20_002 || got.Epoch != 5 {
		t.Errorf("found %+v", got)
	}
}

func TestDeleteRecordsMovesLogStartInBothTiers(t *testing.T) {
	w := newWorld(t, func(c *TopicConfig) { c.LocalBytes = 4096 })
	w.append(100, 3, 100)
	w.mustWork()
	for _, bad := range []int64{-2, 301} {
		if _, err := w.r.DeleteRecords(t.Context(), bad); !errors.Is(err, ErrOffsetOutOfRange) {
			t.Errorf("delete before %d: %v", bad, err)
		}
	}
	low, err := w.r.DeleteRecords(t.Context(), 7)
	if err != nil || low != 7 {
		t.Fatal(low, err)
	}
	if _, err := w.r.ReadHot(6, 100, true, false); !errors.Is(err, ErrOffsetOutOfRange) {
		t.Errorf("below the new start: %v", err)
	}
	if bases, err := w.readAll(7); err != nil || len(bases) != 98 {
		t.Errorf("%d batches from 7, %v", len(bases), err)
	}
	if low, err := w.r.DeleteRecords(t.Context(), 3); err != nil || low != 7 {
		t.Errorf("a delete below the start answers %d, %v", low, err)
	}
	if low, err := w.r.DeleteRecords(t.Context(), -1); err != nil || low != 300 {
		t.Errorf("a delete of everything answers %d, %v", low, err)
	}
	w.mustWork()
}

func TestAClockAYearAheadDeletesNothing(t *testing.T) {
	w := newWorld(t, func(c *TopicConfig) { c.RetentionAge, c.LocalAge = 24*time.Hour, time.Hour })
	w.append(60, 3, 100)
	w.mustWork()
	before := w.r.LogStart()
	w.now = w.now.Add(365 * 24 * time.Hour)
	w.clock.look(w.now, time.Second, quiet())
	if w.clock.trusted() {
		t.Fatal("a jump of a year is not noticed")
	}
	w.mustWork()
	if got := w.r.LogStart(); got != before {
		t.Errorf("log start moved from %d to %d", before, got)
	}
}

func TestRetentionByTimeTakesAtMostHalfInOneRun(t *testing.T) {
	w := newWorld(t, func(c *TopicConfig) { c.Tiered, c.RetentionAge = false, time.Hour })
	w.append(100, 3, 100)
	l, _ := w.r.Log()
	before := l.SizeBytes()
	w.now = w.now.Add(2 * time.Hour)
	w.clock.start(w.now)
	w.mustWork()
	after := l.SizeBytes()
	if after >= before || after < before/2 {
		t.Errorf("%d bytes of %d are left", after, before)
	}
}

func TestRetireFloorFollowsKafka(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	seg := func(base, bytes, maxTime int64, sealed bool) commitlog.SegmentInfo {
		return commitlog.SegmentInfo{Base: base, Next: base + 10, Bytes: bytes, MaxTime: maxTime, Sealed: sealed}
	}
	list := []commitlog.SegmentInfo{seg(0, 100, 900_000, true), seg(10, 100, 990_000, true), seg(20, 100, 995_000, true), seg(30, 50, 999_000, false)}
	for _, c := range []struct {
		limit int64
		age   time.Duration
		want  int64
	}{
		{-1, -1, -1},
		{350, -1, -1}, // what stays must be at least the limit
		{250, -1, 10},
		{249, -1, 10},
		{150, -1, 20},
		{0, -1, 30}, // never the active one
		{-1, 50 * time.Second, 10},
		{-1, 8 * time.Second, 20},
		{-1, 0, 30},
		{150, 50 * time.Second, 20},
	} {
		if got := retireFloor(list, c.limit, c.age, now); got != c.want {
			t.Errorf("bytes %d age %v: floor %d, want %d", c.limit, c.age, got, c.want)
		}
	}
}

func TestSubscribersAreWokenByHWAndByTheEndOfTheRole(t *testing.T) {
	w := newWorld(t, nil)
	o := &wakes{c: make(chan int64, 16)}
	s := &Sub{Owner: o}
	w.r.Subscribe(s)
	w.append(1, 3, 10)
	if grown := <-o.c; grown != 3 {
		t.Errorf("woken by %d offsets", grown)
	}
	w.mu.a.Leader, w.mu.a.LeaderEpoch = 2, 6
	w.r.Apply(w.mu.a)
	<-o.c
	s.Unsubscribe()
	w.mu.a.Leader, w.mu.a.LeaderEpoch = 1, 7
	w.r.Apply(w.mu.a)
	w.append(1, 1, 10)
	if len(o.c) != 0 {
		t.Error("woken after Unsubscribe")
	}
}

type wakes struct{ c chan int64 }

func (w *wakes) Wake(_ *Sub, grown int64) { w.c <- grown }

func TestVoidLogStartsAtTheTierBorder(t *testing.T) {
	w := newWorld(t, func(c *TopicConfig) { c.LocalBytes = 0 })
	w.append(100, 3, 100)
	w.mustWork()
	border := w.r.TieredEnd()
	w.stop()
	if err := w.fs.RemoveAll("data/topics"); err != nil { // the disk is gone, the bucket is not
		t.Fatal(err)
	}
	w.mu.a.LeaderEpoch++
	w.start()
	l, err := w.r.Log()
	if err != nil {
		t.Fatal(err)
	}
	if l.LEO() != border || w.r.HW() != border {
		t.Fatalf("log ends at %d, HW %d, want the border %d", l.LEO(), w.r.HW(), border)
	}
	w.append(1, 1, 10)
	if bases, err := w.readAll(0); err != nil || bases[len(bases)-1] != border {
		t.Errorf("%d batches, the last at %v, %v", len(bases), bases, err)
	}
}

func TestVoidLogWaitsForTheBucketWithARetriableError(t *testing.T) {
	w := newWorld(t, func(c *TopicConfig) { c.LocalBytes = 0 })
	w.append(100, 3, 100)
	w.mustWork()
	w.stop()
	if err := w.fs.RemoveAll("data/topics"); err != nil {
		t.Fatal(err)
	}
	w.fault.Add(&object.Rule{Op: object.OpGet, Do: object.Fail(object.ErrUnavailable)})
	w.mu.a.LeaderEpoch++
	w.start()
	if _, _, err := w.r.Append(batchAt(1, 1, 1), nil); !errors.Is(err, ErrStorage) {
		t.Errorf("append while the bucket is away: %v", err)
	}
	w.fault.Clear()
	if _, _, err := w.r.Append(batchAt(1, 1, 1), nil); err != nil {
		t.Errorf("append once it is back: %v", err)
	}
}

func TestEpochEndIsAnsweredFromBothTiers(t *testing.T) {
	w := newWorld(t, func(c *TopicConfig) { c.LocalBytes = 0 })
	w.append(60, 3, 100)
	w.mustWork()
	w.restart()
	w.append(60, 3, 100)
	w.mustWork()
	e, end, err := w.r.EpochEnd(context.Background(), 5)
	if err != nil || e != 5 || end != 180 {
		t.Errorf("epoch 5 ends at (%d, %d), %v", e, end, err)
	}
	if e, end, _ := w.r.EpochEnd(context.Background(), 6); e != 6 || end != 360 {
		t.Errorf("the current epoch ends at (%d, %d)", e, end)
	}
	if e, end, _ := w.r.EpochEnd(context.Background(), 7); e != -1 || end != -1 {
		t.Errorf("an epoch to come ends at (%d, %d)", e, end)
	}
}
