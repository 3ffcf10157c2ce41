package commitlog

import (
	"fmt"
	"math"
	"testing"

	"varve/broker/internal/vfs"
	"varve/broker/record"
)

// TestTimestampLookupsAgreeWithAScan compares both lookups with a linear scan, over records whose
// timestamps go up, down and a year ahead.
func TestTimestampLookupsAgreeWithAScan(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) {
			rng := newRand(seed)
			mem := vfs.NewMem()
			e := newTestEnv(t, testEnvConfig(mem))
			l := openTestLog(t, e, Options{})
			var times []int64
			for range 150 {
				b := record.NewBuilder([]record.Codec{record.None, record.LZ4}[rng.IntN(2)])
				base := int64(len(times)) * 10
				if rng.IntN(30) == 0 {
					base += 365 * 24 * 3600 * 1000
				}
				var batch []int64
				for range 1 + rng.IntN(5) {
					ts := base + rng.Int64N(200)
					batch = append(batch, ts)
					b.Append(record.Record{Timestamp: ts, Value: []byte("some value of some length")})
				}
				raw, err := b.Build()
				mustNot(t, err)
				raw = append(record.Batch(nil), raw...)
				if rng.IntN(5) == 0 {
					raw.SetLogAppendTime(base)
					for i := range batch {
						batch[i] = base
					}
				}
				times = append(times, batch...)
				l.mustAppend(t, 1, raw)
			}
			mustNot(t, l.Close())
			l = openTestLog(t, newTestEnv(t, testEnvConfig(mem)), Options{})
			for range 400 {
				from := rng.Int64N(l.LEO() + 1)
				end := from + rng.Int64N(l.LEO()-from+1)
				ts := rng.Int64N(2500)
				compareTimes(t, l.Log, times, ts, from, end)
			}
			compareTimes(t, l.Log, times, math.MaxInt64, 0, l.LEO())
			compareTimes(t, l.Log, times, math.MinInt64, 0, l.LEO())
		})
	}
}

func compareTimes(t *testing.T, l *Log, times []int64, ts, from, end int64) {
	t.Helper()
	first, maxAt := int64(-1), int64(-1)
	for o := from; o < end; o++ {
		if first < 0 && times[o] >= ts {
			first = o
		}
		if maxAt < 0 || times[o] > times[maxAt] {
			maxAt = o
		}
	}
	o, got, ok, err := l.OffsetForTimestamp(ts, from, end)
	mustNot(t, err)
	if ok != (first >= 0) || ok && (o != first || got != times[first]) {
		t.Fatalf("first at or after %d in [%d, %d): %d %d %v, want %d", ts, from, end, o, got, ok, first)
	}
	o, got, err = l.MaxTimestamp(from, end)
	mustNot(t, err)
	if o != maxAt || maxAt >= 0 && got != times[maxAt] {
		t.Fatalf("max in [%d, %d): %d at %d, want %d", from, end, got, o, maxAt)
	}
}
