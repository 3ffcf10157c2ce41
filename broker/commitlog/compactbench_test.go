package commitlog

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"varve/broker/record"
)

var (
	compactMiB  = flag.Int64("compact.mib", 256, "size of the log that BenchmarkCompact compacts")
	compactKeys = flag.Uint64("compact.keys", 600_000, "its keys, each about equally often")
)

// BenchmarkCompact compacts a log in which every record has a key in turn. B/s is that of the log; the
// peak of the heap is sampled at every MiB.
func BenchmarkCompact(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		e := osEnv(b, dir, nil)
		l := openTestLog(b, e, Options{Dir: osDir(0, dir), Config: Config{SegmentBytes: 128 << 20}})
		n := uint64(0)
		for size := int64(0); size < *compactMiB<<20; {
			batch := keyedBatch(&n)
			size += int64(len(batch))
			l.mustAppend(b, 1, batch)
		}
		mustNot(b, l.Roll("bench"))
		l.w.wait(l.LEO())
		mustNot(b, l.sealDue())
		total := l.SizeBytes()
		runtime.GC()
		b.SetBytes(total)
		var peak atomic.Uint64
		began := time.Now()
		b.StartTimer()
		st, err := l.Compact(b.Context(), CompactOptions{Until: l.LEO(), MapBytes: 192 << 20, Throttle: heapPeak(&peak)})
		mustNot(b, err)
		b.StopTimer()
		b.ReportMetric(float64(peak.Load())/(1<<20), "peak-MiB")
		b.ReportMetric(float64(total)/(1<<20)/time.Since(began).Seconds(), "MiB/s")
		b.ReportMetric(float64(st.Passes), "passes")
		b.ReportMetric(float64(st.Keys), "keys")
		b.Logf("%+v", st)
		mustNot(b, l.Close())
		mustNot(b, e.Close())
		b.StartTimer()
	}
}

// keyedBatch is a batch of about 64 KiB whose records have 16-byte keys and values of 180 bytes. Keys
// come in an order that visits each once before any comes again.
func keyedBatch(n *uint64) record.Batch {
	b := record.NewBuilder(record.None)
	value := make([]byte, 180)
	for b.Len() < 64<<10 {
		key := fmt.Appendf(nil, "%016x", *n*2654435761%*compactKeys)
		binary.LittleEndian.PutUint64(value, *n)
		b.Append(record.Record{Timestamp: 1_700_000_000_000, Key: key, Value: value})
		*n++
	}
	batch, err := b.Build()
	if err != nil {
		panic(err)
	}
	return batch
}

// heapPeak notes the largest heap in use.
func heapPeak(peak *atomic.Uint64) func(context.Context, int) error {
	return func(context.Context, int) error {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak.Store(max(peak.Load(), m.HeapInuse))
		return nil
	}
}
