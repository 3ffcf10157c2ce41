package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"varve/broker/commitlog"
	"varve/broker/coord"
	"varve/broker/internal/vfs"
	"varve/broker/partition"
	"varve/broker/record"
	"varve/broker/txn"
)

// txnWorld is a broker's worth of transactions over a memory disk: the real logs, replicas,
// coordinator and markers, without metadata, network or store. Topics are "t" with two partitions
// and __transaction_state with one.
type txnWorld struct {
	t     *testing.T
	fs    *vfs.Mem
	env   *commitlog.Env
	set   *partition.Set
	c     *txn.Coordinator
	epoch int32
	shift atomic.Int64 // what the clock is ahead
	ids   atomic.Int64
}

const txnTestPartitions = 2

func openTxnWorld(t *testing.T, fs *vfs.Mem, epoch int32) *txnWorld {
	t.Helper()
	w := &txnWorld{t: t, fs: fs, epoch: epoch}
	w.ids.Store(int64(epoch) * 1000)
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	var err error
	w.env, err = commitlog.NewEnv(commitlog.EnvConfig{FS: fs, Dir: "data", Log: quiet, Fatal: func(error) {}})
	if err != nil {
		t.Fatal(err)
	}
	w.set = partition.NewSet(partition.SetConfig{NodeID: 1, Dir: "data/topics", Env: w.env, Log: quiet})
	w.set.Apply([]partition.Update{w.topic("t", 1, txnTestPartitions), w.topic(txn.Topic, 2, 1)}, nil)
	w.c = txn.NewCoordinator(txn.Config{
		Markers:       &markers{set: w.set},
		NewProducerID: func() (int64, error) { return w.ids.Add(1), nil },
		MaxTimeout:    func() time.Duration { return time.Hour }, Expiration: func() time.Duration { return 24 * time.Hour },
	}, w.now, quiet)
	applyLed(w.c.Runtime(), w.set, txn.Topic)
	return w
}

func (w *txnWorld) now() time.Time { return time.Now().Add(time.Duration(w.shift.Load())) }

func (w *txnWorld) topic(name string, id byte, n int32) partition.Update {
	conf := &partition.TopicConfig{
		RetentionAge: -1, RetentionBytes: -1, LocalAge: -1, LocalBytes: -1, MinISR: 1, MaxBatchBytes: 1 << 20,
	}
	return partition.Update{
		Name: name, ID: [16]byte{id}, IDText: name + "-id", Partitions: n,
		Assign: func(int32) (partition.Assignment, bool) {
			return partition.Assignment{Leader: 1, LeaderEpoch: w.epoch, Replicas: 1, ISR: 1, Partitions: n, Config: conf}, true
		},
	}
}

func (w *txnWorld) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := w.c.Close(ctx); err != nil {
		w.t.Error(err)
	}
	_ = w.set.Close() // a disk that died cannot be flushed
	_ = w.env.Close()
}

func (w *txnWorld) replica(p int32) *partition.Replica { return w.set.ByName("t").Partition(p) }

// waker is a reader that waits for a partition to move.
type moveWaiter chan struct{}

func (m moveWaiter) Wake(*partition.Sub, int64) {
	select {
	case m <- struct{}{}:
	default:
	}
}

// awaitStable waits until nothing holds LSO back in any partition.
func (w *txnWorld) awaitStable() error {
	deadline := time.After(20 * time.Second)
	for p := range int32(txnTestPartitions) {
		r := w.replica(p)
		l, err := r.Log()
		if err != nil {
			return err
		}
		moved := make(moveWaiter, 1)
		var sub partition.Sub
		sub.Owner = moved
		r.Subscribe(&sub)
		for r.Bounds().LSO < l.LEO() {
			select {
			case <-moved:
			case <-deadline:
				sub.Unsubscribe()
				return fmt.Errorf("partition %d: LSO %d stays below the log end %d", p, r.Bounds().LSO, l.LEO())
			}
		}
		sub.Unsubscribe()
	}
	return nil
}

// retrying asks the coordinator until it has an answer that is not "later".
func retrying[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	for {
		v, err := ask()
		later := errors.Is(err, txn.ErrConcurrent) || errors.Is(err, coord.ErrLoading) || errors.Is(err, coord.ErrOverloaded)
		if !later || ctx.Err() != nil {
			return v, err
		}
		select { // coordinators load within milliseconds; nothing tells when
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// appendAck waits for an acks=all append.
type appendAck struct {
	ack  partition.Ack
	done chan error
}

func (a *appendAck) Acked(_ *partition.Ack, err error) { a.done <- err }

// produce is what the Produce handler does with one transactional batch of one record, for a
// producer of either version.
func (w *txnWorld) produce(ctx context.Context, p txn.Producer, part, seq int32, value string, v txn.Version) error {
	r := w.replica(part)
	guard, needed, err := r.BeginVerification(p.ID, p.Epoch, seq)
	if err != nil {
		return err
	}
	if needed {
		parts := []txn.Partition{{Topic: "t", Partition: part}}
		_, err := retrying(ctx, func() (int, error) { return 0, w.c.AddPartitions(ctx, p, parts, v) })
		if err != nil {
			return err
		}
	}
	return w.appendClient(ctx, r, p, guard, seq, value)
}

func (w *txnWorld) appendClient(ctx context.Context, r *partition.Replica, p txn.Producer, guard uint64, seq int32, value string) error {
	build := record.NewBuilder(record.None)
	build.SetProducer(p.ID, p.Epoch, seq)
	build.SetTransactional()
	build.Append(record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte(value)})
	b, err := build.Build()
	if err != nil {
		return err
	}
	a := &appendAck{done: make(chan error, 1)}
	a.ack.Owner = a
	_, parked, err := r.AppendClient(b, guard, &a.ack)
	if err != nil || !parked {
		return err
	}
	select {
	case err := <-a.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// committed reads a partition as a read_committed consumer does: up to LSO, without what the
// aborted ranges take away.
func (w *txnWorld) committed(p int32) (values []string) {
	w.t.Helper()
	r := w.replica(p)
	for at := int64(0); ; {
		h, err := r.ReadHot(at, 1<<20, true, true)
		if err != nil {
			w.t.Fatal(err)
		}
		if h.Span == nil {
			return values
		}
		b, err := h.Span.ReadAll(nil)
		at = h.Span.Next
		h.Span.Release()
		if err != nil {
			w.t.Fatal(err)
		}
		values = append(values, readCommitted(w.t, b, h.Aborted)...)
	}
}

// readCommitted is the consumer's side of KIP-98 over one answer of Fetch.
func readCommitted(t *testing.T, b []byte, aborted []partition.AbortedTxn) (values []string) {
	t.Helper()
	skip := map[int64]bool{}
	for len(b) > 0 {
		batch, err := record.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		b = b[batch.Len():]
		// As clients do it: from its first offset on a producer's records are dropped, until its marker.
		for _, a := range aborted {
			if a.First <= batch.LastOffset() && batch.LastOffset() < a.Last && a.ProducerID == batch.ProducerID() {
				skip[a.ProducerID] = true
			}
		}
		if batch.Attributes().Control() {
			delete(skip, batch.ProducerID())
			continue
		}
		if batch.Attributes().Transactional() && skip[batch.ProducerID()] {
			continue
		}
		for rec, err := range batch.Records(1 << 20) {
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, string(rec.Value))
		}
	}
	return values
}

// outcomes is what producers were told, by value of the transaction.
type outcomes struct {
	mu    sync.Mutex
	asked map[string]string // what the producer asked for last: "commit", "abort"
	told  map[string]string // what it was told
}
