package broker

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testConfig is a broker on free loopback ports with a directory as its store.
func testConfig(t *testing.T, dir string) Config {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Listen, cfg.AdminListen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.InternalListen, cfg.GossipListen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.DataDir = dir
	cfg.Store = "dir://" + dir + "/bucket"
	cfg.DiskReserveBytes = 0
	return cfg
}

func openBroker(t *testing.T, cfg Config) *Broker {
	t.Helper()
	b, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func closeBroker(t *testing.T, b *Broker) {
	t.Helper()
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func client(t *testing.T, b *Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.Addresses().Kafka)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func createTopic(t *testing.T, c *kgo.Client, name string, partitions int32, configs map[string]string) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, 1
	for k, v := range configs {
		config := kmsg.NewCreateTopicsRequestTopicConfig()
		config.Name, config.Value = k, kmsg.StringPtr(v)
		topic.Configs = append(topic.Configs, config)
	}
	req.Topics = append(req.Topics, topic)
	req.TimeoutMillis = 10_000
	resp, err := req.RequestWith(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if code := resp.Topics[0].ErrorCode; code != 0 {
		t.Fatalf("create %s: code %d %v", name, code, resp.Topics[0].ErrorMessage)
	}
}

func produceRecords(t *testing.T, c *kgo.Client, topic string, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		c.Produce(t.Context(), &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "value %d", i)},
			func(_ *kgo.Record, err error) {
				if err != nil {
					t.Errorf("produce: %v", err)
				}
			})
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// readAll reads n records of a one-partition topic from the start and checks that they come in order.
func readAll(t *testing.T, b *Broker, topic string, n int) {
	t.Helper()
	c := client(t, b, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for next := 0; next < n; {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d records: %v", next, n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if want := fmt.Sprintf("value %d", next); string(r.Value) != want || r.Offset != int64(next) {
				t.Fatalf("offset %d is %q, want %q at %d", r.Offset, r.Value, want, next)
			}
			next++
		})
	}
}

func TestRecordsSurviveARestartAndComeBackInOrder(t *testing.T) {
	cfg := testConfig(t, t.TempDir())
	b := openBroker(t, cfg)
	c := client(t, b, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	createTopic(t, c, "t", 1, nil)
	produceRecords(t, c, "t", 0, 1000)
	readAll(t, b, "t", 1000)
	c.Close()
	closeBroker(t, b)

	b = openBroker(t, cfg)
	if !b.clean {
		t.Error("a clean stop was not seen as clean")
	}
	readAll(t, b, "t", 1000)
	c = client(t, b, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	produceRecords(t, c, "t", 1000, 1500)
	readAll(t, b, "t", 1500)
	c.Close()
	closeBroker(t, b)
}

func TestSealedSegmentsMoveToTheBucketAndReadBack(t *testing.T) {
	slog.SetLogLoggerLevel(slog.LevelWarn)
	cfg := testConfig(t, t.TempDir())
	cfg.LogRetentionCheck = 100 * time.Millisecond
	b := openBroker(t, cfg)
	c := client(t, b, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(64<<10),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	createTopic(t, c, "cold", 1, map[string]string{
		"segment.bytes": "1048576", "local.retention.bytes": "1048576", "remote.storage.enable": "true",
	})
	const n = 120_000
	produceRecords(t, c, "cold", 0, n)
	rep := b.set.ByName("cold").Partition(0)
	deadline := time.Now().Add(30 * time.Second)
	for {
		l, err := rep.Log()
		if err != nil {
			t.Fatal(err)
		}
		if rep.TieredEnd() >= l.SealedEnd() && l.LocalStart() > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("tiered to %d, local from %d, sealed to %d: %+v %s", rep.TieredEnd(), l.LocalStart(), l.SealedEnd(), rep.Status(), rep.Blocked())
		}
		time.Sleep(20 * time.Millisecond) // polling a deadline, nothing is synchronised by it
	}
	readAll(t, b, "cold", n)
	c.Close()
	closeBroker(t, b)
	b = openBroker(t, cfg)
	readAll(t, b, "cold", n)
	closeBroker(t, b)
}
