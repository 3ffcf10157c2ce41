package tiering

import (
	"context"
	"slices"
	"testing"
)

// history uploads segments with the given first timestamps, one per batch of two
// records; small chunks and pages, so that every level is searched.
func history(t *testing.T, segments ...[]int64) *world {
	w := newWorld(t, func(c *Config) { c.ChunkBytes, c.PageEntries = 200, 2 })
	for _, times := range segments {
		var out []Batch
		next := w.ptr.TieredEnd
		for _, ts := range times {
			b := batchSpec{first: next, records: 2, ts: ts, fill: 20, epoch: w.epoch}.make(w.rng)
			// As a leader knows it: the greatest timestamp, and only the batch's end.
			b.MaxTimestampOffset = b.Last
			out = append(out, b)
			next = b.Last + 1
		}
		w.upload(out)
	}
	return w
}

// record i of the model has the timestamp times[i/2] + i%2.
func modelTimes(segments [][]int64) []int64 {
	var out []int64
	for _, s := range segments {
		for _, ts := range s {
			out = append(out, ts, ts+1)
		}
	}
	return out
}

var timeSegments = [][]int64{{100, 50, 70}, {60, 65}, {300, 90}, {80, 200}, {310, 305}, {309}, {5, 400, 400}}

func TestOffsetForTimestampIsTheFirstRecordAtLeastAsLate(t *testing.T) {
	w := history(t, timeSegments...)
	times := modelTimes(timeSegments)
	for start := int64(0); start < int64(len(times)); start += 3 {
		w.p.SetLogStart(start)
		for ts := int64(-1); ts < 405; ts++ {
			want := slices.IndexFunc(times[start:], func(x int64) bool { return x >= ts })
			off, found, ok, err := w.p.OffsetForTimestamp(context.Background(), ts)
			if err != nil {
				t.Fatal(err)
			}
			if ok != (want >= 0) || ok && (off != start+int64(want) || found != times[off]) {
				t.Fatalf("from %d, timestamp %d: offset %d (%d) %v, want %d", start, ts, off, found, ok, start+int64(want))
			}
		}
	}
}

func TestMaxTimestampIsExactWhereverLogStartLies(t *testing.T) {
	w := history(t, timeSegments...)
	times := modelTimes(timeSegments)
	for start := int64(0); start < int64(len(times)); start++ {
		w.p.SetLogStart(start)
		want := slices.Max(times[start:])
		wantOff := start + int64(slices.Index(times[start:], want))
		off, ts, err := w.p.MaxTimestamp(context.Background())
		if err != nil || ts != want || off != wantOff {
			t.Fatalf("from %d: offset %d (%d), want %d (%d), %v", start, off, ts, wantOff, want, err)
		}
	}
}

func TestLookupsOfAnEmptyTierAreEmpty(t *testing.T) {
	w := newWorld(t, nil)
	ctx := context.Background()
	if off, ts, ok, err := w.p.OffsetForTimestamp(ctx, 0); off != -1 || ts != -1 || ok || err != nil {
		t.Fatal(off, ts, ok, err)
	}
	if off, ts, err := w.p.MaxTimestamp(ctx); off != -1 || ts != -1 || err != nil {
		t.Fatal(off, ts, err)
	}
	if e, end, err := w.p.EpochEnd(ctx, 5); e != -1 || end != -1 || err != nil {
		t.Fatal(e, end, err)
	}
	if b, asOf, err := w.p.Producers(ctx); b != nil || asOf != 0 || err != nil {
		t.Fatal(b, asOf, err)
	}
}

// epochWorld has batches of epochs 3, 3, 5 | 5, 8 | 8 | 9 at ten offsets each.
func epochWorld(t *testing.T) *world {
	w := newWorld(t, func(c *Config) { c.PageEntries = 2 })
	next := int64(0)
	for _, segment := range [][]Epoch{
		{{3, 0}, {3, 0}, {5, 20}}, {{5, 20}, {8, 40}}, {{8, 40}}, {{9, 60}},
	} {
		var out []Batch
		var epochs []Epoch
		for _, e := range segment {
			out = append(out, batchSpec{first: next, records: 10, ts: next, fill: 20, epoch: e.Epoch}.make(w.rng))
			epochs = appendEpochs(epochs, []Epoch{e})
			next += 10
		}
		w.epoch = segment[len(segment)-1].Epoch
		r := w.rangeOf(out)
		r.Epochs = epochs
		c, err := w.p.Upload(context.Background(), r, &sliceReader{batches: out})
		if err != nil {
			t.Fatal(err)
		}
		w.apply(c)
	}
	return w
}

func TestEpochHistoryIsCompleteAndCutByLogStart(t *testing.T) {
	w := epochWorld(t)
	ctx := context.Background()
	got, err := w.p.Epochs(ctx)
	want := []Epoch{{3, 0}, {5, 20}, {8, 40}, {9, 60}}
	if err != nil || !slices.Equal(got, want) {
		t.Fatal(got, err)
	}
	if w.ptr.LastEpoch != 9 {
		t.Fatalf("pointer says epoch %d", w.ptr.LastEpoch)
	}
	for asked, want := range map[int32][2]int64{2: {-1, -1}, 3: {3, 20}, 4: {3, 20}, 5: {5, 40}, 7: {5, 40}, 8: {8, 60}, 9: {9, 70}, 50: {9, 70}} {
		e, end, err := w.p.EpochEnd(ctx, asked)
		if err != nil || int64(e) != want[0] || end != want[1] {
			t.Fatalf("epoch %d: (%d, %d), want %v, %v", asked, e, end, want, err)
		}
	}
	w.retain(Policy{LogStart: 45, Age: noLimit, Bytes: noLimit})
	if got, err = w.p.Epochs(ctx); err != nil || !slices.Equal(got, []Epoch{{8, 40}, {9, 60}}) {
		t.Fatal(got, err)
	}
}

func TestAbortedRangesAreThoseThatOverlap(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.PageEntries = 2 })
	aborted := [][]Aborted{{{1, 0, 5}}, {{1, 3, 25}, {2, 22, 23}}, nil, {{1, 3, 65}}}
	for _, a := range aborted {
		b := w.segment(2, 10, 10, false)
		r := w.rangeOf(b)
		r.Aborted = a
		c, err := w.p.Upload(context.Background(), r, &sliceReader{batches: b})
		if err != nil {
			t.Fatal(err)
		}
		w.apply(c)
	}
	ctx := context.Background()
	for _, q := range []struct {
		from, end int64
		want      []Aborted
	}{
		{0, 10, []Aborted{{1, 0, 5}}},
		{6, 20, nil},
		{20, 21, []Aborted{{1, 3, 25}}},
		{24, 40, []Aborted{{1, 3, 25}}},
		{0, 1000, []Aborted{{1, 0, 5}, {2, 22, 23}, {1, 3, 25}, {1, 3, 65}}},
		{70, 80, nil},
	} {
		got, err := w.p.Aborted(ctx, q.from, q.end)
		if err != nil || !slices.Equal(got, q.want) && len(got)+len(q.want) > 0 {
			t.Fatalf("[%d, %d): %v, want %v, %v", q.from, q.end, got, q.want, err)
		}
	}
}

func TestATimestampLookupOfAColdPartitionReadsOneIndexAndOneChunk(t *testing.T) {
	w := history(t, timeSegments...)
	w.reopen()
	if _, err := w.p.Describe(context.Background()); err != nil {
		t.Fatal(err)
	}
	gets := w.counted("get", func() {
		if off, _, ok, err := w.p.OffsetForTimestamp(context.Background(), 399); !ok || err != nil || off != 26 {
			t.Fatal(off, ok, err)
		}
	})
	if gets != 2 {
		t.Fatalf("%d GETs", gets)
	}
}
