package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// openTxn leaves a transaction of one record open in t/0.
func openTxn(t *testing.T, env []string, id string) *kgo.Client {
	t.Helper()
	cl := testClient(t, env, kgo.TransactionalID(id), kgo.DefaultProduceTopic("t"))
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), kgo.StringRecord("open")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return cl
}

// waitForTxn asks until a transaction is in a state: a commit is answered before its markers are written.
func waitForTxn(t *testing.T, env []string, id, state string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cl := testClient(t, env)
	for {
		now, err := describeTxn(ctx, cl, id)
		if err != nil {
			t.Fatal(err)
		}
		if now.State == state {
			return
		}
	}
}

func TestAbortEndsATransactionAndFencesItsProducer(t *testing.T) {
	env, _, _ := testBroker(t)
	c := &cli{t, env}
	c.prints("topic create t -p 1")
	if _, errs := c.run(0, "", "txn list"); !strings.Contains(errs, "no transactions") {
		t.Errorf("list: %q", errs)
	}
	producer := openTxn(t, env, "billing")
	c.prints("txn list", "billing", "Ongoing")
	c.prints("txn list --state Ongoing --pattern bill.* --format json", `"transactional_id": "billing"`)
	c.prints("txn describe billing", "state             Ongoing", "partitions        t:0", "ago")
	c.prints("__complete txn abort ''", "billing\n")
	c.fails("txn list --state Nonsense", "no state Nonsense")
	c.fails("txn describe nobody", "TRANSACTIONAL_ID_NOT_FOUND")
	c.fails("txn abort nobody", "TRANSACTIONAL_ID_NOT_FOUND")
	c.fails("txn abort --partition t/0", `belongs to transactional id "billing"; use varve txn abort billing`)
	c.prints("txn abort billing", "billing", "aborted", "t:0")
	c.fails("txn abort billing", `"billing" has no open transaction`)
	if err := producer.EndTransaction(t.Context(), kgo.TryCommit); !errors.Is(err, kerr.ProducerFenced) && !errors.Is(err, kerr.InvalidProducerEpoch) {
		t.Errorf("the aborted producer commits: %v", err)
	}
	c.fails("txn abort --partition t/0", "no transaction is open in t/0")
	c.fails("txn abort --partition t/9", "no partition 9")
	for _, bad := range []string{"txn abort", "txn abort x --partition t/0", "txn abort x --start 5", "txn abort --partition t", "txn abort --partition t/0 --start -2"} {
		c.run(2, "", bad)
	}
}

func TestAbortMarkerEndsAnOpenTransactionOfAPartition(t *testing.T) {
	env, _, _ := testBroker(t)
	c := &cli{t, env}
	c.prints("topic create t -p 1")
	openTxn(t, env, "lost")
	cl, id := testClient(t, env), partitionID{"t", 0}
	open, err := openProducers(t.Context(), cl, id)
	if err != nil || len(open) != 1 || open[0].CurrentTxnStartOffset != 0 {
		t.Fatalf("open: %+v %v", open, err)
	}
	if err := writeAbortMarker(t.Context(), cl, id, &open[0]); err != nil {
		t.Fatal(err)
	}
	if open, err = openProducers(t.Context(), cl, id); err != nil || len(open) != 0 {
		t.Fatalf("after the marker: %+v %v", open, err)
	}
}

func TestHangingTransactionIsNamedByItsStart(t *testing.T) {
	id := partitionID{"t", 0}
	open := []activeProducer{{ProducerID: 7, CurrentTxnStartOffset: 12}, {ProducerID: 8, CurrentTxnStartOffset: 30}}
	if p, err := pickProducer(open, id, 30); err != nil || p.ProducerID != 8 {
		t.Errorf("by start: %+v %v", p, err)
	}
	if p, err := pickProducer(open[:1], id, -1); err != nil || p.ProducerID != 7 {
		t.Errorf("the only one: %+v %v", p, err)
	}
	for start, want := range map[int64]string{-1: "several transactions are open in t/0; name one by --start: 12 (producer 7), 30 (producer 8)", 13: "begins at offset 13"} {
		if _, err := pickProducer(open, id, start); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("start %d: %v", start, err)
		}
	}
}

func TestInputIsOneTransactionOrNothing(t *testing.T) {
	env, _, _ := testBroker(t)
	c := &cli{t, env}
	c.prints("topic create t -p 1")
	c.run(0, "a\tx\nb\tx\n", `produce t --transactional-id load -f '%k\t%v\n'`)
	waitForTxn(t, env, "load", "CompleteCommit")
	c.prints("txn describe load", "state             CompleteCommit")
	if _, errs := c.run(1, "c\tx\nno tab\n", `produce t --transactional-id load -f '%k\t%v\n'`); !strings.Contains(errs, "record 2 of the input") {
		t.Errorf("bad input: %q", errs)
	}
	c.run(0, "d\tx\n", `produce t --transactional-id load -f '%k\t%v\n'`)
	waitForTxn(t, env, "load", "CompleteCommit")
	if out, _ := c.run(0, "", "consume t --committed -o start -e -f %k"); out != "abd" {
		t.Errorf("committed are %q", out)
	}
	openTxn(t, env, "other")
	if out, _ := c.run(0, "", "consume t --committed -o start -e -f %k"); out != "abd" {
		t.Errorf("before an open transaction: %q", out)
	}
	if out, _ := c.run(0, "", "consume t -o start -e -f '%k%v '"); !strings.HasSuffix(out, "dx open ") {
		t.Errorf("with the open transaction: %q", out)
	}
	if out, _ := c.run(0, "", "consume t --group g --committed -o start -n 3 -f %k"); out != "abd" {
		t.Errorf("a group reads %q", out)
	}
	c.run(2, "", "produce t --transactional-id load --acks 1")
}
