package group

import (
	"container/heap"
	"time"
)

// timer is one deadline of a group or a member. It is part of what it belongs to, so that moving a
// session's end, which every heartbeat does, allocates nothing.
type timer struct {
	at   time.Time
	fire func(now time.Time)
	slot int // place in the heap plus one; 0 while not scheduled
}

func (t *timer) set() bool { return t.slot > 0 }

// timers is a heap by deadline.
type timers struct{ heap timerHeap }

// schedule sets or moves a timer.
func (q *timers) schedule(t *timer, at time.Time) {
	t.at = at
	if t.set() {
		heap.Fix(&q.heap, t.slot-1)
		return
	}
	heap.Push(&q.heap, t)
}

func (q *timers) cancel(t *timer) {
	if t.set() {
		heap.Remove(&q.heap, t.slot-1)
	}
}

// next is the earliest deadline, zero if there is none.
func (q *timers) next() time.Time {
	if len(q.heap) == 0 {
		return time.Time{}
	}
	return q.heap[0].at
}

// fire runs what is due, at most limit of it.
func (q *timers) fire(now time.Time, limit int) {
	for ; limit > 0 && len(q.heap) > 0 && !q.heap[0].at.After(now); limit-- {
		t := q.heap[0]
		heap.Remove(&q.heap, 0)
		t.fire(now)
	}
}

type timerHeap []*timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].slot, h[j].slot = i+1, j+1
}

func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	*h = append(*h, t)
	t.slot = len(*h)
}

func (h *timerHeap) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	t.slot = 0
	return t
}
