package txn

import (
	"container/heap"
	"time"
)

// timers orders transactional ids by when they want a tick.
type timers struct{ h timerHeap }

type timerHeap []*txn

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].slot, h[j].slot = i, j
}

func (h *timerHeap) Push(x any) {
	t := x.(*txn)
	t.slot = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	n := len(*h) - 1
	t := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	t.slot = -1
	return t
}

func (x *timers) set(t *txn, at time.Time) {
	if t.slot >= 0 && t.at.Equal(at) {
		return
	}
	t.at = at
	if t.slot < 0 {
		heap.Push(&x.h, t)
		return
	}
	heap.Fix(&x.h, t.slot)
}

func (x *timers) remove(t *txn) {
	if t.slot >= 0 {
		heap.Remove(&x.h, t.slot)
	}
}

func (x *timers) next() time.Time {
	if len(x.h) == 0 {
		return time.Time{}
	}
	return x.h[0].at
}

// due takes the next one whose time has come off the heap.
func (x *timers) due(now time.Time) *txn {
	if len(x.h) == 0 || x.h[0].at.After(now) {
		return nil
	}
	return heap.Pop(&x.h).(*txn)
}
