//go:build !race

// sync.Pool drops at random under the race detector, so these run without it.

package commitlog

import (
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
