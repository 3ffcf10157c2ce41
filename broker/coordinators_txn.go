package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"varve/broker/coord"
	"varve/broker/meta"
	"varve/broker/partition"
	"varve/broker/txn"
)

// offsetsTopic is the internal topic whose partitions belong to group coordinators.
const offsetsTopic = "__consumer_offsets"

// transactions is what the broker has of the transaction coordinator.
type transactions struct {
	coordinator *txn.Coordinator
	markers     *markers

	mu    sync.Mutex // one change of what is led at a time
	ready bool
}

// openTransactions makes the transaction coordinator. Which transactional ids it serves follows from
// the partitions of __transaction_state that this broker leads.
func (b *Broker) openTransactions(context.Context) error {
	t := &b.txn
	t.markers = &markers{set: b.set, groups: b.groups}
	t.coordinator = txn.NewCoordinator(txn.Config{
		Markers:       t.markers,
		NewProducerID: func() (int64, error) { return b.api.ProducerID() }, // asked by requests alone
		MaxTimeout:    func() time.Duration { return b.cfg.TransactionMaxTimeout },
		Expiration:    func() time.Duration { return b.cfg.TransactionalIDExpiration },
	}, nil, b.log)
	b.onClose("transaction coordinator", func(ctx context.Context) error {
		return errors.Join(t.coordinator.Close(ctx), t.markers.close(ctx))
	})
	t.mu.Lock()
	t.ready = true
	t.mu.Unlock()
	t.apply(b.set)
	b.task(b.hangingLoop)
	return nil
}

// apply tells the coordinator what the broker leads now.
func (t *transactions) apply(set *partition.Set) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ready {
		applyLed(t.coordinator.Runtime(), set, txn.Topic)
	}
}

// applyLed gives a runtime the replicas of its topic that this broker leads.
func applyLed(rt *coord.Runtime, set *partition.Set, topic string) {
	t := set.ByName(topic)
	if t == nil {
		rt.Apply(0, nil)
		return
	}
	led := t.Partitions()
	led = slices.DeleteFunc(led, func(r *partition.Replica) bool { return !r.IsLeader() })
	rt.Apply(t.Count(), led)
}

// markers brings transaction markers to the partitions of this broker.
type markers struct {
	set    *partition.Set
	groups *coord.Runtime // its shards write their partitions themselves
	// opening counts the goroutines that append to a log which is not open yet: opening one may take a
	// while, and may read from the bucket, for which no shard waits.
	opening sync.WaitGroup
}

// close waits for the appends to logs that are being opened.
func (w *markers) close(ctx context.Context) error {
	done := make(chan struct{})
	go func() { w.opening.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("transaction markers under way: %w", ctx.Err())
	}
}

// Write implements txn.Markers.
func (w *markers) Write(list []txn.Marker, done func(i int, err error)) {
	for i := range list {
		w.write(&list[i], func(err error) { done(i, err) })
	}
}

func (w *markers) write(m *txn.Marker, done func(error)) {
	topic := w.set.ByName(m.Partition.Topic)
	switch {
	case topic == nil || topic.Partition(m.Partition.Partition) == nil:
		done(fmt.Errorf("%w: %w", txn.ErrGone, meta.ErrUnknownPartition))
	case m.Partition.Topic == txn.Topic:
		done(fmt.Errorf("%w: %w", txn.ErrGone, meta.ErrInvalidTopicName))
	case m.Partition.Topic == offsetsTopic:
		w.groups.StartMarker(m.Partition.Partition, m.Marker, func(err error) { done(markerError(err)) })
	default:
		rep, out := topic.Partition(m.Partition.Partition), partition.Marker{
			ProducerID: m.ProducerID, ProducerEpoch: m.ProducerEpoch, CoordinatorEpoch: m.CoordinatorEpoch,
			Commit: m.Commit, Bumped: m.Bumped,
		}
		write := func() { appendMarker(rep, out, func(err error) { done(markerError(err)) }) }
		if rep.IsOpen() {
			write()
			return
		}
		w.opening.Go(write)
	}
}

// markerError marks what no later try can change: the partition knows a newer epoch of the producer
// or of its coordinator, so what this marker would end has ended.
func markerError(err error) error {
	if errors.Is(err, partition.ErrInvalidProducerEpoch) || errors.Is(err, partition.ErrCoordinatorFenced) {
		return fmt.Errorf("%w: %w", txn.ErrGone, err)
	}
	return err
}

// markerAck waits for HW to cover one marker.
type markerAck struct {
	ack  partition.Ack
	done func(error)
}

// Acked implements partition.AckOwner.
func (a *markerAck) Acked(_ *partition.Ack, err error) { a.done(err) }

// appendMarker calls done when the marker is committed, or with why it is not.
func appendMarker(rep *partition.Replica, m partition.Marker, done func(error)) {
	a := &markerAck{done: done}
	a.ack.Owner = a
	parked, err := rep.AppendMarker(m, &a.ack)
	if !parked {
		done(err)
	}
}

// hangingEvery is how often partitions are looked through for transactions that nobody will end. One
// can only be found once it is older than transaction.max.timeout.ms, so a minute more is little.
const hangingEvery = time.Minute

// hangingLoop ends transactions that their coordinator does not know (design 9).
func (b *Broker) hangingLoop(ctx context.Context) {
	t := time.NewTicker(hangingEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			b.endHanging(ctx, time.Now())
		}
	}
}

// endHanging asks the coordinator about every transaction that is older than any may be, and aborts
// those that it does not know. It stops at the first question that cannot be answered now.
func (b *Broker) endHanging(ctx context.Context, now time.Time) {
	before := now.Add(-b.cfg.TransactionMaxTimeout)
	b.set.Each(func(rep *partition.Replica) {
		for _, open := range rep.OpenTransactions(before) {
			if ctx.Err() != nil {
				return
			}
			if err := b.endIfUnknown(ctx, rep, open); err != nil {
				b.log.Warn("transaction without an end", "partition", rep.ID().String(), "producer_id", open.ID,
					"first_offset", open.TxnFirst, "err", err)
			}
		}
	})
}

func (b *Broker) endIfUnknown(ctx context.Context, rep *partition.Replica, open partition.ProducerState) error {
	id := rep.ID()
	known, err := b.txn.coordinator.Knows(ctx, open.ID, txn.Partition{Topic: id.Topic, Partition: id.Partition})
	if err != nil || known {
		return err
	}
	if id.Topic == offsetsTopic {
		return b.groups.WriteMarker(ctx, id.Partition, coord.Marker{
			ProducerID: open.ID, ProducerEpoch: open.Epoch, CoordinatorEpoch: max(open.CoordinatorEpoch, 0),
		})
	}
	b.log.Warn("aborting a transaction that its coordinator does not know", "partition", id.String(),
		"producer_id", open.ID, "epoch", open.Epoch, "first_offset", open.TxnFirst)
	result := make(chan error, 1)
	appendMarker(rep, partition.Marker{
		ProducerID: open.ID, ProducerEpoch: open.Epoch, CoordinatorEpoch: max(open.CoordinatorEpoch, 0),
		Hanging: true, First: open.TxnFirst,
	}, func(err error) { result <- err })
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
