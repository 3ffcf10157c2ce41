package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"varve/broker/coord"
)

// Coordinator serves the transactional ids whose partition of __transaction_state this broker leads.
type Coordinator struct {
	cfg Config
	rt  *coord.Runtime
	log *slog.Logger
}

// NewCoordinator makes a Coordinator that leads nothing yet; its Runtime is told what it leads.
func NewCoordinator(cfg Config, now func() time.Time, log *slog.Logger) *Coordinator {
	if log == nil {
		log = slog.Default()
	}
	c := &Coordinator{cfg: cfg, log: log}
	c.rt = coord.New(coord.Config{Topic: Topic, New: func(p int32) coord.Machine { return c.machine(p) }, Now: now, Log: log})
	return c
}

func (c *Coordinator) machine(p int32) *Machine {
	return &Machine{
		cfg: c.cfg, partition: p, log: c.log, send: c.send, requeue: c.requeue,
		txns: map[string]*txn{}, byID: map[int64]*txn{},
	}
}

// Close stops every shard and waits for them.
func (c *Coordinator) Close(ctx context.Context) error { return c.rt.Close(ctx) }

// PartitionFor is the partition that coordinates a transactional id, -1 while there is no topic.
func (c *Coordinator) PartitionFor(id string) int32 { return c.rt.PartitionFor(id) }

// Runtime is what runs the shards.
func (c *Coordinator) Runtime() *coord.Runtime { return c.rt }

// send gives markers to Markers, and brings what became of all of them back to the shard. A shard
// that was loaded anew meanwhile has sent them again itself.
func (c *Coordinator) send(from *Machine, id string, markers []Marker) {
	errs := make([]error, len(markers))
	var mu sync.Mutex
	open := len(markers)
	c.cfg.Markers.Write(markers, func(i int, err error) {
		if errors.Is(err, ErrGone) {
			c.log.Info("transaction marker not needed", "transactional_id", id, "topic", markers[i].Partition.Topic,
				"partition", markers[i].Partition.Partition, "cause", err)
			err = nil
		}
		mu.Lock()
		errs[i] = err
		open--
		last := open == 0
		mu.Unlock()
		if last {
			c.deliver(from, id, markers, errs)
		}
	})
}

func (c *Coordinator) deliver(from *Machine, id string, markers []Marker, errs []error) {
	err := c.rt.Do(from.partition, func(m coord.Machine, now time.Time) coord.Step {
		if m != coord.Machine(from) {
			return coord.Step{}
		}
		return from.markersDone(id, markers, errs, now)
	}, func(error) {})
	if errors.Is(err, coord.ErrOverloaded) {
		time.AfterFunc(retryMarkers, func() { c.deliver(from, id, markers, errs) })
	}
}

func (c *Coordinator) requeue(p int32, w waiter) {
	if err := c.rt.Do(p, w.retry, w.refuse); err != nil {
		w.refuse(err)
	}
}

// shard is the partition of a transactional id.
func (c *Coordinator) shard(id string) (int32, error) {
	if id == "" {
		return 0, ErrNoID
	}
	p := c.rt.PartitionFor(id)
	if p < 0 {
		return 0, coord.ErrNotCoordinator
	}
	return p, nil
}

// result is what an event answers with.
type result[T any] struct {
	value T
	err   error
}

// ask queues an event at the shard of a transactional id and waits for its reply, which comes
// exactly once. What ctx ends is an unknown outcome.
func ask[T any](ctx context.Context, c *Coordinator, id string, event func(m *Machine, now time.Time, reply func(T, error)) coord.Step) (T, error) {
	var none T
	p, err := c.shard(id)
	if err != nil {
		return none, err
	}
	answers := make(chan result[T], 1)
	reply := func(v T, err error) { answers <- result[T]{v, err} }
	err = c.rt.Do(p, func(m coord.Machine, now time.Time) coord.Step {
		return event(m.(*Machine), now, reply)
	}, func(err error) { reply(none, err) })
	if err != nil {
		return none, err
	}
	select {
	case r := <-answers:
		return r.value, r.err
	case <-ctx.Done():
		return none, fmt.Errorf("wait for the transaction coordinator: %w", ctx.Err())
	}
}

// withSpare runs a request that may need a new producer id, which is got only then.
func (c *Coordinator) withSpare(do func(spare int64) (Producer, error)) (Producer, error) {
	p, err := do(noID)
	if !errors.Is(err, errNeedID) {
		return p, err
	}
	spare, err := c.cfg.NewProducerID()
	if err != nil {
		return Producer{}, err
	}
	return do(spare)
}

// InitProducerID gives a producer its id and epoch, and ends every older producer of the
// transactional id.
func (c *Coordinator) InitProducerID(ctx context.Context, req InitRequest) (Producer, error) {
	if timeout := time.Duration(req.TimeoutMS) * time.Millisecond; req.TxnID != "" && (timeout <= 0 || timeout > c.cfg.MaxTimeout()) {
		return Producer{}, ErrTimeout
	}
	return c.withSpare(func(spare int64) (Producer, error) {
		return ask(ctx, c, req.TxnID, func(m *Machine, now time.Time, reply func(Producer, error)) coord.Step {
			return m.initProducer(req, spare, now, reply)
		})
	})
}

// AddPartitions makes partitions part of the producer's transaction.
func (c *Coordinator) AddPartitions(ctx context.Context, p Producer, parts []Partition, v Version) error {
	_, err := ask(ctx, c, p.TxnID, func(m *Machine, now time.Time, reply func(struct{}, error)) coord.Step {
		return m.addPartitions(p, parts, v, now, func(err error) { reply(struct{}{}, err) })
	})
	return err
}

// Verify tells for each partition whether it is part of the producer's open transaction.
func (c *Coordinator) Verify(ctx context.Context, p Producer, parts []Partition) ([]error, error) {
	return ask(ctx, c, p.TxnID, func(m *Machine, _ time.Time, reply func([]error, error)) coord.Step {
		return m.verify(p, parts, reply)
	})
}

// End commits or aborts. The answer is what the producer goes on with; for V1 that is what it has.
func (c *Coordinator) End(ctx context.Context, req EndRequest) (Producer, error) {
	return c.withSpare(func(spare int64) (Producer, error) {
		return ask(ctx, c, req.TxnID, func(m *Machine, now time.Time, reply func(Producer, error)) coord.Step {
			return m.end(req, spare, now, reply)
		})
	})
}

// Describe tells what is known of a transactional id.
func (c *Coordinator) Describe(ctx context.Context, id string) (Description, error) {
	return ask(ctx, c, id, func(m *Machine, _ time.Time, reply func(Description, error)) coord.Step {
		t := m.txns[id]
		if t == nil {
			return answer(func(err error) { reply(Description{}, err) }, ErrNotFound)
		}
		d := t.describe()
		return coord.Step{Then: func(err error) { reply(d, err) }}
	})
}

// List lists the transactions of the shards that are led here. A shard that cannot answer makes it
// an error.
func (c *Coordinator) List(ctx context.Context, f Filter) ([]Description, error) {
	var out []Description
	err := c.each(ctx, func(m *Machine, now time.Time) func() {
		part := m.list(f, now)
		return func() { out = append(out, part...) }
	})
	return out, err
}

// Knows tells whether any shard has a transaction of the producer id with this partition that is
// not finished. It answers false only when every partition of the topic has said so.
func (c *Coordinator) Knows(ctx context.Context, producerID int64, p Partition) (bool, error) {
	if len(c.rt.Led()) < int(c.rt.Partitions()) {
		return false, coord.ErrNotCoordinator
	}
	known := false
	err := c.each(ctx, func(m *Machine, _ time.Time) func() {
		k := m.knows(producerID, p)
		return func() { known = known || k }
	})
	return known, err
}

// each runs read on every shard and its result here, one at a time.
func (c *Coordinator) each(ctx context.Context, read func(m *Machine, now time.Time) func()) error {
	shards := c.rt.Led()
	answers := make(chan result[func()], len(shards))
	for _, p := range shards {
		err := c.rt.Do(p, func(m coord.Machine, now time.Time) coord.Step {
			take := read(m.(*Machine), now)
			return coord.Step{Then: func(err error) { answers <- result[func()]{take, err} }}
		}, func(err error) { answers <- result[func()]{nil, err} })
		if err != nil {
			return err
		}
	}
	for range shards {
		select {
		case r := <-answers:
			if r.err != nil {
				return r.err
			}
			r.value()
		case <-ctx.Done():
			return fmt.Errorf("ask the transaction coordinator: %w", ctx.Err())
		}
	}
	return nil
}
