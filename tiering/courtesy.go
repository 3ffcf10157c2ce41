package tiering

import (
	"context"
	"sync"
	"time"
)

// courtesy lets hot traffic go first on a machine whose cores are all busy: while records come in, a
// cold read pauses before each GET, the longer the later its own timer fires, because a timer that
// fires late is a processor that somebody else waits for as well. Without hot traffic there is no
// pause. It is a rule of thumb for latency and never of correctness.
type courtesy struct {
	hot func() int64 // counts hot requests; nil: no courtesy

	mu struct {
		sync.Mutex
		seen  int64     // of hot
		since time.Time // when seen was last found to have moved
		pause time.Duration
	}
}

const (
	// courtesyIdle is how long after the last hot request cold reads still step back.
	courtesyIdle = 200 * time.Millisecond
	// courtesyFirst and courtesyMost bound the pause before a GET of up to 4 MiB, which itself takes
	// about 5 to 20 ms on a busy machine: at most, cold reads keep a third of their speed.
	courtesyFirst = 4 * time.Millisecond
	courtesyMost  = 32 * time.Millisecond
	// courtesyLate is how late a timer may fire before the machine counts as busy: twice what an
	// idle core needs, a fifth of what a saturated one does.
	courtesyLate = time.Millisecond
)

// wait pauses if it has to. It ends early with ctx.
func (c *courtesy) wait(ctx context.Context) {
	pause := c.next(time.Now())
	if pause == 0 {
		return
	}
	began := time.Now()
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		c.learn(time.Since(began) - pause)
	case <-ctx.Done():
	}
}

// next is the pause before the next GET.
func (c *courtesy) next(now time.Time) time.Duration {
	if c.hot == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.hot(); n != c.mu.seen {
		c.mu.seen, c.mu.since = n, now
	}
	if now.Sub(c.mu.since) > courtesyIdle {
		c.mu.pause = 0
		return 0
	}
	c.mu.pause = max(c.mu.pause, courtesyFirst)
	return c.mu.pause
}

// learn moves the pause by how late the timer was: up by a quarter, down by an eighth.
func (c *courtesy) learn(late time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if late > courtesyLate {
		c.mu.pause = min(c.mu.pause*5/4, courtesyMost)
		return
	}
	c.mu.pause = max(c.mu.pause*7/8, courtesyFirst)
}
