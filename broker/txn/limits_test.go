package txn

import (
	"errors"
	"fmt"
	"testing"
)

func TestTransactionTakesNoMoreThanMaxPartitions(t *testing.T) {
	b := newBench(t)
	p := Producer{"a", 100, 0}
	b.init(InitRequest{Producer{"a", -1, -1}, 60000}, func(Producer, error) {})
	parts := make([]Partition, maxPartitions)
	for i := range parts {
		parts[i] = Partition{"t", int32(i)}
	}
	b.step(b.m.addPartitions(p, parts, V2, b.now, func(err error) {
		if err != nil {
			t.Errorf("%d partitions: %v", len(parts), err)
		}
	}))
	b.step(b.m.addPartitions(p, []Partition{{"u", 0}}, V2, b.now, func(err error) {
		if !errors.Is(err, ErrTooMany) {
			t.Errorf("one more: %v", err)
		}
	}))
	if n := len(b.m.txns["a"].parts); n != maxPartitions {
		t.Errorf("%d partitions kept", n)
	}
}

func TestShardTakesNoMoreThanMaxIDs(t *testing.T) {
	b := newBench(t)
	for i := range maxIDs {
		id := fmt.Sprint(i)
		b.m.txns[id] = &txn{id: id, slot: -1}
	}
	answered := false
	b.step(b.m.initProducer(InitRequest{Producer{"new", -1, -1}, 1000}, 5, b.now, func(_ Producer, err error) {
		if answered = true; !errors.Is(err, ErrTooMany) {
			t.Errorf("answer %v", err)
		}
	}))
	if !answered {
		t.Error("no answer")
	}
}

func TestRequestsThatWaitForAnEndAreBounded(t *testing.T) {
	b := newBench(t)
	b.init(InitRequest{Producer{"a", -1, -1}, 60000}, func(Producer, error) {})
	p := Producer{"a", 100, 0}
	b.step(b.m.addPartitions(p, []Partition{{"t", 0}}, V1, b.now, func(error) {}))
	b.end(EndRequest{p, true, V1}, func(Producer, error) {})
	refused := 0
	for range maxWaiting + 3 {
		b.step(b.m.addPartitions(p, []Partition{{"t", 0}}, V1, b.now, func(err error) {
			if errors.Is(err, ErrConcurrent) {
				refused++
			}
		}))
	}
	if refused != 3 || len(b.m.txns["a"].waiting) != maxWaiting {
		t.Errorf("%d refused, %d wait", refused, len(b.m.txns["a"].waiting))
	}
}

func TestOneTickDoesBoundedWorkAndLosesNothing(t *testing.T) {
	b := newBench(t)
	const n = 3*maxDue + 7
	for i := range n {
		id := fmt.Sprint("id", i)
		b.init(InitRequest{Producer{id, -1, -1}, 1000}, func(Producer, error) {})
		b.step(b.m.addPartitions(Producer{id, 100 + int64(i), 0}, []Partition{{"t", 0}}, V2, b.now, func(error) {}))
	}
	b.now = b.now.Add(b.timeout)
	step := b.m.Tick(b.now)
	if len(step.Records) != maxDue {
		t.Errorf("one tick made %d records", len(step.Records))
	}
	b.step(step)
	b.settle()
	if len(b.markers) != n {
		t.Errorf("%d of %d timed-out transactions were aborted", len(b.markers), n)
	}
}
