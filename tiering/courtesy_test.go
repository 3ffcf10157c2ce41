package tiering

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestTurnsBoundByTimersThatFireLate(t *testing.T) {
	hot := int64(0)
	c := newCourtesy(func() int64 { return hot }, 2)
	now := time.UnixMilli(1_000_000)
	if h := c.next(now); h != 0 {
		t.Errorf("turn of %v before any hot request", h)
	}
	hot++
	if h := c.next(now); h != courtesyHold {
		t.Errorf("turn of %v beside hot traffic, want %v", h, courtesyHold)
	}
	for range 50 {
		c.learn(5 * time.Millisecond)
	}
	if h := c.next(now); h != courtesyMost {
		t.Errorf("turn of %v on a saturated machine, want %v", h, courtesyMost)
	}
	for range 50 {
		c.learn(0)
	}
	if h := c.next(now); h != courtesyHold {
		t.Errorf("turn of %v once timers are on time again, want %v", h, courtesyHold)
	}
	if h := c.next(now.Add(courtesyIdle + time.Millisecond)); h != 0 {
		t.Errorf("turn of %v after hot traffic has ended", h)
	}
	if h := newCourtesy(nil, 2).next(now); h != 0 {
		t.Errorf("turn of %v without a counter", h)
	}
}

// busyCourtesy is beside hot traffic that never ends.
func busyCourtesy(cores int) *courtesy {
	hot := int64(0)
	return newCourtesy(func() int64 { hot++; return hot }, cores)
}

func mustBegin(t *testing.T, c *courtesy, bytes int) (end func()) {
	t.Helper()
	end, err := c.begin(t.Context(), bytes)
	if err != nil {
		t.Fatal(err)
	}
	return end
}

func TestLargeColdGetsTakeTurnsBesideHotTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := busyCourtesy(4)
		first, second := mustBegin(t, c, maxRun), mustBegin(t, c, maxRun)
		began := false
		go func() {
			end := mustBegin(t, c, maxRun)
			began = true
			end()
		}()
		synctest.Wait()
		if began {
			t.Error("a third GET began on four cores")
		}
		mustBegin(t, c, courtesySmall-1)() // an index waits for nobody
		first()
		synctest.Wait()
		if !began {
			t.Error("the third GET did not begin when the first had ended")
		}
		second()
	})
}

func TestTurnPassesOnWhileTheNetworkIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := busyCourtesy(2)
		begin := time.Now()
		slow := mustBegin(t, c, maxRun)
		next := mustBegin(t, c, maxRun)
		if waited := time.Since(begin); waited != courtesyHold {
			t.Errorf("the next GET began after %v, want %v", waited, courtesyHold)
		}
		slow() // a turn that was passed on is not given back twice
		last := mustBegin(t, c, maxRun)
		if waited := time.Since(begin); waited != 2*courtesyHold {
			t.Errorf("the last GET began after %v, want %v", waited, 2*courtesyHold)
		}
		next()
		last()
	})
}

func TestWaitForATurnEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := busyCourtesy(2)
		defer mustBegin(t, c, maxRun)()
		ctx, cancel := context.WithTimeout(t.Context(), courtesyHold/2)
		defer cancel()
		if _, err := c.begin(ctx, maxRun); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("begin: %v, want the context's error", err)
		}
	})
}
