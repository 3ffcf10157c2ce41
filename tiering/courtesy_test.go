package tiering

import (
	"testing"
	"time"
)

func TestColdReadsPauseOnlyBesideHotTraffic(t *testing.T) {
	hot := int64(0)
	c := &courtesy{hot: func() int64 { return hot }}
	now := time.UnixMilli(1_000_000)
	if p := c.next(now); p != 0 {
		t.Errorf("pause of %v before any hot request", p)
	}
	hot++
	if p := c.next(now); p != courtesyFirst {
		t.Errorf("pause of %v beside hot traffic, want %v", p, courtesyFirst)
	}
	for range 50 {
		c.learn(5 * time.Millisecond)
	}
	if p := c.next(now); p != courtesyMost {
		t.Errorf("pause of %v on a saturated machine, want %v", p, courtesyMost)
	}
	for range 50 {
		c.learn(0)
	}
	if p := c.next(now); p != courtesyFirst {
		t.Errorf("pause of %v once timers are on time again, want %v", p, courtesyFirst)
	}
	if p := c.next(now.Add(courtesyIdle + time.Millisecond)); p != 0 {
		t.Errorf("pause of %v after hot traffic has ended", p)
	}
	if p := (&courtesy{}).next(now); p != 0 {
		t.Errorf("pause of %v without a counter", p)
	}
}
