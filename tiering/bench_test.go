package tiering

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"varve/tiering/object"
)

// benchTier uploads objects of 1 MiB batches to memory and returns one handle a
// partition. Nothing is cached.
func benchTier(b *testing.B, partitions, objects int, random bool, cacheDir string) (*Tier, []*Partition) {
	b.Helper()
	cfg := Config{
		Store: object.NewFault(object.NewMem()), Cluster: "c", SpoolDir: b.TempDir(), Split: testSplit,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), MemoryBytes: 128 << 20, CacheDir: cacheDir,
	}
	tier, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	spec := batchSpec{records: 1000, ts: 1, fill: 1<<20 - testHead - 8000 - 100, random: random}
	var parts []*Partition
	for i := range partitions {
		id := testID
		id.Partition = int32(i)
		p := tier.Partition(id)
		parts = append(parts, p)
		for range objects {
			var batches []Batch
			for range 16 {
				spec.first = p.Pointer().TieredEnd + int64(len(batches)*spec.records)
				batches = append(batches, spec.make(rng))
			}
			c, err := p.Upload(context.Background(), Range{
				First: batches[0].First, Next: batches[15].Last + 1, Epochs: []Epoch{{0, 0}},
			}, &sliceReader{batches: batches})
			if err != nil {
				b.Fatal(err)
			}
			p.SetPointer(c.Pointer())
		}
	}
	return tier, parts
}

// BenchmarkColdRead replays all partitions at once in pieces of 1 MiB, through GETs
// of a store in memory.
func BenchmarkColdRead(b *testing.B) {
	for _, c := range []struct {
		name         string
		random, disk bool
		delay        time.Duration
	}{
		{"stored", true, false, 0},
		{"stored, 5 ms a GET", true, false, 5 * time.Millisecond},
		{"compressed", false, false, 0},
		{"stored, disk cache filled", true, true, 5 * time.Millisecond},
	} {
		b.Run(c.name, func(b *testing.B) {
			dir := ""
			if c.disk {
				dir = b.TempDir()
			}
			tier, parts := benchTier(b, 8, 4, c.random, dir)
			tier.store.(*object.Fault).Add(&object.Rule{Op: object.OpGet, Do: object.Delay(c.delay)})
			total := int64(0)
			for _, p := range parts {
				total += p.Pointer().Bytes
			}
			b.SetBytes(total)
			var cpu time.Duration
			for b.Loop() {
				tier.sweep(time.Now().Add(time.Hour)) // the readers of the last turn
				tier.chunks.cache.InvalidateAll()
				if c.disk {
					tier.disk.cat = newCatalogue(tier.cfg.CacheBytes) // every byte is written again
				}
				start := cpuTime()
				var wg sync.WaitGroup
				for _, p := range parts {
					wg.Go(func() { replay(b, p) })
				}
				wg.Wait()
				cpu += cpuTime() - start
			}
			b.ReportMetric(cpu.Seconds()/float64(b.N)/(float64(total)/(1<<30)), "cpu-s/GiB")
			s := tier.Stats()
			b.ReportMetric(float64(s.GetBytes)/float64(max(s.Gets, 1))/(1<<20), "MiB/GET")
			b.ReportMetric(float64(s.ReadAheads)/float64(max(s.Gets, 1)), "ahead/GET")
			if err := tier.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// cpuTime is what the process has used, in user and kernel mode.
func cpuTime() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

func replay(b *testing.B, p *Partition) {
	for at, end := int64(0), p.Pointer().TieredEnd; at < end; {
		d, err := p.Read(context.Background(), at, 1<<20, true)
		if err != nil {
			b.Error(err)
			return
		}
		at = d.Next
		d.Release()
	}
}

// BenchmarkUpload builds and stores objects of 16 MiB in memory.
func BenchmarkUpload(b *testing.B) {
	for _, random := range []bool{true, false} {
		b.Run(fmt.Sprintf("compressed by the producer=%v", random), func(b *testing.B) {
			tier, parts := benchTier(b, 1, 1, random, "")
			rng := rand.New(rand.NewPCG(3, 4))
			spec := batchSpec{records: 1000, ts: 1, fill: 1<<20 - testHead - 8000 - 100, random: random}
			var batches []Batch
			for i := range 16 {
				spec.first = int64(i * spec.records)
				batches = append(batches, spec.make(rng))
			}
			p := tier.Partition(parts[0].ID())
			b.SetBytes(16 << 20)
			for b.Loop() {
				if _, err := p.Upload(context.Background(), Range{Next: 16000, Epochs: []Epoch{{0, 0}}}, &sliceReader{batches: batches}); err != nil {
					b.Fatal(err)
				}
				if err := object.ListAll(context.Background(), tier.store, "c/", func(i object.Info) error {
					return tier.store.Delete(context.Background(), i.Key)
				}); err != nil {
					b.Fatal(err)
				}
			}
			if err := tier.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
