package integration

import (
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"varve/integration/harness"
)

// confluentClient is librdkafka of the day, linked into the test; kcat brings the one of the system.
var confluentClient = client{name: "confluent-kafka-go", can: all, produce: confluentProduce, consume: confluentConsume}

func confluentProduce(t testing.TB, b *harness.Broker, topic string, partition int32, codec string, records []harness.Record) {
	p, err := kafka.NewProducer(&kafka.ConfigMap{
		"bootstrap.servers": b.Addr, "compression.type": codec, "acks": "all", "enable.idempotence": true,
		"message.max.bytes": harness.MaxBatch, "go.delivery.reports": true, "linger.ms": 5,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	delivered := make(chan kafka.Event, len(records))
	for _, r := range records {
		m := &kafka.Message{
			TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: partition},
			Key:            r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.Time),
		}
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, kafka.Header{Key: h.Key, Value: h.Value})
		}
		if err := p.Produce(m, delivered); err != nil {
			t.Fatalf("produce to %s/%d: %v", topic, partition, err)
		}
	}
	late := time.NewTimer(harness.Late)
	defer late.Stop()
	for range records {
		select {
		case e := <-delivered:
			if m, ok := e.(*kafka.Message); !ok || m.TopicPartition.Error != nil {
				t.Fatalf("produce to %s/%d: %v", topic, partition, e)
			}
		case <-late.C:
			t.Fatalf("produce to %s/%d: not delivered in %s", topic, partition, harness.Late)
		}
	}
}

func confluentConsume(t testing.TB, b *harness.Broker, topic string, counts map[int32]int) harness.Expected {
	c, err := kafka.NewConsumer(&kafka.ConfigMap{
		"bootstrap.servers": b.Addr, "group.id": "unused", "enable.auto.commit": false,
		"auto.offset.reset":       "error", // a position that the broker refuses is a failure, not a jump
		"fetch.message.max.bytes": harness.MaxBatch,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var parts []kafka.TopicPartition
	left := 0
	for p, n := range counts {
		parts = append(parts, kafka.TopicPartition{Topic: &topic, Partition: p, Offset: kafka.OffsetBeginning})
		left += n
	}
	if err := c.Assign(parts); err != nil {
		t.Fatal(err)
	}
	out := harness.Expected{}
	for until := time.Now().Add(harness.Late); left > 0; {
		m, err := c.ReadMessage(time.Until(until))
		if err != nil {
			t.Fatalf("consume %s: %v with %d records to come", topic, err, left)
		}
		p := m.TopicPartition.Partition
		out[p] = append(out[p], fromConfluent(m))
		left--
	}
	return out
}

func fromConfluent(m *kafka.Message) harness.Record {
	out := harness.Record{Key: m.Key, Value: m.Value, Offset: int64(m.TopicPartition.Offset), Time: m.Timestamp.UnixMilli()}
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, harness.Header{Key: h.Key, Value: h.Value})
	}
	return out
}
