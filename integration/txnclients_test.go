package integration

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kgo"

	"varve/integration/harness"
)

// txnProducer is a transactional producer of one client library. Every send is delivered when it
// returns.
type txnProducer interface {
	begin() error
	send(topic string, partition int32, value string) error
	end(commit bool) error
	close()
}

// txnClients make a producer for a transactional id, which fences every older one of it, and read a
// topic read_committed until every partition has shown the value last.
var txnClients = []struct {
	name     string
	producer func(ctx context.Context, b *harness.Broker, id string) (txnProducer, error)
	consume  func(t testing.TB, b *harness.Broker, topic string, partitions int32, last string) map[int32][]string
}{
	{"franz-go", newKgoTxn, kgoCommitted},
	{"librdkafka", newConfluentTxn, confluentCommitted},
	{"sarama", newSaramaTxn, saramaCommitted},
}

// clientGiveUp bounds what one call of a client may take when nothing answers.
const clientGiveUp = 30 * time.Second

type kgoTxn struct {
	ctx context.Context
	cl  *kgo.Client
}

func newKgoTxn(ctx context.Context, b *harness.Broker, id string) (txnProducer, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.TransactionTimeout(clientGiveUp))
	if err != nil {
		return nil, err
	}
	if _, _, err := cl.ProducerID(ctx); err != nil { // InitProducerID at once, not with the first record
		cl.Close()
		return nil, err
	}
	return &kgoTxn{ctx, cl}, nil
}

func (p *kgoTxn) begin() error { return p.cl.BeginTransaction() }

func (p *kgoTxn) send(topic string, partition int32, value string) error {
	return p.cl.ProduceSync(p.ctx, &kgo.Record{Topic: topic, Partition: partition, Value: []byte(value)}).FirstErr()
}

func (p *kgoTxn) end(commit bool) error {
	return p.cl.EndTransaction(p.ctx, kgo.TransactionEndTry(commit))
}
func (p *kgoTxn) close() { p.cl.CloseAllowingRebalance() }

func kgoCommitted(t testing.TB, b *harness.Broker, topic string, partitions int32, last string) map[int32][]string {
	offsets := map[int32]kgo.Offset{}
	for p := range partitions {
		offsets[p] = kgo.NewOffset().AtStart()
	}
	cl := b.Client(t, kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets}))
	ctx, cancel := context.WithTimeout(t.Context(), harness.Late)
	defer cancel()
	c := newCollector(partitions, last)
	for !c.done() {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("franz-go consumes %s: %v, so far %v", topic, err, c.got)
		}
		fetches.EachRecord(func(r *kgo.Record) { c.add(r.Partition, string(r.Value)) })
	}
	return c.got
}

// collector gathers values until each partition has shown the last one.
type collector struct {
	got  map[int32][]string
	last string
	open int32
}

func newCollector(partitions int32, last string) *collector {
	return &collector{map[int32][]string{}, last, partitions}
}

func (c *collector) add(partition int32, value string) {
	if value == c.last {
		c.open--
		return
	}
	c.got[partition] = append(c.got[partition], value)
}

func (c *collector) done() bool { return c.open <= 0 }

type confluentTxn struct {
	ctx context.Context
	p   *kafka.Producer
}

func newConfluentTxn(ctx context.Context, b *harness.Broker, id string) (txnProducer, error) {
	p, err := kafka.NewProducer(&kafka.ConfigMap{
		"bootstrap.servers": b.Addr, "transactional.id": id, "linger.ms": 0, "go.delivery.reports": true,
		"transaction.timeout.ms": int(clientGiveUp.Milliseconds()),
	})
	if err != nil {
		return nil, err
	}
	if err := p.InitTransactions(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return &confluentTxn{ctx, p}, nil
}

func (p *confluentTxn) begin() error { return p.p.BeginTransaction() }

func (p *confluentTxn) send(topic string, partition int32, value string) error {
	delivered := make(chan kafka.Event, 1)
	err := p.p.Produce(&kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: partition}, Value: []byte(value)}, delivered)
	if err != nil {
		return err
	}
	select {
	case e := <-delivered:
		if m, ok := e.(*kafka.Message); ok {
			return m.TopicPartition.Error
		}
		return fmt.Errorf("delivery report is %v", e)
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

func (p *confluentTxn) end(commit bool) error {
	if commit {
		return p.p.CommitTransaction(p.ctx)
	}
	return p.p.AbortTransaction(p.ctx)
}

func (p *confluentTxn) close() { p.p.Close() }

func confluentCommitted(t testing.TB, b *harness.Broker, topic string, partitions int32, last string) map[int32][]string {
	c, err := kafka.NewConsumer(&kafka.ConfigMap{
		"bootstrap.servers": b.Addr, "group.id": "unused", "enable.auto.commit": false, "isolation.level": "read_committed",
		"auto.offset.reset": "error",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var parts []kafka.TopicPartition
	for p := range partitions {
		parts = append(parts, kafka.TopicPartition{Topic: &topic, Partition: p, Offset: kafka.OffsetBeginning})
	}
	if err := c.Assign(parts); err != nil {
		t.Fatal(err)
	}
	all := newCollector(partitions, last)
	for until := time.Now().Add(harness.Late); !all.done(); {
		m, err := c.ReadMessage(time.Until(until))
		if err != nil {
			t.Fatalf("librdkafka consumes %s: %v, so far %v", topic, err, all.got)
		}
		all.add(m.TopicPartition.Partition, string(m.Value))
	}
	return all.got
}

type saramaTxn struct{ p sarama.SyncProducer }

func newSaramaTxn(_ context.Context, b *harness.Broker, id string) (txnProducer, error) {
	c := saramaConfig()
	c.Producer.Transaction.ID = id
	c.Producer.Transaction.Timeout = clientGiveUp
	p, err := sarama.NewSyncProducer([]string{b.Addr}, c)
	if err != nil {
		return nil, err
	}
	return &saramaTxn{p}, nil
}

func (p *saramaTxn) begin() error { return p.p.BeginTxn() }

func (p *saramaTxn) send(topic string, partition int32, value string) error {
	_, _, err := p.p.SendMessage(&sarama.ProducerMessage{Topic: topic, Partition: partition, Value: sarama.StringEncoder(value)})
	return err
}

func (p *saramaTxn) end(commit bool) error {
	if commit {
		return p.p.CommitTxn()
	}
	return p.p.AbortTxn()
}

func (p *saramaTxn) close() { _ = p.p.Close() }

func saramaCommitted(t testing.TB, b *harness.Broker, topic string, partitions int32, last string) map[int32][]string {
	conf := saramaConfig()
	conf.Consumer.IsolationLevel = sarama.ReadCommitted
	c, err := sarama.NewConsumer([]string{b.Addr}, conf)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	late := time.NewTimer(harness.Late)
	defer late.Stop()
	out := map[int32][]string{}
	for p := range partitions {
		pc, err := c.ConsumePartition(topic, p, sarama.OffsetOldest)
		if err != nil {
			t.Fatal(err)
		}
		one := newCollector(1, last)
		for !one.done() {
			select {
			case m := <-pc.Messages():
				one.add(p, string(m.Value))
			case err := <-pc.Errors():
				t.Fatalf("sarama consumes %s/%d: %v", topic, p, err)
			case <-late.C:
				t.Fatalf("sarama consumes %s/%d: nothing more after %v", topic, p, one.got[p])
			}
		}
		pc.AsyncClose()
		out[p] = one.got[p]
	}
	return out
}

var errNoFencing = errors.New("a zombie's transaction was committed")
