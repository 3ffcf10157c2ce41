package commitlog

import (
	"sync/atomic"
	"time"
)

// watchdog finds a disk operation that outlasts DiskTimeout, which is as final as an error: a disk
// that hangs keeps its partitions' leadership and answers nobody. An operation notes the tick at
// which it began in a free slot; reading the clock for each would cost more than the slot does.
type watchdog struct {
	env  *Env
	tick atomic.Int64
	// slots hold the tick at which an operation began, 0 when free.
	slots [watchdogSlots]atomic.Int64
	next  atomic.Uint32
}

// watchdogSlots bounds the operations watched at a time: more than the threads that can wait for
// one disk on any machine this runs on. When all are taken the operation is not watched; its
// neighbours that hang are.
const watchdogSlots = 256

func (w *watchdog) init(e *Env) {
	w.env = e
	w.tick.Store(1)
}

// begin notes an operation; the answer is for end.
func (w *watchdog) begin() int {
	if w.env.cfg.DiskTimeout <= 0 {
		return -1
	}
	now := w.tick.Load()
	for range 8 {
		i := int(w.next.Add(1) % watchdogSlots)
		if w.slots[i].CompareAndSwap(0, now) {
			return i
		}
	}
	return -1
}

func (w *watchdog) end(slot int) {
	if slot >= 0 {
		w.slots[slot].Store(0)
	}
}

func (w *watchdog) run() {
	ticker := time.NewTicker(max(w.env.cfg.DiskTimeout/watchdogSteps, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-w.env.stop:
			return
		case <-ticker.C:
		}
		now := w.tick.Add(1)
		for i := range w.slots {
			if began := w.slots[i].Load(); began != 0 && now-began > watchdogSteps {
				_ = w.env.fail(ErrHung) // the latch reports it; there is no caller to tell
				return
			}
		}
	}
}
