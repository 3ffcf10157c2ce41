package coord

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"varve/broker/internal/vfs"
)

// TestAcknowledgedRecordsSurviveACrashAtEverySyncPoint writes rising values to a few keys, clones
// the disk at each sync point as a power cut would leave it, and opens every clone: no key may be
// below what was acknowledged by then, nor above what was ever written.
func TestAcknowledgedRecordsSurviveACrashAtEverySyncPoint(t *testing.T) {
	const keys, writes, seed = 4, 40, 20260611
	type point struct {
		disk  *vfs.Mem
		acked [keys]int
	}
	var mu sync.Mutex
	var acked, written [keys]int
	var points []point
	rng := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t)
	w.mem.OnSync(func(string, string) {
		mu.Lock()
		defer mu.Unlock()
		points = append(points, point{w.mem.CrashClone(rng), acked})
	})
	for i := range writes {
		k := i % keys
		written[k] = i + 1
		w.put(fmt.Sprint(k), strconv.Itoa(i+1))
		mu.Lock()
		acked[k] = i + 1
		mu.Unlock()
	}
	w.mem.OnSync(nil)
	w.close()
	if len(points) < writes {
		t.Fatalf("%d sync points for %d writes: the test sees no crash between them", len(points), writes)
	}
	for i, p := range points {
		w.open(p.disk)
		now, _ := w.state()
		for k := range keys {
			got, _ := strconv.Atoi(now[fmt.Sprint(k)])
			if got < p.acked[k] || got > written[k] {
				t.Errorf("seed %d, sync point %d: key %d is %d, acknowledged was %d, written at last %d", seed, i, k, got, p.acked[k], written[k])
			}
		}
		if i < len(points)-1 {
			w.close()
		}
	}
}
