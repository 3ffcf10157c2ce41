package tiering

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// courtesy lets hot traffic go first on a machine whose cores are all busy: while records come in,
// large cold GETs take turns, as many at once as there are pairs of cores, so that the store, this
// broker and the consumer, which may all run here, do not come at every core together. Without hot
// traffic there is no turn to wait for. It is a rule of thumb for latency and never of correctness.
//
// A pause before each GET is not enough: several readers pause side by side, and then burst together.
type courtesy struct {
	hot   func() int64 // counts hot requests; nil: no courtesy
	turns *semaphore.Weighted

	mu struct {
		sync.Mutex
		seen  int64     // of hot
		since time.Time // when seen was last found to have moved
		// hold is how long a GET keeps its turn at most; courtesyHold <= hold <= courtesyMost
		// once there was hot traffic.
		hold time.Duration
	}
}

const (
	// courtesyIdle is how long after the last hot request cold reads still step back.
	courtesyIdle = 200 * time.Millisecond
	// coresPerTurn: a GET from a store on the same machine keeps one core busy in the store and half
	// of one here, and what it brought goes out to the consumer meanwhile.
	coresPerTurn = 2
	// courtesySmall is the size from which a GET needs a turn. An index or a manifest page, on which
	// many reads may wait, costs no processor worth the name.
	courtesySmall = 256 << 10
	// courtesyHold bounds a turn: a GET of 4 MiB from a store on the same machine takes 5 to 12 ms,
	// so one that needs longer waits for a network, and the next may begin: at least 250 MB/s a turn.
	courtesyHold = 16 * time.Millisecond
	// courtesyMost is the bound where timers fire late, because a GET then waits for a processor.
	courtesyMost = 64 * time.Millisecond
	// courtesyLate is how late a timer may fire before the machine counts as busy: twice what an
	// idle core needs, a fifth of what a saturated one does.
	courtesyLate = time.Millisecond
)

func newCourtesy(hot func() int64, cores int) *courtesy {
	return &courtesy{hot: hot, turns: semaphore.NewWeighted(int64(max(cores/coresPerTurn, 1)))}
}

// begin waits for the turn of a GET of so many bytes, if it needs one. The caller calls end when the
// GET has ended.
func (c *courtesy) begin(ctx context.Context, bytes int) (end func(), err error) {
	hold := time.Duration(0)
	if bytes >= courtesySmall {
		hold = c.next(time.Now())
	}
	if hold == 0 {
		return func() {}, nil
	}
	if err := c.turns.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("wait for a turn: %w", err)
	}
	began := time.Now()
	release := sync.OnceFunc(func() { c.turns.Release(1) })
	t := time.AfterFunc(hold, func() {
		c.learn(time.Since(began) - hold)
		release()
	})
	return func() {
		t.Stop()
		release()
	}, nil
}

// next is how long the next GET may keep its turn; 0: it needs none.
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
		c.mu.hold = 0
		return 0
	}
	c.mu.hold = max(c.mu.hold, courtesyHold)
	return c.mu.hold
}

// learn moves the bound of a turn by how late the timer was that ended one: up by a quarter, down by
// an eighth.
func (c *courtesy) learn(late time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if late > courtesyLate {
		c.mu.hold = min(c.mu.hold*5/4, courtesyMost)
		return
	}
	c.mu.hold = max(c.mu.hold*7/8, courtesyHold)
}
