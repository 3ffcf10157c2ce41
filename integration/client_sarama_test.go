package integration

import (
	"context"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"varve/integration/harness"
)

var saramaClient = client{name: "sarama", can: all, produce: saramaProduce, consume: saramaConsume}

var saramaCodecs = map[string]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
	"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

func saramaConfig() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Metadata.Full = false
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1 // sarama asks for it with idempotence
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.MaxMessageBytes = harness.MaxBatch
	c.Consumer.Return.Errors = true
	c.Consumer.Fetch.Default = harness.MaxBatch
	return c
}

func saramaProduce(t testing.TB, b *harness.Broker, topic string, partition int32, codec string, records []harness.Record) {
	c := saramaConfig()
	c.Producer.Compression = saramaCodecs[codec]
	p, err := sarama.NewSyncProducer([]string{b.Addr}, c)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var batch []*sarama.ProducerMessage
	for _, r := range records {
		m := &sarama.ProducerMessage{Topic: topic, Partition: partition, Timestamp: time.UnixMilli(r.Time)}
		if r.Key != nil {
			m.Key = sarama.ByteEncoder(r.Key)
		}
		if r.Value != nil {
			m.Value = sarama.ByteEncoder(r.Value)
		}
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
		}
		batch = append(batch, m)
	}
	if err := p.SendMessages(batch); err != nil {
		t.Fatalf("produce to %s/%d: %v", topic, partition, err)
	}
}

func saramaConsume(t testing.TB, b *harness.Broker, topic string, counts map[int32]int) harness.Expected {
	consumer, err := sarama.NewConsumer([]string{b.Addr}, saramaConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	return eachPartition(t, counts, func(p int32, n int) ([]harness.Record, error) { return saramaPartition(consumer, topic, p, n) })
}

func saramaPartition(consumer sarama.Consumer, topic string, partition int32, n int) (out []harness.Record, err error) {
	pc, err := consumer.ConsumePartition(topic, partition, sarama.OffsetOldest)
	if err != nil {
		return nil, err
	}
	defer pc.Close()
	late := time.NewTimer(harness.Late)
	defer late.Stop()
	for len(out) < n {
		select {
		case m := <-pc.Messages():
			out = append(out, fromSarama(m))
		case err := <-pc.Errors():
			return out, err
		case <-late.C:
			return out, context.DeadlineExceeded
		}
	}
	return out, nil
}

func fromSarama(m *sarama.ConsumerMessage) harness.Record {
	out := harness.Record{Key: m.Key, Value: m.Value, Offset: m.Offset, Time: m.Timestamp.UnixMilli()}
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, harness.Header{Key: string(h.Key), Value: h.Value})
	}
	return out
}
