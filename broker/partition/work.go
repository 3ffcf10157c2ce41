package partition

import (
	"context"
	"errors"
	"sync"
	"time"
)

// workQueue is the replicas that want a worker, each at most once. It is bounded by the number of
// replicas, since a replica is linked into it and not copied. Work that needs the bucket has a lane of
// its own: one that hangs holds each worker for as long as its deadlines allow, and retention of topics
// that have nothing there must not wait in that line (P4).
type workQueue struct {
	mu     sync.Mutex
	cond   *sync.Cond
	lanes  [2]workLane
	closed bool
}

type workLane struct{ first, last *Replica }

const (
	localLane = iota
	storeLane
)

func (q *workQueue) init() { q.cond = sync.NewCond(&q.mu) }

func (q *workQueue) push(r *Replica) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || r.work.queued {
		return
	}
	lane := &q.lanes[localLane]
	if r.needsStore() {
		lane = &q.lanes[storeLane]
	}
	r.work.queued, r.work.next = true, nil
	if lane.last == nil {
		lane.first = r
	} else {
		lane.last.work.next = r
	}
	lane.last = r
	q.cond.Broadcast() // a worker that is woken may serve the other lane alone
}

// pop waits for a replica in the lanes up to most; nil when the queue is closed.
func (q *workQueue) pop(most int) *Replica {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.closed {
		for i := range q.lanes[:most+1] {
			lane := &q.lanes[i]
			r := lane.first
			if r == nil {
				continue
			}
			if lane.first = r.work.next; lane.first == nil {
				lane.last = nil
			}
			r.work.queued, r.work.next = false, nil
			return r
		}
		q.cond.Wait()
	}
	return nil
}

func (q *workQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.cond.Broadcast()
}

// needsStore tells whether work on the replica may wait for the bucket.
func (r *Replica) needsStore() bool {
	if r.cold == nil {
		return false
	}
	conf := r.conf.Load()
	return conf != nil && conf.Tiered || r.tierEnd.Load() > 0
}

// workState is what the workers keep of a replica. One goroutine at a time does its upload,
// retention and deletion (design 8.2).
type workState struct {
	queued bool     // guarded by workQueue.mu
	next   *Replica // guarded by workQueue.mu

	running sync.Mutex // held by the worker at work

	mu        sync.Mutex
	cancel    context.CancelFunc // of the work at hand
	stopped   bool
	failures  int
	notBefore time.Time
	status    WorkStatus
	retention time.Time // when retention last ran
}

// WorkStatus explains what the workers do for a partition (varve tier explain).
type WorkStatus struct {
	Doing     string    // "", "upload", "retention"
	Since     time.Time // of Doing
	LastError string
	ErrorAt   time.Time
	RetryAt   time.Time
	UploadAt  time.Time // the last upload that was committed
}

func (w *workState) stop() {
	w.mu.Lock()
	w.stopped = true
	if w.cancel != nil {
		w.cancel()
	}
	w.mu.Unlock()
	w.running.Lock() // wait until the worker has let go
	//lint:ignore SA2001 the empty section is the wait
	w.running.Unlock()
}

func (w *workState) begin(ctx context.Context, now time.Time) (context.Context, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped || now.Before(w.notBefore) {
		return nil, false
	}
	ctx, w.cancel = context.WithCancel(ctx)
	return ctx, true
}

const (
	retryFirst = 500 * time.Millisecond
	retryMost  = 30 * time.Second // a bucket that comes back is used within half a minute
)

func (w *workState) end(err error, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancel()
	w.cancel = nil
	w.status.Doing = ""
	if err == nil {
		w.failures, w.notBefore = 0, time.Time{}
		w.status.LastError, w.status.RetryAt = "", time.Time{}
		return
	}
	wait := min(retryFirst<<min(w.failures, 10), retryMost)
	w.failures++
	w.notBefore = now.Add(wait)
	w.status.LastError, w.status.ErrorAt, w.status.RetryAt = err.Error(), now, w.notBefore
}

func (w *workState) doing(what string, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status.Doing, w.status.Since = what, now
}

// Status returns what the workers do for this partition.
func (r *Replica) Status() WorkStatus {
	r.work.mu.Lock()
	defer r.work.mu.Unlock()
	return r.work.status
}

// Kick queues a replica for the workers.
func (s *Set) Kick(r *Replica) { s.queue.push(r) }

func (s *Set) workLoop(lanes int) {
	for r := s.queue.pop(lanes); r != nil; r = s.queue.pop(lanes) {
		s.workOn(r)
	}
}

func (s *Set) workOn(r *Replica) {
	if !r.work.running.TryLock() {
		return // another worker has it and looks again at its end
	}
	defer r.work.running.Unlock()
	now := s.cfg.Now()
	ctx, ok := r.work.begin(s.ctx, now)
	if !ok {
		return
	}
	err := r.doWork(ctx, &s.clock, s.cfg.RetentionEvery)
	if errors.Is(err, context.Canceled) || errors.Is(err, ErrNotLeader) || errors.Is(err, ErrStopped) {
		err = nil // not a fault: the role or the broker ended
	}
	r.work.end(err, s.cfg.Now())
	if err != nil {
		s.cfg.Log.Warn("tiering or retention failed, will be tried again", "partition", r.ID().String(), "err", err)
	}
}

// tickLoop queues what has work; it opens no log that is not open, but for a retention run.
func (s *Set) tickLoop() {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	began := time.Now() // for its monotonic reading alone
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
		}
		now := s.cfg.Now()
		s.clock.look(now, time.Since(began), s.cfg.Log)
		s.Each(func(r *Replica) {
			if r.due(now, s.cfg.RetentionEvery) {
				s.Kick(r)
			}
		})
	}
}

// savedState remembers what the last checkpoint was taken at.
type savedState struct {
	mu             sync.Mutex
	hw, end, start int64
	any            bool
}

func (s *savedState) changed(hw, end, start int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.any && s.hw == hw && s.end == end && s.start == start {
		return false
	}
	s.hw, s.end, s.start, s.any = hw, end, start, true
	return true
}
