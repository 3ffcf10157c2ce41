package object

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// CountKey names one row of a Meter.
type CountKey struct {
	Op      Op
	Topic   string
	Purpose Purpose
	Outcome Outcome
}

// Count is one row of a Meter: all requests with one CountKey.
type Count struct {
	CountKey
	Calls                    int64 // tries, also those that never left this machine
	Requests                 int64 // as written to a connection, what a store bills
	BytesSent, BytesReceived int64 // bodies
	Took                     time.Duration
}

// maxCountKeys bounds the memory of a Meter: 4,000 topics with a dozen rows each.
// Beyond it, new topics are counted under OtherTopics.
const maxCountKeys = 50_000

// OtherTopics is the topic of requests that came when a Meter was full.
const OtherTopics = "(other)"

// Meter counts requests where they leave. Around a store that makes requests of
// its own (S3: pages, parts, repeated connections) each of these is a request;
// around any other, each call is one.
type Meter struct {
	inner    Store
	outside  bool // inner reports its own requests
	observer atomic.Pointer[func(Sample)]

	mu struct {
		sync.Mutex
		counts map[CountKey]*Count
	}
}

// requestSource is a store that reports each request itself.
type requestSource interface{ setObserver(f func(Sample)) }

// NewMeter decorates inner. A store that reports its own requests reports them to
// the Meter made last.
func NewMeter(inner Store) *Meter {
	m := &Meter{inner: inner}
	m.mu.counts = make(map[CountKey]*Count)
	if src, ok := find[requestSource](inner); ok {
		m.outside = true
		src.setObserver(m.record)
	}
	return m
}

// find looks for a T in a chain of decorators.
func find[T any](s Store) (T, bool) {
	for s != nil {
		if t, ok := s.(T); ok {
			return t, true
		}
		w, ok := s.(interface{ Unwrap() Store })
		if !ok {
			break
		}
		s = w.Unwrap()
	}
	var none T
	return none, false
}

// SetObserver also gives each sample to f, which must not block. One at a time.
func (m *Meter) SetObserver(f func(Sample)) { m.observer.Store(&f) }

// Snapshot returns all rows, sorted by key.
func (m *Meter) Snapshot() []Count {
	m.mu.Lock()
	rows := make([]Count, 0, len(m.mu.counts))
	for _, c := range m.mu.counts {
		rows = append(rows, *c)
	}
	m.mu.Unlock()
	slices.SortFunc(rows, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Op, b.Op), cmp.Compare(a.Topic, b.Topic),
			cmp.Compare(a.Purpose, b.Purpose), cmp.Compare(a.Outcome, b.Outcome))
	})
	return rows
}

// Total adds up the rows for which keep is true (nil: all). Its CountKey is empty.
func (m *Meter) Total(keep func(CountKey) bool) Count {
	var sum Count
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, c := range m.mu.counts {
		if keep == nil || keep(k) {
			sum.Calls += c.Calls
			sum.Requests += c.Requests
			sum.BytesSent += c.BytesSent
			sum.BytesReceived += c.BytesReceived
			sum.Took += c.Took
		}
	}
	return sum
}

func (m *Meter) record(s Sample) {
	key := CountKey{s.Op, s.Topic, s.Purpose, s.Outcome}
	m.mu.Lock()
	c := m.mu.counts[key]
	if c == nil {
		if len(m.mu.counts) >= maxCountKeys && key.Topic != "" {
			key.Topic = OtherTopics
			c = m.mu.counts[key]
		}
		if c == nil {
			c = &Count{CountKey: key}
			m.mu.counts[key] = c
		}
	}
	c.Calls++
	c.Requests += s.Requests
	c.BytesSent += s.BytesSent
	c.BytesReceived += s.BytesReceived
	c.Took += s.Took
	m.mu.Unlock()
	if f := m.observer.Load(); f != nil {
		(*f)(s)
	}
}

// call counts one call of a store that does not count itself.
func (m *Meter) call(ctx context.Context, op Op, start time.Time, sent, received int64, err error) {
	if m.outside {
		return
	}
	l := labelsOf(ctx)
	m.record(Sample{
		Op: op, Topic: l.topic, Purpose: l.purpose, Outcome: OutcomeOf(err),
		Requests: 1, BytesSent: sent, BytesReceived: received, Took: time.Since(start),
	})
}

// Unwrap is the decorated store.
func (m *Meter) Unwrap() Store { return m.inner }

// Name is the decorated store's.
func (m *Meter) Name() string { return m.inner.Name() }

// Close closes the decorated store.
func (m *Meter) Close() error { return m.inner.Close() }

// Put counts the body only if it was stored.
func (m *Meter) Put(ctx context.Context, key string, body Body, opt PutOptions) (Info, error) {
	start := time.Now()
	info, err := m.inner.Put(ctx, key, body, opt)
	var sent int64
	if err == nil {
		sent = body.Size
	}
	m.call(ctx, OpPut, start, sent, 0, err)
	return info, err
}

// GetRange counts what arrived. An empty dst asks nothing and is not counted.
func (m *Meter) GetRange(ctx context.Context, key string, off int64, dst []byte) (int, error) {
	start := time.Now()
	n, err := m.inner.GetRange(ctx, key, off, dst)
	if len(dst) > 0 {
		m.call(ctx, OpGet, start, 0, int64(n), err)
	}
	return n, err
}

// Head counts.
func (m *Meter) Head(ctx context.Context, key string) (Info, error) {
	start := time.Now()
	info, err := m.inner.Head(ctx, key)
	m.call(ctx, OpHead, start, 0, 0, err)
	return info, err
}

// Delete counts.
func (m *Meter) Delete(ctx context.Context, key string) error {
	start := time.Now()
	err := m.inner.Delete(ctx, key)
	m.call(ctx, OpDelete, start, 0, 0, err)
	return err
}

// List counts.
func (m *Meter) List(ctx context.Context, prefix, after string, limit int) (Page, error) {
	start := time.Now()
	page, err := m.inner.List(ctx, prefix, after, limit)
	m.call(ctx, OpList, start, 0, 0, err)
	return page, err
}
