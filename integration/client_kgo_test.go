package integration

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"varve/integration/harness"
)

var kgoClient = client{name: "franz-go", can: all, produce: kgoProduce, consume: kgoConsume}

var kgoCodecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func kgoProduce(t testing.TB, b *harness.Broker, topic string, partition int32, codec string, records []harness.Record) {
	cl := b.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(harness.MaxBatch),
		kgo.ProducerBatchCompression(kgoCodecs[codec]))
	ctx, cancel := context.WithTimeout(t.Context(), harness.Late)
	defer cancel()
	batch := make([]*kgo.Record, 0, len(records))
	for _, r := range records {
		out := &kgo.Record{Topic: topic, Partition: partition, Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.Time)}
		for _, h := range r.Headers {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		batch = append(batch, out)
	}
	if err := cl.ProduceSync(ctx, batch...).FirstErr(); err != nil {
		t.Fatalf("produce to %s/%d: %v", topic, partition, err)
	}
}

func kgoConsume(t testing.TB, b *harness.Broker, topic string, counts map[int32]int) harness.Expected {
	offsets, left := map[int32]kgo.Offset{}, 0
	for p, n := range counts {
		offsets[p] = kgo.NewOffset().AtStart()
		left += n
	}
	cl := b.Client(t, kgo.FetchMaxPartitionBytes(harness.MaxBatch), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets}))
	ctx, cancel := context.WithTimeout(t.Context(), harness.Late)
	defer cancel()
	out := harness.Expected{}
	for left > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("consume %s: %v with %d records to come", topic, err, left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			out[r.Partition] = append(out[r.Partition], harness.FromKgo(r))
			left--
		})
	}
	return out
}
