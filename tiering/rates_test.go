package tiering

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

func TestATopicAtItsReadRateHoldsUpNoOther(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.ReadSlots = 1 })
	w.upload(w.segment(40, 3, 500, false))
	limited, slow := w.p, w.ptr
	other := testID
	other.Topic = "other"
	w.p, w.ptr, w.src = w.tier.Partition(other), Pointer{}, nil
	w.upload(w.segment(40, 3, 500, false))

	w.tier.SetTopicReadRate(testID.Topic, 1)
	if !w.tier.topicRate(testID.Topic).AllowN(time.Now(), minBurst) { // use up what a new bucket holds
		t.Fatal("the bucket was not full")
	}
	limited.SetPointer(slow)
	ctx, cancel := context.WithCancel(context.Background())
	got := make(chan error, 1)
	go func() {
		d, err := limited.Read(ctx, 0, 1000, true)
		if err == nil {
			d.Release()
		}
		got <- err
	}()
	w.mustEqual(w.readAll(0, 1<<20), w.sourceFrom(0)) // with the one read slot there is
	cancel()
	if err := <-got; !errors.Is(err, ErrPending) {
		t.Fatalf("a read of the topic at its limit: %v", err)
	}
	w.tier.SetTopicReadRate(testID.Topic, 0)
	d, err := limited.Read(context.Background(), 0, 1000, true) // also what was waiting goes on
	if err != nil {
		t.Fatal(err)
	}
	d.Release()
}

func TestARaisedLimitHelpsWhatWaits(t *testing.T) {
	var tier Tier
	tier.SetRates(1, 0)
	if !tier.rates.up.Load().AllowN(time.Now(), minBurst) {
		t.Fatal("the bucket was not full")
	}
	asked := 0
	err := pace(t.Context(), func() *rate.Limiter {
		if asked++; asked == 2 { // at the old limit it would take hours
			tier.SetRates(0, 0)
		}
		return tier.rates.up.Load()
	}, 1<<20)
	if err != nil || asked != 2 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}
