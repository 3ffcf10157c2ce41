package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"varve/broker/internal/vfs"
	"varve/broker/txn"
)

// crashPoint is the disk as a power cut leaves it after one sync, and what producers knew then.
type crashPoint struct {
	name string
	disk *vfs.Mem
	told map[string]string
}

// runTransactions has one producer of each version run transactions over both partitions, some
// aborted, and fenced in between.
func runTransactions(ctx context.Context, w *txnWorld, o *outcomes) error {
	for _, v := range []txn.Version{txn.V1, txn.V2} {
		id := fmt.Sprintf("id%d", v)
		p, err := retrying(ctx, func() (txn.Producer, error) {
			return w.c.InitProducerID(ctx, txn.InitRequest{Producer: txn.Producer{TxnID: id, ID: -1, Epoch: -1}, TimeoutMS: 60_000})
		})
		if err != nil {
			return err
		}
		seq := [txnTestPartitions]int32{}
		for n := range 3 {
			name := fmt.Sprintf("%s-%d", id, n)
			for part := range int32(txnTestPartitions) {
				if err := w.produce(ctx, p, part, seq[part], name, v); err != nil {
					return fmt.Errorf("produce %s: %w", name, err)
				}
				seq[part]++
			}
			end := txn.EndRequest{Producer: p, Commit: n != 1, Version: v}
			o.note(o.asked, name, end.Commit)
			next, err := retrying(ctx, func() (txn.Producer, error) { return w.c.End(ctx, end) })
			if err != nil {
				return fmt.Errorf("end %s: %w", name, err)
			}
			o.note(o.told, name, end.Commit)
			if next.Epoch != p.Epoch {
				seq = [txnTestPartitions]int32{}
			}
			p = next
		}
	}
	return nil
}

func (o *outcomes) note(m map[string]string, name string, commit bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m[name] = "abort"
	if commit {
		m[name] = "commit"
	}
}

// TestEveryTransactionEndsAfterACrashAtAnyStep cuts the power after every sync of a run of
// transactions. From each of these disks a new coordinator must end everything: LSO reaches the end of
// the log, what producers were told holds, and every transaction is there in whole or not at all.
func TestEveryTransactionEndsAfterACrashAtAnyStep(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for _, points := range [][]crashPoint{crashPoints(ctx, t, nil), crashPoints(ctx, t, rand.New(rand.NewPCG(9, 8)))} {
		if len(points) < 20 {
			t.Fatalf("only %d syncs", len(points))
		}
		for i, c := range points {
			if err := endsWell(ctx, t, c); err != nil {
				t.Errorf("power cut after sync %d, %s: %v", i, c.name, err)
			}
		}
	}
}

func crashPoints(ctx context.Context, t *testing.T, rng *rand.Rand) (points []crashPoint) {
	disk := vfs.NewMem()
	if err := errors.Join(disk.MkdirAll("data/topics"), disk.SyncDir("data"), disk.SyncDir(".")); err != nil {
		t.Fatal(err)
	}
	o := &outcomes{asked: map[string]string{}, told: map[string]string{}}
	var mu sync.Mutex
	disk.OnSync(func(op, name string) {
		mu.Lock()
		defer mu.Unlock()
		o.mu.Lock() // before the copy: what is told now is on the disk
		told := maps.Clone(o.told)
		o.mu.Unlock()
		points = append(points, crashPoint{op + " " + name, disk.CrashClone(rng), told})
	})
	w := openTxnWorld(t, disk, 1)
	err := runTransactions(ctx, w, o)
	disk.OnSync(nil)
	w.close()
	if err != nil {
		t.Fatal(err)
	}
	return points
}

func endsWell(ctx context.Context, t *testing.T, c crashPoint) error {
	w := openTxnWorld(t, c.disk, 2)
	defer w.close()
	w.shift.Store(int64(2 * time.Minute)) // what was open is over time now
	for _, id := range []string{"id0", "id2"} {
		// An answer means that the transaction before is finished. The id may never have been kept.
		_, err := retrying(ctx, func() (txn.Producer, error) {
			return w.c.InitProducerID(ctx, txn.InitRequest{Producer: txn.Producer{TxnID: id, ID: -1, Epoch: -1}, TimeoutMS: 60_000})
		})
		if err != nil {
			return fmt.Errorf("%s is not usable again: %w", id, err)
		}
	}
	if err := w.awaitStable(); err != nil {
		return err
	}
	seen := map[string]int{}
	for p := range int32(txnTestPartitions) {
		for _, v := range w.committed(p) {
			seen[v]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		if seen[name] != txnTestPartitions {
			return fmt.Errorf("transaction %s is in %d of %d partitions", name, seen[name], txnTestPartitions)
		}
	}
	for name, what := range c.told {
		if (what == "commit") != (seen[name] > 0) {
			return fmt.Errorf("transaction %s: producer was told %s, consumers see %d records", name, what, seen[name])
		}
	}
	return nil
}
