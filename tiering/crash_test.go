package tiering

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

type crash struct{}

// crashing runs fn and reports whether it crashed.
func crashing(t *testing.T, fn func()) (crashed bool) {
	t.Helper()
	defer func() {
		switch r := recover(); r {
		case nil:
		case crash{}:
			crashed = true
		default:
			panic(r)
		}
	}()
	fn()
	return false
}

// A crash after any step of retention, collection and the uploads between them:
// what is committed stays readable, and the work goes on where it was.
func TestACrashAtAnyStepOfALifeLosesNothing(t *testing.T) {
	ctx := context.Background()
	life := func(w *world) {
		for range 5 {
			w.upload(w.fresh(4))
		}
		w.clock.Advance(61 * time.Minute)
		c, ok, err := w.p.Retain(ctx, Policy{LeaderEpoch: w.epoch, Age: noLimit, Bytes: w.ptr.Bytes / 2})
		if err != nil {
			w.t.Fatal(err)
		}
		if ok {
			w.apply(c)
		}
		w.clock.Advance(25 * time.Hour)
		if _, err := w.p.Collect(ctx, CollectInput{}); err != nil {
			w.t.Fatal(err)
		}
		w.upload(w.fresh(4))
	}
	for stop := 1; ; stop++ {
		steps := 0
		w := newWorld(t, func(c *Config) {
			c.PageEntries = 2
			c.OnStep = func(string) {
				if steps++; steps == stop {
					panic(crash{})
				}
			}
		})
		crashed := crashing(t, func() { life(w) })
		steps = stop // no second crash
		w.reopen()
		check := func() {
			if w.ptr.Name == "" {
				return
			}
			start := w.entries()[0].First
			got := w.readAll(start, 1<<20)
			want := w.sourceFrom(start)
			// An upload that crashed before its commit is not in the tier.
			if !bytes.HasPrefix(want, got) {
				t.Fatalf("crash after step %d: read something else", stop)
			}
		}
		check()
		life(w)
		check()
		w.close()
		if !crashed {
			if stop < 20 {
				t.Fatalf("a life has only %d steps", stop-1)
			}
			return
		}
	}
}

// Readers at random offsets, while the one committing goroutine uploads, retires
// and collects: they see the bytes of the model or learn that they are too low.
func TestReadersSeeOnlyTheSameBytesThroughUploadRetentionAndCollection(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.PageEntries, c.ChunkBytes = 4, 1<<10 })
	w.upload(w.fresh(10))
	var mu sync.Mutex // of model
	model := w.src
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 9))
			for {
				select {
				case <-stop:
					return
				default:
				}
				ptr := w.p.Pointer()
				at := ptr.LogStart + rng.Int64N(ptr.TieredEnd-ptr.LogStart)
				d, err := w.p.Read(context.Background(), at, 2000, true)
				if err != nil {
					if w.p.Pointer().LogStart > at {
						continue // retired meanwhile
					}
					t.Errorf("read at %d: %v", at, err)
					return
				}
				mu.Lock()
				want := model[at/2:]
				mu.Unlock()
				if got := bytes.Join(d.Buffers, nil); !bytes.HasPrefix(joinBatches(want[:min(len(want), 20)]), got) {
					t.Errorf("read at %d: other bytes", at)
				}
				d.Release()
			}
		})
	}
	for i := range 60 {
		batches := w.fresh(10)
		mu.Lock()
		model = append(model[:len(model):len(model)], batches...)
		mu.Unlock()
		w.upload(batches)
		if i%5 == 4 {
			w.clock.Advance(2 * time.Hour)
			w.retain(Policy{Age: noLimit, Bytes: w.ptr.Bytes * 2 / 3})
			w.clock.Advance(11 * time.Minute)
			w.collect()
		}
	}
	close(stop)
	wg.Wait()
}

func TestAnUploadSlotHoldsAtMost8MiB(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.ChunkBytes, c.UploadSlots = 1<<20, 1 })
	for _, batches := range [][]Batch{
		w.segment(3, 5, 20<<20, false),
		w.segment(300, 2, 20_000, false),
		w.segment(3, 2, 3<<20, false),
	} {
		r := w.rangeOf(batches)
		if _, err := w.p.Upload(context.Background(), r, &sliceReader{batches: batches}); err != nil {
			t.Fatal(err)
		}
	}
	slot := <-w.tier.uploads
	if n := cap(slot.build.raw) + cap(slot.build.packed); n > 8<<20 {
		t.Fatalf("%d bytes", n)
	}
	w.tier.uploads <- slot
}
