package tiering

import (
	"context"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// slab is one buffer of cold data, shared by the chunks that lie in it. It counts
// against the pool's budget from the moment its bytes were granted until its last
// user is done.
type slab struct {
	buf    []byte
	charge int64
	refs   atomic.Int32
	pool   *slabPool
}

func (s *slab) retain() { s.refs.Add(1) }

func (s *slab) release() {
	switch n := s.refs.Add(-1); {
	case n == 0:
		s.pool.put(s)
	case n < 0:
		panic("tiering: slab released more often than retained")
	}
}

// slabPool is the byte budget of cold reads and the free buffers within it. A new
// large buffer costs page faults and zeroing, several times the price of the CRC
// over its content, so freed ones are kept.
type slabPool struct {
	size    int64
	budget  *semaphore.Weighted
	waiting atomic.Int64 // demand reads that wait for budget
	// reclaim is asked to free what nobody waits for: read-ahead of others and the
	// coldest of the memory cache.
	reclaim func(bytes int64, again bool)

	mu struct {
		sync.Mutex
		free  [slabClasses][][]byte
		bytes int64 // in free; at most size/2
	}
}

const (
	slabClasses  = 8
	minSlabShift = 16 // 64 KiB; the largest class is 8 MiB
	// slabSlack lets a run of 4 chunks of 1 MiB and their frames fit its class.
	slabSlack = 4 << 10
	// reclaimEvery: how much has to be dropped to free a slab is a guess, because
	// chunks share slabs, so a waiter asks again until it is served.
	reclaimEvery = 50 * time.Millisecond
)

func newSlabPool(size int64) *slabPool {
	return &slabPool{size: size, budget: semaphore.NewWeighted(size), reclaim: func(int64, bool) {}}
}

// classOf is the smallest class that holds n bytes, or -1.
func classOf(n int) int {
	n = max(n-slabSlack, 1)
	c := max(bits.Len(uint(n-1))-minSlabShift, 0)
	if c >= slabClasses {
		return -1
	}
	return c
}

// acquire waits for n bytes of budget and returns how many were granted: n, or
// all there is if n is more. It never waits for bytes that only a cache or
// another reader's read-ahead holds.
func (p *slabPool) acquire(ctx context.Context, n int64) (int64, error) {
	n = min(n, p.size)
	if p.budget.TryAcquire(n) {
		return n, nil
	}
	p.waiting.Add(1)
	defer p.waiting.Add(-1)
	for again := false; ; again = true {
		p.reclaim(n, again)
		wait, cancel := context.WithTimeout(ctx, reclaimEvery)
		err := p.budget.Acquire(wait, n)
		cancel()
		if err == nil {
			return n, nil
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
}

// tryAcquire is for read-ahead: it takes nothing while a demand read waits.
func (p *slabPool) tryAcquire(n int64) (int64, bool) {
	n = min(n, p.size)
	return n, p.waiting.Load() == 0 && p.budget.TryAcquire(n)
}

func (p *slabPool) giveBack(n int64) {
	if n > 0 {
		p.budget.Release(n)
	}
}

// get returns a slab of n bytes with undefined content and one reference. charge
// of the granted budget goes with it.
func (p *slabPool) get(n int, charge int64) *slab {
	s := &slab{pool: p, charge: charge}
	s.refs.Store(1)
	class := classOf(n)
	if class < 0 {
		s.buf = make([]byte, n)
		return s
	}
	p.mu.Lock()
	if f := p.mu.free[class]; len(f) > 0 {
		s.buf = f[len(f)-1][:n]
		p.mu.free[class] = f[:len(f)-1]
		p.mu.bytes -= int64(cap(s.buf))
	}
	p.mu.Unlock()
	if s.buf == nil {
		s.buf = make([]byte, n, 1<<(class+minSlabShift)+slabSlack)
	}
	return s
}

func (p *slabPool) put(s *slab) {
	buf := s.buf
	s.buf = nil
	if class := classOf(cap(buf)); class >= 0 && cap(buf) == 1<<(class+minSlabShift)+slabSlack {
		p.mu.Lock()
		if p.mu.bytes+int64(cap(buf)) <= p.size/2 {
			p.mu.free[class] = append(p.mu.free[class], buf)
			p.mu.bytes += int64(cap(buf))
		}
		p.mu.Unlock()
	}
	p.giveBack(s.charge)
}

// trim drops the free buffers.
func (p *slabPool) trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.free = [slabClasses][][]byte{}
	p.mu.bytes = 0
}
