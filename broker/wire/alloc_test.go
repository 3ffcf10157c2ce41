//go:build !race

// sync.Pool drops at random under the race detector, so these run without it.

package wire

import "testing"

func TestBuffersAllocateNothing(t *testing.T) {
	for _, n := range []int{100, 5000, 100_000, 1 << 20} {
		PutBuffer(GetBuffer(n))
		if a := testing.AllocsPerRun(100, func() { PutBuffer(GetBuffer(n)) }); a != 0 {
			t.Errorf("%d bytes: %v allocations", n, a)
		}
	}
}

func TestARequestAllocatesNothing(t *testing.T) {
	file, _ := testFile(t, 1<<20)
	parts := []Part{{File: file, Pos: 1, Len: 100_000}, {File: file, Pos: 5, Len: 30_000}}
	for name, once := range map[string]func(){
		"in place": exchange(t, inPlace(80), Config{}, 1100, 80),
		"hand-off": exchange(t, handOff(t, 80), Config{}, 1100, 80),
		"1 MiB":    exchange(t, inPlace(80), Config{}, 1<<20, 80),
		"file": exchange(t, func(q *Request) { q.Reply(Response{Body: GetBuffer(20), Parts: parts}) }, Config{},
			100, 130_020),
		"copied file": exchange(t, func(q *Request) { q.Reply(Response{Body: GetBuffer(20), Parts: parts}) },
			Config{DisableSendfile: true}, 100, 130_020),
	} {
		for range 100 {
			once()
		}
		// A collection in between may empty a pool: less than one in ten is none a request.
		if n := testing.AllocsPerRun(500, once); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
