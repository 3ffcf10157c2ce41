//go:build !race

// sync.Pool drops at random under the race detector, so these run without it.

package commitlog

import (
	"errors"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"varve/broker/internal/vfs"
)

func TestReadAllocatesOneSpan(t *testing.T) {
	e := newTestEnv(t, testEnvConfig(vfs.NewMem()))
	l := openTestLog(t, e, Options{})
	l.fill(t, 1, 60)
	l.w.wait(60)
	for from := range int64(50) {
		n := testing.AllocsPerRun(20, func() {
			s, err := l.Read(from, 60, 1000, true)
			if err != nil {
				t.Fatal(err)
			}
			s.Release()
		})
		if n > 1 {
			t.Fatalf("%v allocations for a read at %d", n, from)
		}
	}
}

func TestWalksOfLargeBatchesShareOneBuffer(t *testing.T) {
	const large = 4 * scanBuffer
	e := newTestEnv(t, testEnvConfig(vfs.NewMem()))
	cfg := testConfig()
	cfg.SegmentBytes = large + large/2 // one batch a segment
	l := openTestLog(t, e, Options{Config: cfg})
	for range 2 {
		l.mustAppend(t, 1, batchOf(strings.Repeat("x", large), 1, 1000))
	}
	l.w.wait(2)
	walk := func() {
		r, err := l.SealedReader(0)
		mustNot(t, err)
		defer r.Close()
		if _, _, err = r.Next(); err == nil {
			_, _, err = r.Next()
		}
		if !errors.Is(err, io.EOF) {
			t.Fatalf("walk: %v", err)
		}
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties the pools
	walk()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 20 {
		walk()
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4*large { // a buffer for each would be 20
		t.Fatalf("20 walks allocated %d bytes, a batch has %d", n, large)
	}
}
