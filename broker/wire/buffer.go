package wire

import (
	"math/bits"
	"sync"
	"unsafe"
)

// Size classes are the powers of two from minClass to maxClass. Below 1 KiB the copy of the next
// allocation costs less than the pool; above 4 MiB buffers are rare and too dear to keep idle.
const (
	minClassShift = 10
	maxClassShift = 22
	minClass      = 1 << minClassShift
	maxClass      = 1 << maxClassShift
	classes       = maxClassShift - minClassShift + 1
	// listShift: from 64 KiB on classes are explicit lists, because a sync.Pool is emptied by
	// every second collection and keeps a copy for each P.
	listShift = 16
	// idlePerClass bounds the idle bytes of each list: four buffers of the greatest class, and
	// 7 classes stay under 112 MiB when every size has had its burst.
	idlePerClass = 16 << 20
)

var pools [classes]class

// class holds the idle buffers of one size, as pointers to their first byte: a slice in an
// interface would be one allocation a buffer.
type class struct {
	small sync.Pool
	mu    struct {
		sync.Mutex
		idle []*byte // cap is fixed: a push never allocates once it is there
	}
}

// classOf is the smallest class that holds n bytes; ok is false above the greatest.
func classOf(n int) (i int, ok bool) {
	if n > maxClass {
		return 0, false
	}
	if n <= minClass {
		return 0, true
	}
	return bits.Len(uint(n-1)) - minClassShift, true
}

// GetBuffer returns a buffer of length n whose bytes are not cleared; its capacity is the size
// class. Above 4 MiB it is a plain allocation.
func GetBuffer(n int) []byte {
	if b := getPooled(n); b != nil {
		return b
	}
	if i, ok := classOf(n); ok {
		return make([]byte, n, minClass<<i)
	}
	return make([]byte, n)
}

// getPooled is GetBuffer without an allocation: nil when no idle buffer is there.
func getPooled(n int) []byte {
	i, ok := classOf(n)
	if !ok {
		return nil
	}
	p := pools[i].get(i)
	if p == nil {
		return nil
	}
	return unsafe.Slice(p, minClass<<i)[:n]
}

// PutBuffer gives a buffer back, with any length but with the capacity GetBuffer gave it. A
// buffer of another origin is left to the collector, unless its capacity is a size class: then it
// must be an allocation of its own, never a piece of something.
func PutBuffer(b []byte) {
	n := cap(b)
	i, ok := classOf(n)
	if !ok || n != minClass<<i {
		return
	}
	pools[i].put(i, unsafe.SliceData(b))
}

func (c *class) get(i int) *byte {
	if i+minClassShift < listShift {
		p, _ := c.small.Get().(*byte)
		return p
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.mu.idle)
	if n == 0 {
		return nil
	}
	p := c.mu.idle[n-1]
	c.mu.idle[n-1] = nil
	c.mu.idle = c.mu.idle[:n-1]
	return p
}

func (c *class) put(i int, p *byte) {
	if i+minClassShift < listShift {
		c.small.Put(p)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.idle == nil {
		c.mu.idle = make([]*byte, 0, idlePerClass>>(i+minClassShift))
	}
	if len(c.mu.idle) < cap(c.mu.idle) {
		c.mu.idle = append(c.mu.idle, p)
	}
}
