package integration

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/integration/harness"
)

const txnPartitions = 2

// TestTransactionsAreAllOrNothing has a producer of each client library commit and abort in turns,
// die with the broker in the middle of a transaction, and go on. Every library must then read the
// same committed records, from local disk and from the store.
func TestTransactionsAreAllOrNothing(t *testing.T) {
	for _, c := range txnClients {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*harness.Late)
			defer cancel()
			b := harness.Start(t, harness.Options{})
			topic := "txn-" + c.name
			b.CreateTopic(t, topic, txnPartitions, harness.Cold)
			want := map[int32][]string{}

			p := mustTxn(t, ctx, b, c.producer, "id-"+c.name)
			transactions(t, p, topic, "before", want)
			must(t, p.begin())
			for part := range int32(txnPartitions) {
				must(t, p.send(topic, part, "left open"))
			}
			b.Kill(t)
			b.Restart(t)
			p.close()

			p = mustTxn(t, ctx, b, c.producer, "id-"+c.name)
			defer p.close()
			transactions(t, p, topic, "after", want)
			sendAll(t, p, topic, "last", true)

			everyClientReads(t, b, topic, want, "from local disk")
			b.GoCold(t, topic, 0)
			everyClientReads(t, b, topic, want, "from the store")
			b.Kill(t)
			b.Restart(t)
			everyClientReads(t, b, topic, want, "from the store, after kill -9")
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustTxn(t testing.TB, ctx context.Context, b *harness.Broker, make func(context.Context, *harness.Broker, string) (txnProducer, error), id string) txnProducer {
	t.Helper()
	p, err := make(ctx, b, id)
	if err != nil {
		t.Fatalf("producer of transactional id %s: %v", id, err)
	}
	return p
}

// sendAll sends one value to each partition in one transaction.
func sendAll(t testing.TB, p txnProducer, topic, value string, commit bool) {
	t.Helper()
	must(t, p.begin())
	for part := range int32(txnPartitions) {
		if err := p.send(topic, part, value); err != nil {
			t.Fatalf("send %s to partition %d: %v", value, part, err)
		}
	}
	if err := p.end(commit); err != nil {
		t.Fatalf("end %s, commit %v: %v", value, commit, err)
	}
}

// transactions runs six, of which every third is aborted, and notes in want what consumers must see.
func transactions(t testing.TB, p txnProducer, topic, label string, want map[int32][]string) {
	t.Helper()
	for i := range 6 {
		value, commit := fmt.Sprintf("%s %d", label, i), i%3 != 1
		sendAll(t, p, topic, value, commit)
		for part := range int32(txnPartitions) {
			if commit {
				want[part] = append(want[part], value)
			}
		}
	}
}

func everyClientReads(t *testing.T, b *harness.Broker, topic string, want map[int32][]string, where string) {
	t.Helper()
	for _, c := range txnClients {
		got := c.consume(t, b, topic, txnPartitions, "last")
		if !maps.EqualFunc(want, got, slices.Equal) {
			t.Errorf("%s reads %s:\n%v, want\n%v", c.name, where, got, want)
		}
	}
}

// TestZombieProducersAreFenced starts a second producer with the transactional id of one that has a
// transaction open. The first one's records must never be seen, whatever it tries.
func TestZombieProducersAreFenced(t *testing.T) {
	b := sharedBroker(t)
	for _, c := range txnClients {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), harness.Late)
			defer cancel()
			topic, id := "zombie-"+c.name, "zombie-"+c.name
			b.CreateTopic(t, topic, txnPartitions, nil)
			zombie := mustTxn(t, ctx, b, c.producer, id)
			defer zombie.close()
			must(t, zombie.begin())
			must(t, zombie.send(topic, 0, "of the zombie"))
			p := mustTxn(t, ctx, b, c.producer, id)
			defer p.close()
			sendAll(t, p, topic, "of the new one", true)

			if err := zombie.send(topic, 1, "late"); err == nil {
				if err := zombie.end(true); err == nil {
					t.Error(errNoFencing)
				}
			}
			sendAll(t, p, topic, "last", true)
			for part, values := range kgoCommitted(t, b, topic, txnPartitions, "last") {
				if !slices.Equal(values, []string{"of the new one"}) {
					t.Errorf("partition %d: consumers read %v", part, values)
				}
			}
		})
	}
}

// TestReadCommittedWaitsForTheEnd has a consumer wait at an open transaction: it must be woken by
// the commit, with the records of the transaction, and by nothing before it.
func TestReadCommittedWaitsForTheEnd(t *testing.T) {
	b := sharedBroker(t)
	ctx, cancel := context.WithTimeout(t.Context(), harness.Late)
	defer cancel()
	const topic = "committed-wait"
	b.CreateTopic(t, topic, 1, nil)
	p := mustTxn(t, ctx, b, newKgoTxn, topic)
	defer p.close()
	must(t, p.begin())
	must(t, p.send(topic, 0, "first"))

	cl := b.Client(t, kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(clientGiveUp),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	polled := make(chan kgo.Fetches, 1)
	go func() { polled <- cl.PollFetches(ctx) }()
	must(t, p.send(topic, 0, "second")) // HW moves, LSO does not
	select {
	case f := <-polled:
		t.Fatalf("consumer got %d records of an open transaction, %v", f.NumRecords(), f.Err())
	default:
	}
	must(t, p.end(true))
	f := <-polled
	if err := f.Err(); err != nil || f.NumRecords() != 2 {
		t.Fatalf("after the commit: %d records, %v", f.NumRecords(), err)
	}
}

// TestTransactionsBumpTheEpochForClientsThatKnow: a client that reads transaction.version 2 from
// ApiVersions ends each transaction in a new epoch (KIP-890), one that does not keeps its epoch. Both
// are served.
func TestTransactionsBumpTheEpochForClientsThatKnow(t *testing.T) {
	b := sharedBroker(t)
	ctx, cancel := context.WithTimeout(t.Context(), harness.Late)
	defer cancel()
	for _, c := range txnClients {
		topic, id := "bumps-"+c.name, "bumps-"+c.name
		b.CreateTopic(t, topic, txnPartitions, nil)
		p := mustTxn(t, ctx, b, c.producer, id)
		defer p.close()
		for i := range 3 {
			sendAll(t, p, topic, "v", i != 1)
		}
		req := kmsg.NewPtrDescribeTransactionsRequest()
		req.TransactionalIDs = []string{id}
		resp, err := req.RequestWith(ctx, b.Client(t))
		if err != nil || resp.TransactionStates[0].ErrorCode != 0 {
			t.Fatalf("%s: %+v, %v", c.name, resp, err)
		}
		want := int16(0)
		if c.name == "franz-go" {
			want = 3
		}
		if s := resp.TransactionStates[0]; s.ProducerEpoch != want {
			t.Errorf("%s: epoch %d after three transactions, want %d", c.name, s.ProducerEpoch, want)
		}
	}
}
