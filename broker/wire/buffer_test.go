package wire

import "testing"

func TestBuffersHaveTheirClass(t *testing.T) {
	for n, want := range map[int]int{
		0: 1024, 1: 1024, 1024: 1024, 1025: 2048, 65536: 65536, 65537: 131072, 4 << 20: 4 << 20,
		3<<20 + 1: 4 << 20, 4<<20 + 1: 4<<20 + 1,
	} {
		b := GetBuffer(n)
		if len(b) != n || cap(b) < want || n <= maxClass && cap(b) != want {
			t.Errorf("GetBuffer(%d) has length %d and capacity %d", n, len(b), cap(b))
		}
		PutBuffer(b)
	}
	PutBuffer(nil)
	PutBuffer(make([]byte, 3000))
}

func TestLargeClassesAreBounded(t *testing.T) {
	i, _ := classOf(maxClass)
	for range 20 {
		PutBuffer(make([]byte, maxClass))
	}
	if n := len(pools[i].mu.idle); n != idlePerClass/maxClass {
		t.Errorf("%d idle buffers of 4 MiB", n)
	}
	b := GetBuffer(maxClass - 5)
	p := &b[0]
	PutBuffer(b)
	if c := GetBuffer(3 << 20); &c[0] != p {
		t.Error("the last buffer given back is not the first one used again")
	}
}
