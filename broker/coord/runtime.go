package coord

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"varve/broker/partition"
)

// Runtime runs the shards of one internal topic on this broker. Each has one goroutine, which Apply
// starts and Close, or the next Apply, ends.
type Runtime struct {
	cfg        Config
	partitions atomic.Int32
	loads      chan struct{} // a place each for the shards that load at a time
	done       sync.WaitGroup

	mu struct {
		sync.RWMutex
		closed bool
		shards map[int32]*shard
	}
}

// New makes a Runtime that leads nothing yet.
func New(cfg Config) *Runtime {
	cfg = cfg.withDefaults()
	rt := &Runtime{cfg: cfg, loads: make(chan struct{}, cfg.ReplayParallel)}
	rt.mu.shards = map[int32]*shard{}
	return rt
}

// Apply says how many partitions the topic has (0: there is none) and which of them this broker
// leads. It starts the loads of new epochs and stops what is lost; it does no I/O and does not wait.
func (rt *Runtime) Apply(partitions int32, led []*partition.Replica) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.mu.closed {
		return
	}
	rt.partitions.Store(partitions)
	keep := make(map[int32]*shard, len(led))
	for _, r := range led {
		epoch, p := r.LeaderEpoch(), r.ID().Partition
		if epoch < 0 {
			continue
		}
		if s := rt.mu.shards[p]; s != nil && s.replica == r && s.epoch == epoch {
			keep[p] = s
			continue
		}
		s := newShard(rt, p, r, epoch)
		keep[p] = s
		rt.done.Go(s.run)
	}
	for p, s := range rt.mu.shards {
		if keep[p] != s {
			s.halt()
		}
	}
	rt.mu.shards = keep
}

func (rt *Runtime) shard(partition int32) *shard {
	rt.mu.RLock()
	defer rt.mu.RUnlock()
	return rt.mu.shards[partition]
}

// Do gives an event to the shard of a partition and returns at once. If it returns nil, exactly one
// of event and dropped is called later: dropped with ErrNotCoordinator if the shard is lost before
// the event's turn. Neither is called if Do returns an error: ErrNotCoordinator, ErrLoading,
// ErrOverloaded.
func (rt *Runtime) Do(partition int32, event Event, dropped func(error)) error {
	return rt.queue(partition, item{event: event, dropped: dropped})
}

func (rt *Runtime) queue(partition int32, it item) error {
	s := rt.shard(partition)
	if s == nil {
		return ErrNotCoordinator
	}
	return s.queue(it)
}

// Call is Do for a caller that waits: it returns what the Step's Then got (which is called too). An
// error of ctx is an unknown outcome.
func (rt *Runtime) Call(ctx context.Context, partition int32, event Event) error {
	result := make(chan error, 1)
	err := rt.Do(partition, func(m Machine, now time.Time) Step {
		step := event(m, now)
		then := step.Then
		step.Then = func(err error) {
			if then != nil {
				then(err)
			}
			result <- err
		}
		return step
	}, func(err error) { result <- err })
	if err != nil {
		return err
	}
	return await(ctx, result)
}

// WriteMarker ends a producer's transaction in a partition, ordered with the shard's other events,
// and returns when the marker is committed. Errors: those of Do, partition.ErrInvalidProducerEpoch
// and partition.ErrCoordinatorFenced from the log, and ctx's, which is an unknown outcome.
func (rt *Runtime) WriteMarker(ctx context.Context, partition int32, m Marker) error {
	result := make(chan error, 1)
	done := func(err error) { result <- err }
	if err := rt.queue(partition, item{marker: &m, dropped: done}); err != nil {
		return err
	}
	return await(ctx, result)
}

// StartMarker is WriteMarker that does not wait: done is called once, with what WriteMarker returns.
func (rt *Runtime) StartMarker(partition int32, m Marker, done func(error)) {
	if err := rt.queue(partition, item{marker: &m, dropped: done}); err != nil {
		done(err)
	}
}

func await(ctx context.Context, result <-chan error) error {
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the coordinator: %w", ctx.Err())
	}
}

// Each gives an event to every shard that is led here. As with Do, dropped is called instead for a
// shard that cannot take it, one that loads for example.
func (rt *Runtime) Each(event func(partition int32) Event, dropped func(partition int32, err error)) {
	rt.mu.RLock()
	shards := make([]*shard, 0, len(rt.mu.shards))
	for _, s := range rt.mu.shards {
		shards = append(shards, s)
	}
	rt.mu.RUnlock()
	for _, s := range shards {
		gone := func(err error) { dropped(s.partition, err) }
		if err := s.queue(item{event: event(s.partition), dropped: gone}); err != nil {
			gone(err)
		}
	}
}

// Partitions is the number of partitions of the topic, 0 while there is none.
func (rt *Runtime) Partitions() int32 { return rt.partitions.Load() }

// Led lists the partitions that this broker leads.
func (rt *Runtime) Led() []int32 {
	rt.mu.RLock()
	defer rt.mu.RUnlock()
	out := make([]int32, 0, len(rt.mu.shards))
	for p := range rt.mu.shards {
		out = append(out, p)
	}
	return out
}

// PartitionFor is the partition that coordinates a group or transactional id, as every broker and
// tool computes it; -1 while there is no topic.
func (rt *Runtime) PartitionFor(key string) int32 {
	n := rt.partitions.Load()
	if n <= 0 {
		return -1
	}
	return PartitionOf(key, n)
}

// Close stops every shard and waits for them.
func (rt *Runtime) Close(ctx context.Context) error {
	rt.mu.Lock()
	rt.mu.closed = true
	for _, s := range rt.mu.shards {
		s.halt()
	}
	rt.mu.shards = map[int32]*shard{}
	rt.mu.Unlock()
	done := make(chan struct{})
	go func() { rt.done.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close coordinator of %s: %w", rt.cfg.Topic, ctx.Err())
	}
}
