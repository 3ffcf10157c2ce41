package object

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// RetryPolicy says how often and how fast Retry repeats a call. Zero fields take
// the values of DefaultRetryPolicy.
type RetryPolicy struct {
	// Attempts bounds the tries of one call, the first included.
	Attempts int
	// BaseDelay is before the second try; it doubles up to MaxDelay. The delay
	// taken is between half of it and all of it, at random.
	BaseDelay, MaxDelay time.Duration
	// Budget is how many retries may be spent beyond one for every ten calls that
	// succeed: while the store is down, many callers must not each multiply
	// their requests.
	Budget int

	// Rand returns numbers in [0,1) and Wait waits, or returns false when ctx ends
	// first. Simulations replace them.
	Rand func() float64
	Wait func(ctx context.Context, d time.Duration) bool
}

// DefaultRetryPolicy rides out a restart of a load balancer (about 3 s) and no
// more: whoever calls has a slower loop of its own.
var DefaultRetryPolicy = RetryPolicy{
	Attempts: 5, BaseDelay: 200 * time.Millisecond, MaxDelay: 3 * time.Second, Budget: 100,
}

func (p RetryPolicy) withDefaults() RetryPolicy {
	d := DefaultRetryPolicy
	if p.Attempts <= 0 {
		p.Attempts = d.Attempts
	}
	if p.BaseDelay <= 0 {
		p.BaseDelay = d.BaseDelay
	}
	if p.MaxDelay <= 0 {
		p.MaxDelay = d.MaxDelay
	}
	if p.Budget <= 0 {
		p.Budget = d.Budget
	}
	if p.Rand == nil {
		p.Rand = jitter
	}
	if p.Wait == nil {
		p.Wait = pause
	}
	return p
}

func jitter() float64 { return rand.Float64() } // not a secret

// delay is what to wait after the try-th failure, try >= 1.
func (p RetryPolicy) delay(try int, random func() float64) time.Duration {
	d := p.BaseDelay
	for ; try > 1 && d < p.MaxDelay; try-- {
		d *= 2
	}
	d = min(d, p.MaxDelay)
	return d/2 + time.Duration(random()*float64(d/2))
}

// pause waits, or returns false as soon as ctx ends.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Retry repeats calls that failed with a retriable error, as long as the policy,
// the shared budget and the context allow. Repeating a Put is safe because keys
// are fresh and a repeated Put stores the same bytes; one with Once or IfAbsent
// is never repeated.
type Retry struct {
	inner  Store
	policy RetryPolicy

	mu struct {
		sync.Mutex
		tokens  float64 // 0 <= tokens <= policy.Budget
		retries int64
	}
}

// NewRetry decorates inner.
func NewRetry(inner Store, policy RetryPolicy) *Retry {
	r := &Retry{inner: inner, policy: policy.withDefaults()}
	r.mu.tokens = float64(r.policy.Budget)
	return r
}

// Unwrap is the decorated store.
func (r *Retry) Unwrap() Store { return r.inner }

// Name is the decorated store's.
func (r *Retry) Name() string { return r.inner.Name() }

// Close closes the decorated store.
func (r *Retry) Close() error { return r.inner.Close() }

// Retries is how many calls have been repeated so far.
func (r *Retry) Retries() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.retries
}

// Put repeats unless opt forbids it.
func (r *Retry) Put(ctx context.Context, key string, body Body, opt PutOptions) (info Info, err error) {
	attempts := r.policy.Attempts
	if opt.Once || opt.IfAbsent {
		attempts = 1
	}
	err = r.do(ctx, attempts, func() error {
		info, err = r.inner.Put(ctx, key, body, opt)
		return err
	})
	return info, err
}

// GetRange repeats the whole range.
func (r *Retry) GetRange(ctx context.Context, key string, off int64, dst []byte) (n int, err error) {
	err = r.do(ctx, r.policy.Attempts, func() error {
		n, err = r.inner.GetRange(ctx, key, off, dst)
		return err
	})
	return n, err
}

// Head repeats.
func (r *Retry) Head(ctx context.Context, key string) (info Info, err error) {
	err = r.do(ctx, r.policy.Attempts, func() error {
		info, err = r.inner.Head(ctx, key)
		return err
	})
	return info, err
}

// Delete repeats.
func (r *Retry) Delete(ctx context.Context, key string) error {
	return r.do(ctx, r.policy.Attempts, func() error { return r.inner.Delete(ctx, key) })
}

// List repeats one page.
func (r *Retry) List(ctx context.Context, prefix, after string, limit int) (page Page, err error) {
	err = r.do(ctx, r.policy.Attempts, func() error {
		page, err = r.inner.List(ctx, prefix, after, limit)
		return err
	})
	return page, err
}

func (r *Retry) do(ctx context.Context, attempts int, call func() error) error {
	for try := 1; ; try++ {
		err := call()
		if !IsRetriable(err) {
			if err == nil {
				r.earn()
			}
			return err
		}
		delay := r.policy.delay(try, r.policy.Rand)
		switch {
		case try >= attempts:
			return gaveUp(err, try, "")
		case endsWithin(ctx, delay):
			return gaveUp(err, try, ", no time left for another")
		case !r.spend():
			return gaveUp(err, try, ", retry budget spent")
		}
		if !r.policy.Wait(ctx, delay) {
			return fmt.Errorf("%w while waiting to repeat: %v", ctx.Err(), err) // the end of ctx is the error
		}
	}
}

// endsWithin reports whether ctx has a deadline that leaves no time for a try after d.
func endsWithin(ctx context.Context, d time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) <= d
}

func gaveUp(err error, tries int, why string) error {
	if tries == 1 && why == "" {
		return err
	}
	return fmt.Errorf("%w (tries: %d%s)", err, tries, why)
}

// earnPerSuccess makes ten successes pay for one retry.
const earnPerSuccess = 0.1

func (r *Retry) earn() {
	r.mu.Lock()
	r.mu.tokens = min(r.mu.tokens+earnPerSuccess, float64(r.policy.Budget))
	r.mu.Unlock()
}

func (r *Retry) spend() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.tokens < 1 {
		return false
	}
	r.mu.tokens--
	r.mu.retries++
	return true
}
