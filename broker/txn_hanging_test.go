package broker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"varve/broker/internal/vfs"
	"varve/broker/partition"
	"varve/broker/txn"
)

// TestTransactionThatNobodyKnowsIsAborted leaves two transactions open: one that the coordinator
// knows, and one that it does not, as after an unclean election of its log. Once they are older than
// any may be, the second one is aborted and the first one is left alone.
func TestTransactionThatNobodyKnowsIsAborted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	w := openTxnWorld(t, vfs.NewMem(), 1)
	defer w.close()
	p, err := retrying(ctx, func() (txn.Producer, error) {
		return w.c.InitProducerID(ctx, txn.InitRequest{Producer: txn.Producer{TxnID: "known", ID: -1, Epoch: -1}, TimeoutMS: 3_600_000})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.produce(ctx, p, 0, 0, "known", txn.V2); err != nil {
		t.Fatal(err)
	}
	stranger := txn.Producer{TxnID: "unknown", ID: 77, Epoch: 0}
	for part := range int32(txnTestPartitions) {
		guard, _, err := w.replica(part).BeginVerification(stranger.ID, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.appendClient(ctx, w.replica(part), stranger, guard, 0, "unknown"); err != nil {
			t.Fatal(err)
		}
	}
	b := &Broker{cfg: DefaultConfig(), set: w.set, log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	b.txn.coordinator = w.c

	b.endHanging(ctx, time.Now())
	if l, _ := w.replica(1).Log(); l.LEO() != 1 {
		t.Fatal("a young transaction was aborted")
	}
	b.endHanging(ctx, time.Now().Add(b.cfg.TransactionMaxTimeout+time.Minute))
	if got := w.replica(1).Bounds(); got.LSO != 2 || len(w.committed(1)) != 0 {
		t.Fatalf("partition 1: %+v, consumers see %v", got, w.committed(1))
	}
	if got := w.replica(0).Bounds(); got.LSO != 0 {
		t.Fatalf("partition 0: the known transaction does not hold LSO any more: %+v", got)
	}
	// While a coordinator cannot be asked, nothing is decided.
	w.c.Runtime().Apply(1, nil)
	if _, err := w.c.Knows(ctx, 77, txn.Partition{Topic: "t"}); err == nil || errors.Is(err, ctx.Err()) {
		t.Fatalf("a coordinator that is not here answers %v", err)
	}
}

// TestDeletedPartitionNeedsNoMarker deletes the topic of an open transaction: its end must not wait
// for partitions that are gone.
func TestDeletedPartitionNeedsNoMarker(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	w := openTxnWorld(t, vfs.NewMem(), 1)
	defer w.close()
	begin := txn.InitRequest{Producer: txn.Producer{TxnID: "x", ID: -1, Epoch: -1}, TimeoutMS: 60_000}
	p, err := retrying(ctx, func() (txn.Producer, error) { return w.c.InitProducerID(ctx, begin) })
	if err != nil {
		t.Fatal(err)
	}
	if err := w.produce(ctx, p, 0, 0, "v", txn.V2); err != nil {
		t.Fatal(err)
	}
	for _, r := range w.set.Apply(nil, [][16]byte{{1}}) {
		if err := r.Stop(true); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.c.End(ctx, txn.EndRequest{Producer: p, Commit: true, Version: txn.V2}); err != nil {
		t.Fatal(err)
	}
	if _, err := retrying(ctx, func() (txn.Producer, error) { return w.c.InitProducerID(ctx, begin) }); err != nil {
		t.Fatalf("the transaction does not end: %v", err)
	}
}

// TestLateBatchOfAnEndedTransactionIsRefused is the race that KIP-890 closes: a batch is verified, its
// transaction is aborted by a new producer, and only then is the batch appended.
func TestLateBatchOfAnEndedTransactionIsRefused(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	w := openTxnWorld(t, vfs.NewMem(), 1)
	defer w.close()
	begin := txn.InitRequest{Producer: txn.Producer{TxnID: "x", ID: -1, Epoch: -1}, TimeoutMS: 60_000}
	p, err := retrying(ctx, func() (txn.Producer, error) { return w.c.InitProducerID(ctx, begin) })
	if err != nil {
		t.Fatal(err)
	}
	r := w.replica(0)
	guard, needed, err := r.BeginVerification(p.ID, p.Epoch, 0)
	if err != nil || !needed {
		t.Fatalf("needed %v, %v", needed, err)
	}
	if err := w.c.AddPartitions(ctx, p, []txn.Partition{{Topic: "t", Partition: 0}}, txn.V1); err != nil {
		t.Fatal(err)
	}
	if _, err := retrying(ctx, func() (txn.Producer, error) { return w.c.InitProducerID(ctx, begin) }); err != nil {
		t.Fatal(err)
	}
	err = w.appendClient(ctx, r, p, guard, 0, "late")
	if !errors.Is(err, partition.ErrInvalidTxnState) && !errors.Is(err, partition.ErrInvalidProducerEpoch) {
		t.Fatalf("a late batch got %v", err)
	}
	if err := w.awaitStable(); err != nil {
		t.Fatal(err)
	}
}
