package harness

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Client is a franz-go client that ends with the test.
func (b *Broker) Client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.Addr)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// Configs of a topic whose sealed segments go to the store at once. With Cold nothing stays on
// local disk but the active segment; with Warm everything does.
var (
	Warm = map[string]string{
		"remote.storage.enable": "true", "segment.bytes": "1048576", "max.message.bytes": fmt.Sprint(MaxBatch),
	}
	Cold = with(Warm, "local.retention.bytes", "0")
	// Edge keeps one segment's bytes on local disk, so that reads cross the border of the tiers.
	Edge = with(Warm, "local.retention.bytes", "1048576")
)

func with(configs map[string]string, key, value string) map[string]string {
	out := maps.Clone(configs)
	out[key] = value
	return out
}

// CreateTopic makes a topic.
func (b *Broker) CreateTopic(t testing.TB, name string, partitions int32, configs map[string]string) {
	t.Helper()
	if err := b.TryCreateTopic(t, name, partitions, configs); err != nil {
		t.Fatalf("create topic %s: %v", name, err)
	}
}

// TryCreateTopic is CreateTopic for topics that may be refused; the error wraps the *kerr.Error
// and holds the broker's message.
func (b *Broker) TryCreateTopic(t testing.TB, name string, partitions int32, configs map[string]string) error {
	t.Helper()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, 1
	for _, key := range slices.Sorted(maps.Keys(configs)) {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = key, kmsg.StringPtr(configs[key])
		topic.Configs = append(topic.Configs, c)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(t.Context(), b.Client(t))
	if err != nil {
		t.Fatalf("CreateTopics: %v", err)
	}
	return codeError(resp.Topics[0].ErrorCode, resp.Topics[0].ErrorMessage)
}

// AlterTopic sets configs of a topic.
func (b *Broker) AlterTopic(t testing.TB, name string, configs map[string]string) {
	t.Helper()
	if err := b.TryAlterTopic(t, name, configs); err != nil {
		t.Fatalf("alter topic %s: %v", name, err)
	}
}

// TryAlterTopic is AlterTopic for changes that may be refused.
func (b *Broker) TryAlterTopic(t testing.TB, name string, configs map[string]string) error {
	t.Helper()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, name
	for _, key := range slices.Sorted(maps.Keys(configs)) {
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Op, c.Value = key, kmsg.IncrementalAlterConfigOpSet, kmsg.StringPtr(configs[key])
		r.Configs = append(r.Configs, c)
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(t.Context(), b.Client(t))
	if err != nil {
		t.Fatalf("IncrementalAlterConfigs: %v", err)
	}
	return codeError(resp.Resources[0].ErrorCode, resp.Resources[0].ErrorMessage)
}

func codeError(code int16, message *string) error {
	err := kerr.ErrorForCode(code)
	if err == nil || message == nil {
		return err
	}
	return fmt.Errorf("%w: %s", err, *message)
}

// Produce writes records to one partition, one batch a record.
func (b *Broker) Produce(t testing.TB, topic string, partition int32, values ...[]byte) {
	t.Helper()
	cl := b.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(MaxBatch),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	for _, value := range values {
		r := &kgo.Record{Topic: topic, Partition: partition, Value: value}
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatalf("produce to %s/%d: %v", topic, partition, err)
		}
	}
}

// Consume reads the records [from, end) of one partition with franz-go.
func (b *Broker) Consume(t testing.TB, topic string, partition int32, from, end int64) []Record {
	t.Helper()
	cl := b.Client(t, kgo.FetchMaxPartitionBytes(MaxBatch), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		topic: {partition: kgo.NewOffset().At(from)},
	}))
	ctx, cancel := context.WithTimeout(t.Context(), Late)
	defer cancel()
	var out []Record
	for int64(len(out)) < end-from {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("consume %s/%d from %d: %v after %d records", topic, partition, from, err, len(out))
		}
		fetches.EachRecord(func(r *kgo.Record) { out = append(out, FromKgo(r)) })
	}
	return out[:end-from]
}

// FromKgo takes over a record of franz-go.
func FromKgo(r *kgo.Record) Record {
	out := Record{Key: r.Key, Value: r.Value, Offset: r.Offset, Time: r.Timestamp.UnixMilli()}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, Header{h.Key, h.Value})
	}
	return out
}
