package coord

import (
	"sync"
	"sync/atomic"
	"time"

	"varve/broker/partition"
	"varve/broker/record"
)

// state of a shard, as those who queue see it.
type state uint8

const (
	loading state = iota
	active        // events are taken
	stopped
)

// item is one queued event: a marker if that is set.
type item struct {
	event   Event
	marker  *Marker
	dropped func(error)
}

// shard is one partition in one leader epoch.
type shard struct {
	rt        *Runtime
	partition int32
	replica   *partition.Replica
	epoch     int32
	wake      chan struct{} // holds one token: there may be something to do
	stop      chan struct{} // closed by halt

	mu struct {
		sync.Mutex
		state state
		queue []item
	}

	// committed is the end of what HW is known to cover, and lost says that an append's outcome
	// never will be known. Both are set by the replica's callbacks.
	committed atomic.Int64
	lost      atomic.Bool

	// What follows belongs to the shard's goroutine.
	machine Machine
	batch   *record.Builder // records of steps that are not appended yet
	open    []waiter        // of those steps
	parked  []waiter        // of appended ones, in rising order of end
	next    int64           // offset of the next record; the shard is the log's only writer
	failed  bool            // the state holds what the log does not
	taken   []item          // the events being run
	timer   *time.Timer
}

// waiter is a Then that waits until HW reaches end.
type waiter struct {
	end  int64
	then func(error)
}

func newShard(rt *Runtime, p int32, r *partition.Replica, epoch int32) *shard {
	return &shard{
		rt: rt, partition: p, replica: r, epoch: epoch,
		wake: make(chan struct{}, 1), stop: make(chan struct{}),
		batch: record.NewBuilder(record.None),
	}
}

func (s *shard) queue(it item) error {
	s.mu.Lock()
	switch {
	case s.mu.state == loading:
		s.mu.Unlock()
		return ErrLoading
	case s.mu.state == stopped:
		s.mu.Unlock()
		return ErrNotCoordinator
	case len(s.mu.queue) >= s.rt.cfg.MaxQueue:
		s.mu.Unlock()
		return ErrOverloaded
	}
	s.mu.queue = append(s.mu.queue, it)
	first := len(s.mu.queue) == 1
	s.mu.Unlock()
	if first {
		s.notify()
	}
	return nil
}

func (s *shard) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Acked is the replica's answer to an append.
func (s *shard) Acked(a *partition.Ack, err error) {
	if err != nil {
		s.lost.Store(true)
	} else {
		s.raise(a.End)
	}
	s.notify()
}

// Wake is called when HW or the role moves, while a load waits for them.
func (s *shard) Wake(*partition.Sub, int64) { s.notify() }

func (s *shard) raise(end int64) {
	for {
		old := s.committed.Load()
		if end <= old || s.committed.CompareAndSwap(old, end) {
			return
		}
	}
}

// halt ends the shard without waiting for it. New events are refused from now on.
func (s *shard) halt() {
	s.mu.Lock()
	was := s.mu.state
	s.mu.state = stopped
	s.mu.Unlock()
	if was != stopped {
		close(s.stop)
	}
}

func (s *shard) halted() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// run is the shard's goroutine: load and serve until the epoch ends. A shard whose state had to be
// dropped loads anew.
func (s *shard) run() {
	s.timer = time.NewTimer(time.Hour)
	defer s.timer.Stop()
	for !s.halted() {
		if s.load() {
			s.serve()
		}
		if s.halted() || s.replica.LeaderEpoch() != s.epoch {
			break
		}
		s.timer.Reset(reloadAfter)
		select {
		case <-s.stop:
		case <-s.timer.C:
		}
	}
	s.halt()
}

// serve runs events until the shard is stopped or its state has to be dropped.
func (s *shard) serve() {
	s.setState(active)
	s.step(s.machine.Loaded(s.rt.cfg.Now()))
	s.flush()
	for !s.halted() {
		s.runEvents()
		s.tick()
		s.flush()
		s.complete()
		if s.failed || s.lost.Load() {
			break
		}
		if !s.ready() {
			s.wait()
		}
	}
	s.drop()
}

// ready tells whether events can be run. While the disk is far behind they are not, and the queue
// fills up.
func (s *shard) ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.queue) > 0 && len(s.parked) < s.rt.cfg.MaxQueue
}

// runEvents runs what is queued, some of it at most, and what comes while it does: an event that
// another one leads to shares its append.
func (s *shard) runEvents() {
	for left := drainEvents; left > 0 && s.ready() && !s.halted(); {
		left -= s.runSome(left)
	}
}

func (s *shard) runSome(most int) (n int) {
	s.mu.Lock()
	n = min(len(s.mu.queue), most)
	s.taken = append(s.taken[:0], s.mu.queue[:n]...)
	rest := copy(s.mu.queue, s.mu.queue[n:])
	clear(s.mu.queue[rest:])
	s.mu.queue = s.mu.queue[:rest]
	s.mu.Unlock()
	for i, it := range s.taken {
		switch {
		case s.failed:
			it.dropped(ErrNotCoordinator)
		case it.marker != nil:
			s.writeMarker(*it.marker, it.dropped)
		default:
			s.step(it.event(s.machine, s.rt.cfg.Now()))
		}
		s.taken[i] = item{}
	}
	return n
}

func (s *shard) tick() {
	now := s.rt.cfg.Now()
	if at := s.machine.NextTimer(); !s.failed && !at.IsZero() && !at.After(now) {
		s.step(s.machine.Tick(now))
	}
}

// wait sleeps until there may be something to do.
func (s *shard) wait() {
	var due <-chan time.Time
	if at := s.machine.NextTimer(); !at.IsZero() {
		s.timer.Reset(max(at.Sub(s.rt.cfg.Now()), 0))
		due = s.timer.C
	}
	select {
	case <-s.wake:
	case <-s.stop:
	case <-due:
	}
}

func (s *shard) setState(to state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.state != stopped {
		s.mu.state = to
	}
}

// drop ends the state: whoever waits is told that the outcome is not known.
func (s *shard) drop() {
	s.setState(loading)
	s.mu.Lock()
	queue := s.mu.queue
	s.mu.queue = nil
	s.mu.Unlock()
	for _, list := range [][]waiter{s.parked, s.open} {
		for _, w := range list {
			w.then(ErrNotCoordinator)
		}
	}
	for _, it := range queue {
		it.dropped(ErrNotCoordinator)
	}
	s.machine.Stopped()
	s.machine, s.parked, s.open, s.failed = nil, nil, nil, false
	s.batch.Reset()
	s.lost.Store(false)
}
