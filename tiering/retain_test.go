package tiering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"varve/tiering/object"
)

const noLimit = -1

func (w *world) retain(pol Policy) (Commit, bool) {
	w.t.Helper()
	pol.LeaderEpoch = w.epoch
	c, ok, err := w.p.Retain(context.Background(), pol)
	if err != nil {
		w.t.Fatal(err)
	}
	if ok {
		w.apply(c)
	}
	return c, ok
}

func (w *world) collect() Collected {
	w.t.Helper()
	c, err := w.p.Collect(context.Background(), CollectInput{AppliedByAll: 1, PointerIndex: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// tenEqual uploads ten segments of equal size, whose records are from now.
func tenEqual(t *testing.T, change func(*Config)) *world {
	w := newWorld(t, change)
	for range 10 {
		w.upload(w.fresh(5))
	}
	return w
}

// fresh makes batches with timestamps of the test clock.
func (w *world) fresh(n int) []Batch {
	var out []Batch
	next := w.ptr.TieredEnd
	for range n {
		b := batchSpec{first: next, records: 2, ts: w.clock.Now().UnixMilli(), fill: 100, epoch: w.epoch}.make(w.rng)
		out = append(out, b)
		next = b.Last + 1
	}
	return out
}

func TestRetentionBySizeDropsTheOldestAndKeepsAtLeastTheLimit(t *testing.T) {
	for _, pageEntries := range []int{3, 1024} {
		w := tenEqual(t, func(c *Config) { c.PageEntries = pageEntries })
		one := w.entries()[0].RawBytes
		w.retain(Policy{Age: noLimit, Bytes: 6*one - 1, HotBytes: 0})
		if got := w.entries(); len(got) != 6 || got[0].First != w.ptr.LogStart || w.ptr.LogStart != 40 {
			t.Fatalf("%d entries left, log start %d", len(got), w.ptr.LogStart)
		}
		if w.ptr.Bytes != 6*one {
			t.Fatalf("pointer says %d bytes, %d are live", w.ptr.Bytes, 6*one)
		}
		// Bytes that only the local log has count too.
		w.retain(Policy{Age: noLimit, Bytes: 6 * one, HotBytes: 2 * one})
		if got := w.entries(); len(got) != 4 {
			t.Fatalf("%d entries left", len(got))
		}
		if _, ok := w.retain(Policy{Age: noLimit, Bytes: 6 * one, HotBytes: 2 * one}); ok {
			t.Fatal("a second run dropped more")
		}
		w.src = w.src[30:]
		w.mustEqual(w.readAll(60, 1<<20), w.sourceFrom(60))
		w.reopen()
		w.mustEqual(w.readAll(60, 1<<20), w.sourceFrom(60))
	}
}

func TestRetentionByAgeStopsAtTheFirstYoungObject(t *testing.T) {
	w := newWorld(t, nil)
	for range 4 {
		w.upload(w.fresh(5))
		w.clock.Advance(time.Hour)
	}
	if _, ok := w.retain(Policy{Age: 10 * time.Hour, Bytes: noLimit}); ok {
		t.Fatal("young objects were dropped")
	}
	w.retain(Policy{Age: 3*time.Hour - time.Minute, Bytes: noLimit})
	if got := w.entries(); len(got) != 2 {
		t.Fatalf("%d entries left", len(got))
	}
}

func TestDeleteRecordsDropsWholeObjectsBelowLogStartWithoutBrake(t *testing.T) {
	w := tenEqual(t, func(c *Config) { c.PageEntries = 3 })
	w.retain(Policy{LogStart: 85, Age: noLimit, Bytes: noLimit})
	got := w.entries()
	if len(got) != 2 || got[0].First != 80 || w.ptr.LogStart != 85 {
		t.Fatalf("%d entries, log start %d", len(got), w.ptr.LogStart)
	}
	if err := w.readErr(84); !errors.Is(err, ErrOutOfRange) {
		t.Fatalf("read below log start: %v", err)
	}
	w.mustEqual(w.readAll(85, 100), w.sourceFrom(85))
	// Everything: the range is empty and the next upload goes on from there.
	w.retain(Policy{LogStart: 100, Age: noLimit, Bytes: noLimit})
	if got := w.entries(); len(got) != 0 || w.ptr.TieredEnd != 100 || w.ptr.Bytes != 0 {
		t.Fatalf("%d entries, pointer %+v", len(got), w.ptr)
	}
	w.upload(w.fresh(3))
	w.mustEqual(w.readAll(100, 100), w.sourceFrom(100))
}

func TestRetentionBrakeHoldsHalfUntilTwoRunsAnHourApartAgree(t *testing.T) {
	w := tenEqual(t, nil)
	all := Policy{Age: noLimit, Bytes: 0}
	for range 20 { // every five minutes for less than an hour
		w.retain(all)
		if n := len(w.entries()); n != 5 {
			t.Fatalf("%d of 10 left within the hour", n)
		}
		w.clock.Advance(2 * time.Minute)
	}
	w.clock.Advance(25 * time.Minute)
	w.retain(all)
	if n := len(w.entries()); n != 0 {
		t.Fatalf("%d left after two runs an hour apart agreed", n)
	}
}

func TestRetentionBrakeForgetsAWishThatEnded(t *testing.T) {
	w := tenEqual(t, nil)
	w.retain(Policy{Age: noLimit, Bytes: 0})
	w.clock.Advance(30 * time.Minute)
	w.retain(Policy{Age: noLimit, Bytes: noLimit}) // the mistake was put right
	w.clock.Advance(31 * time.Minute)
	w.retain(Policy{Age: noLimit, Bytes: 0})
	if n := len(w.entries()); n < 2 {
		t.Fatalf("%d left: the first wish still counted", n)
	}
}

func TestRetentionBrakeTakesWhatBothRunsWanted(t *testing.T) {
	w := tenEqual(t, nil)
	one := w.entries()[0].RawBytes
	w.retain(Policy{Age: noLimit, Bytes: 3 * one}) // wants 7 of 10, gets 5
	if n := len(w.entries()); n != 5 {
		t.Fatalf("%d left", n)
	}
	w.clock.Advance(61 * time.Minute)
	w.retain(Policy{Age: noLimit, Bytes: 0})
	if n := len(w.entries()); n != 3 {
		t.Fatalf("%d left, both runs wanted only 3 or fewer kept", n)
	}
}

func TestAClockThatJumpedDeletesNothingByAge(t *testing.T) {
	w := tenEqual(t, nil)
	year := 365 * 24 * time.Hour
	w.clock.Advance(year)
	monotonic := w.tier.uptime
	w.tier.uptime = func(now time.Time) time.Duration { return monotonic(now) - year } // only the wall clock was set
	_, ok, err := w.p.Retain(context.Background(), Policy{LeaderEpoch: w.epoch, Age: time.Hour, Bytes: noLimit})
	if ok || !errors.Is(err, ErrClock) {
		t.Fatalf("dropped %v, error %v", ok, err)
	}
	w.tier.uptime = monotonic
	refuse := errors.New("controller is 400 s behind")
	_, ok, err = w.p.Retain(context.Background(), Policy{
		LeaderEpoch: w.epoch, Age: time.Hour, Bytes: noLimit, ClockCheck: func() error { return refuse },
	})
	if ok || !errors.Is(err, ErrClock) || !errors.Is(err, refuse) {
		t.Fatalf("dropped %v, error %v", ok, err)
	}
	// Size is no matter of time.
	c, ok, err := w.p.Retain(context.Background(), Policy{
		LeaderEpoch: w.epoch, Age: time.Hour, Bytes: w.ptr.Bytes / 2, ClockCheck: func() error { return refuse },
	})
	if !ok || err != nil || len(c.Retired) != 5 {
		t.Fatalf("dropped %v, error %v", c.Retired, err)
	}
}

func TestCollectWaitsForGraceAndForEveryBroker(t *testing.T) {
	w := tenEqual(t, func(c *Config) { c.PageEntries = 3 })
	c, _ := w.retain(Policy{LogStart: 50, Age: noLimit, Bytes: noLimit})
	if len(c.Retired) != 5 {
		t.Fatalf("commit retires %v", c.Retired)
	}
	if got := w.collect(); got.Objects != 0 || got.Waiting != 6 {
		t.Fatalf("collected at once: %+v", got)
	}
	w.clock.Advance(11 * time.Minute)
	late, err := w.p.Collect(context.Background(), CollectInput{AppliedByAll: 4, PointerIndex: 5})
	if err != nil || late != (Collected{}) {
		t.Fatalf("a broker has not applied the commit: %+v, %v", late, err)
	}
	kept := resolve(w.p.dir, c.Retired[0])
	some, err := w.p.Collect(context.Background(), CollectInput{Retained: func(k string) bool { return k == kept }})
	if err != nil || some.Objects != 4 || some.Pages != 1 || some.Waiting != 1 {
		t.Fatalf("%+v, %v", some, err)
	}
	if got := w.collect(); got.Objects != 1 || got.Waiting != 0 {
		t.Fatalf("%+v", got)
	}
	if n := w.counted(object.OpDelete, func() { w.collect() }); n != 0 {
		t.Fatalf("%d keys deleted twice", n)
	}
	w.upload(w.fresh(1))
	if m, err := w.p.Manifest(context.Background()); err != nil || len(m.Deleted) != 0 {
		t.Fatalf("collected keys are still listed: %v, %v", m.Deleted, err)
	}
	w.mustEqual(w.readAll(50, 1000), w.sourceFrom(50))
}

func TestCollectGraceRunsAcrossLeaders(t *testing.T) {
	w := tenEqual(t, nil)
	w.retain(Policy{LogStart: 50, Age: noLimit, Bytes: noLimit})
	w.clock.Advance(9 * time.Minute)
	w.reopen() // a new leader saw the pointer only now, and cannot know more
	w.clock.Advance(2 * time.Minute)
	if got := w.collect(); got.Objects != 0 {
		t.Fatalf("%+v", got)
	}
	w.upload(w.fresh(1)) // dates what the last manifest dropped
	w.reopen()
	w.clock.Advance(11 * time.Minute)
	if got := w.collect(); got.Objects != 5 {
		t.Fatalf("%+v", got)
	}
}

func TestSupersededManifestsStayADayAndTheLastTwoForGood(t *testing.T) {
	w := newWorld(t, nil)
	for range 6 {
		w.upload(w.fresh(2))
	}
	manifests := func() (n int) {
		for _, k := range w.keys() {
			if strings.Contains(k, "/manifest/") {
				n++
			}
		}
		return n
	}
	if w.collect(); manifests() != 6 {
		t.Fatalf("%d manifests", manifests())
	}
	w.clock.Advance(25 * time.Hour)
	if got := w.collect(); got.Manifests != 3 || manifests() != 3 {
		t.Fatalf("%+v, %d manifests", got, manifests())
	}
	w.clock.Advance(1000 * time.Hour)
	if n := w.counted(object.OpList, func() { w.collect() }); n != 0 || manifests() != 3 {
		t.Fatalf("%d lists with nothing to find, %d manifests", n, manifests())
	}
	w.reopen()
	w.mustEqual(w.readAll(0, 1000), w.sourceFrom(0))
}

func TestDroppedObjectsServeReadersThatKnowOnlyTheOldPointer(t *testing.T) {
	w := tenEqual(t, nil)
	follower := w.tier.Partition(testID)
	follower.SetPointer(w.ptr)
	w.retain(Policy{LogStart: 90, Age: noLimit, Bytes: noLimit})
	d, err := follower.Read(context.Background(), 0, 1<<20, true)
	if err != nil {
		t.Fatal(err)
	}
	d.Release()
}

// The model: what is referenced is what the current manifest's live entries, its
// pages and the manifest chain name. No sequence of uploads, retention, time,
// restarts and collection may delete any of it, and in the end nothing else stays.
func TestCollectNeverDeletesWhatIsReferenced(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, func(c *Config) { c.PageEntries = 3 })
		defer w.close()
		rt.Repeat(map[string]func(*rapid.T){
			"upload": func(rt *rapid.T) { w.upload(w.fresh(rapid.IntRange(1, 4).Draw(rt, "batches"))) },
			"retain": func(rt *rapid.T) {
				w.retain(Policy{Age: noLimit, Bytes: rapid.Int64Range(0, 20_000).Draw(rt, "bytes")})
			},
			"age": func(rt *rapid.T) {
				w.retain(Policy{Age: time.Duration(rapid.IntRange(0, 48).Draw(rt, "hours")) * time.Hour, Bytes: noLimit})
			},
			"delete records": func(rt *rapid.T) {
				w.retain(Policy{LogStart: rapid.Int64Range(0, w.ptr.TieredEnd).Draw(rt, "start"), Age: noLimit, Bytes: noLimit})
			},
			"wait": func(rt *rapid.T) {
				w.clock.Advance(time.Duration(rapid.IntRange(1, 90).Draw(rt, "minutes")) * time.Minute)
			},
			"collect": func(*rapid.T) { w.collect() },
			"restart": func(*rapid.T) { w.reopen() },
			"new leader": func(*rapid.T) {
				w.epoch++
				w.p = w.tier.Partition(testID)
				w.p.SetPointer(w.ptr)
			},
			"": func(rt *rapid.T) { w.checkReferenced(rt) },
		})
		if w.ptr.Name == "" {
			return
		}
		// Everything dropped goes in bounded time.
		for range 2 {
			w.clock.Advance(25 * time.Hour)
			w.upload(w.fresh(1))
			w.collect()
		}
		w.checkReferenced(rt)
		if live, have := len(w.referenced()), len(w.keys()); have > live+1 {
			rt.Fatalf("%d keys stay, %d are referenced: %v", have, live, w.keys())
		}
	})
}

// referenced lists the keys that must exist.
func (w *world) referenced() []string {
	if w.ptr.Name == "" {
		return nil
	}
	m, err := w.p.Manifest(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	keys := []string{resolve(w.p.dir, manifestDir+m.Name)}
	if m.Prev != "" {
		keys = append(keys, resolve(w.p.dir, manifestDir+m.Prev))
	}
	for i := range m.Pages {
		keys = append(keys, resolve(w.p.dir, m.Pages[i].Key))
	}
	for _, e := range w.entries() {
		keys = append(keys, resolve(w.p.dir, e.Key))
	}
	return keys
}

func (w *world) checkReferenced(rt *rapid.T) {
	have := w.keys()
	for _, k := range w.referenced() {
		if !slices.Contains(have, k) {
			rt.Fatalf("%s is referenced and gone", k)
		}
	}
	if w.ptr.Name == "" {
		return
	}
	d, err := w.p.Describe(context.Background())
	if err != nil {
		rt.Fatal(err)
	}
	var raw, n int64
	next := int64(-1)
	for _, e := range w.entries() {
		if next >= 0 && e.First != next {
			rt.Fatalf("gap at %d", next)
		}
		next, raw, n = e.Last+1, raw+e.RawBytes, n+1
	}
	if raw != d.RawBytes || n != d.Objects || n > 0 && next != w.ptr.TieredEnd {
		rt.Fatalf("entries have %d bytes in %d objects up to %d, manifest says %+v", raw, n, next, d)
	}
}

func TestPurgeDeletesOneTopicIdAndIsResumable(t *testing.T) {
	w := tenEqual(t, func(c *Config) { c.PageEntries = 3 })
	other := testID
	other.TopicIDText, other.TopicID = "zzzzzzzzzzzzzzzzzzzzzz", [16]byte{9}
	p2 := w.tier.Partition(other) // a topic of the same name, created after the deletion
	b := w.segment(2, 2, 10, false)
	for i := range b {
		b[i] = batchSpec{first: int64(i * 2), records: 2, ts: 1, epoch: 7}.make(w.rng)
	}
	r := w.rangeOf(b)
	r.First, r.Epochs = 0, []Epoch{{7, 0}}
	if _, err := p2.Upload(context.Background(), r, &sliceReader{batches: b}); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	desc := TopicDescriptor{Topic: testID.Topic, TopicID: testID.TopicIDText, Partitions: 4}
	if err := w.tier.WriteTopicDescriptor(ctx, desc); err != nil {
		t.Fatal(err)
	}
	purge := func() (Purge, error) {
		return w.tier.PurgeTopic(ctx, "", testID.Topic, testID.TopicIDText, nil)
	}
	w.fault.Add(&object.Rule{Op: object.OpDelete, Nth: 5, Count: 1, Do: object.Fail(object.ErrUnavailable)})
	if _, err := purge(); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	stones, err := w.tier.UnfinishedPurges(ctx, "")
	if err != nil || len(stones) != 1 || stones[0].TopicID != testID.TopicIDText {
		t.Fatalf("%v, %v", stones, err)
	}
	w.reopen()
	got, err := purge()
	if err != nil || got.Done || got.Deleted == 0 || got.Again.Before(w.clock.Now().Add(23*time.Hour)) {
		t.Fatalf("%+v, %v", got, err)
	}
	// A PUT that was under way lands after the first pass.
	lateKey := testID.dir() + "/late" + segmentSuffix
	if _, err := w.mem.Put(ctx, lateKey, object.Bytes([]byte("x")), object.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(25 * time.Hour)
	if got, err = purge(); err != nil || got.Done || got.Deleted != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if got, err = purge(); err != nil || got.Done {
		t.Fatalf("finished without a second look: %+v, %v", got, err)
	}
	w.clock.Advance(25 * time.Hour)
	if got, err = purge(); err != nil || !got.Done {
		t.Fatalf("%+v, %v", got, err)
	}
	if got, err = purge(); err != nil || !got.Done {
		t.Fatalf("%+v, %v", got, err)
	}
	var left []string
	for _, k := range w.keys() {
		if TopicIDOf(k) == testID.TopicIDText {
			left = append(left, k)
		}
	}
	if len(left) != 0 || len(w.keys()) != 3 {
		t.Fatalf("left of the topic: %v; in all %v", left, w.keys())
	}
	if _, err := w.tier.PurgeTopic(ctx, "", "x", "", nil); err == nil {
		t.Fatal("a purge without a topic id was allowed")
	}
	w.ptr = Pointer{}
}

func TestPurgeKeepsWhatASnapshotNeeds(t *testing.T) {
	w := tenEqual(t, nil)
	keep := resolve(w.p.dir, w.entries()[0].Key)
	retained := func(k string) bool { return k == keep }
	for range 3 {
		got, err := w.tier.PurgeTopic(context.Background(), "", testID.Topic, testID.TopicIDText, retained)
		if err != nil || got.Done {
			t.Fatal(fmt.Sprint(got), err)
		}
		w.clock.Advance(25 * time.Hour)
	}
	w.object(keep)
}
