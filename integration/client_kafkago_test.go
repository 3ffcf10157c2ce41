package integration

import (
	"context"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"varve/integration/harness"
)

var kafkaGoClient = client{name: "kafka-go", can: all, produce: kafkaGoProduce, sees: kafkaGoSees, consume: kafkaGoConsume}

var kafkaGoCodecs = map[string]kafka.Compression{
	"gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd,
}

func kafkaGoProduce(t testing.TB, b *harness.Broker, topic string, partition int32, codec string, records []harness.Record) {
	w := &kafka.Writer{
		Addr: kafka.TCP(b.Addr), Topic: topic, RequiredAcks: kafka.RequireAll, Compression: kafkaGoCodecs[codec],
		Balancer:   kafka.BalancerFunc(func(kafka.Message, ...int) int { return int(partition) }),
		BatchBytes: harness.MaxBatch, BatchSize: len(records), BatchTimeout: 10 * time.Millisecond, MaxAttempts: 1,
	}
	defer w.Close()
	var batch []kafka.Message
	for _, r := range records {
		m := kafka.Message{Key: r.Key, Value: r.Value, Time: time.UnixMilli(r.Time)}
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, kafka.Header{Key: h.Key, Value: h.Value})
		}
		batch = append(batch, m)
	}
	ctx, cancel := context.WithTimeout(t.Context(), harness.Late)
	defer cancel()
	if err := w.WriteMessages(ctx, batch...); err != nil {
		t.Fatalf("produce to %s/%d: %v", topic, partition, err)
	}
}

func kafkaGoConsume(t testing.TB, b *harness.Broker, topic string, counts map[int32]int) harness.Expected {
	return eachPartition(t, counts, func(p int32, n int) ([]harness.Record, error) {
		r := kafka.NewReader(kafka.ReaderConfig{
			Brokers: []string{b.Addr}, Topic: topic, Partition: int(p), MaxBytes: 2 * harness.MaxBatch,
			MaxWait: 200 * time.Millisecond, QueueCapacity: 10,
		})
		defer r.Close()
		return kafkaGoRead(t, r, n)
	})
}

func kafkaGoRead(t testing.TB, r *kafka.Reader, n int) (out []harness.Record, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), harness.Late)
	defer cancel()
	for len(out) < n {
		m, err := r.ReadMessage(ctx)
		if err != nil {
			return out, err
		}
		out = append(out, fromKafkaGo(m))
	}
	return out, nil
}

func fromKafkaGo(m kafka.Message) harness.Record {
	out := harness.Record{Key: m.Key, Value: m.Value, Offset: m.Offset, Time: m.Time.UnixMilli()}
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, harness.Header{Key: h.Key, Value: h.Value})
	}
	return out
}

// kafkaGoSees: kafka-go's reader gives nil for what is empty, though its writer knows the difference.
func kafkaGoSees(r harness.Record) harness.Record {
	r.Key, r.Value = nilIfEmpty(r.Key), nilIfEmpty(r.Value)
	for i := range r.Headers {
		r.Headers[i].Value = nilIfEmpty(r.Headers[i].Value)
	}
	return r
}

func nilIfEmpty(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}
