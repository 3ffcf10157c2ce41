package tiering

import (
	"context"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// rates are the token buckets of bytes: uploads, cold reads, and cold reads of single
// topics. A nil limiter lets everything pass. A change replaces a bucket.
type rates struct {
	up, read atomic.Pointer[rate.Limiter]
	topics   sync.Map // name -> *rate.Limiter; those with a limit alone
}

// SetRates changes the limits of uploads and cold reads in bytes a second; 0: none.
func (t *Tier) SetRates(upload, read int64) {
	set := func(p *atomic.Pointer[rate.Limiter], perSecond int64) {
		if old := p.Load(); perSecond == 0 || old == nil || old.Limit() != rate.Limit(perSecond) { // a full bucket is no present for each call
			p.Store(newRate(perSecond))
		}
	}
	set(&t.rates.up, upload)
	set(&t.rates.read, read)
}

// SetTopicReadRate limits what is read of one topic from the store, on top of the limit
// for all; 0: none. It does not limit what the caches have.
func (t *Tier) SetTopicReadRate(topic string, perSecond int64) {
	if perSecond == 0 {
		t.rates.topics.Delete(topic)
		return
	}
	if old := t.topicRate(topic); old == nil || old.Limit() != rate.Limit(perSecond) {
		t.rates.topics.Store(topic, newRate(perSecond))
	}
}

func (t *Tier) topicRate(topic string) *rate.Limiter {
	l, _ := t.rates.topics.Load(topic)
	limiter, _ := l.(*rate.Limiter)
	return limiter
}

// minBurst is the largest request, so that each fits the bucket.
const minBurst = 8 << 20

func newRate(perSecond int64) *rate.Limiter {
	if perSecond == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), int(max(perSecond, minBurst)))
}

// pace waits for n bytes of a token bucket, about a second's worth at a time, so that
// a limit that was raised helps what waits already.
func pace(ctx context.Context, bucket func() *rate.Limiter, n int64) error {
	for n > 0 {
		l := bucket()
		if l == nil {
			return nil
		}
		step := min(n, max(int64(l.Limit()), 1))
		if err := l.WaitN(ctx, int(step)); err != nil {
			return err
		}
		n -= step
	}
	return nil
}

// Rates are the limits of uploads and cold reads in bytes a second; 0: none.
func (t *Tier) Rates() (upload, read int64) {
	return perSecond(t.rates.up.Load()), perSecond(t.rates.read.Load())
}

// TopicReadRate is the limit that SetTopicReadRate set; 0: none.
func (t *Tier) TopicReadRate(topic string) int64 { return perSecond(t.topicRate(topic)) }

func perSecond(l *rate.Limiter) int64 {
	if l == nil {
		return 0
	}
	return int64(l.Limit())
}
