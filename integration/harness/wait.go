package harness

import (
	"fmt"
	"testing"
	"time"
)

// Deadlines of waits. They are how long a loaded machine may take, not how long a step takes: a
// wait ends as soon as its condition holds.
const (
	Soon = 20 * time.Second
	Late = 60 * time.Second
)

// pollEvery is how often a condition of a foreign process is looked at. Shorter would take CPU from
// the broker that is waited for, longer would add up over hundreds of waits.
const pollEvery = 20 * time.Millisecond

// Eventually waits until check gives nil and fails the test with its last error otherwise. It is
// the only way in which tests wait for a process that gives no sign of its own.
func Eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	if err := eventually(within, check); err != nil {
		t.Fatalf("%s: not within %s: %v", what, within, err)
	}
}

func eventually(within time.Duration, check func() error) error {
	return eventuallyUnless(within, nil, check)
}

// eventuallyUnless gives up early when gone is closed.
func eventuallyUnless(within time.Duration, gone <-chan struct{}, check func() error) error {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-gone:
			return fmt.Errorf("the process ended: %w", err)
		case <-deadline.C:
			return err
		}
	}
}
