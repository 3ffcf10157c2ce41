package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"varve/integration/harness"
)

// compactSteps are the steps of a swap at which the broker kills itself; "" is a kill at no step.
var compactSteps = []string{
	"compact.written", "compact.synced", "compact.prepared", "compact.marked", "compact.renamed", "compact.removed", "compact.done", "",
}

var compacted = map[string]string{
	"cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "86400000",
	"max.message.bytes": fmt.Sprint(harness.MaxBatch),
}

// TestCompactionSurvivesKills writes a few hundred keys over and over with an idempotent producer while
// the broker compacts without pause and kills itself at every step of a swap in turn. In the end a
// consumer that reads everything finds the newest value of each key, at the offset that the producer
// was told.
func TestCompactionSurvivesKills(t *testing.T) {
	b := harness.Start(t, harness.Options{Store: harness.NoStore, Settings: map[string]string{"log.cleaner.backoff.ms": "20ms"}})
	const topic = "compacted"
	b.CreateTopic(t, topic, 1, compacted)
	load := compactLoad{t: t, topic: topic, want: map[string]*kgo.Record{}, rng: rand.New(rand.NewPCG(1, 2))}
	load.open(b)
	for round, step := range compactSteps {
		b.Kill(t)
		env := fmt.Sprintf("VARVE_CRASH_STEP=%s:%d", step, 1+round%3)
		if err := b.Relaunch(env); err != nil {
			t.Fatal(err)
		}
		died := load.untilDead(b, step != "")
		if s, ok := b.DiedOf(); step != "" && (!died || !ok || s != syscall.SIGKILL) {
			t.Fatalf("%s: the broker did not come by (died %v of %v)\n%s", step, died, s, b.Log())
		}
		if died {
			if err := b.Relaunch(); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.WaitReady(harness.Late); err != nil {
			t.Fatalf("after %s: %v", step, err)
		}
		load.finish()
	}
	load.check(b)
}

// compactLoad produces keyed records and remembers what must be there.
type compactLoad struct {
	t     *testing.T
	topic string
	rng   *rand.Rand
	plain *kgo.Client
	want  map[string]*kgo.Record // newest acknowledged record of each key
	n     int
	ended chan error // of the batch on its way
	batch []*kgo.Record
}

func (l *compactLoad) open(b *harness.Broker) {
	l.plain = b.Client(l.t, kgo.DefaultProduceTopic(l.topic), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(100_000),
		kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression()), kgo.RetryTimeout(time.Minute))
}

// send begins to produce one round of records.
func (l *compactLoad) send() {
	l.batch, l.ended = nil, make(chan error, 1)
	for range 500 {
		l.n++
		r := &kgo.Record{Key: fmt.Appendf(nil, "key-%d", l.rng.IntN(300)), Value: l.value()}
		if l.rng.IntN(10) == 0 {
			r.Value = nil
		}
		l.batch = append(l.batch, r)
	}
	go func(rs []*kgo.Record, ended chan<- error) {
		ended <- l.plain.ProduceSync(context.Background(), rs...).FirstErr()
	}(l.batch, l.ended)
}

// value is 200 bytes that do not compress.
func (l *compactLoad) value() []byte {
	v := fmt.Appendf(nil, "%d ", l.n)
	for len(v) < 200 {
		v = binary.BigEndian.AppendUint64(v, l.rng.Uint64())
	}
	return v
}

// untilDead produces until the broker is dead, or for a while if it need not die.
func (l *compactLoad) untilDead(b *harness.Broker, must bool) (died bool) {
	rounds := 40
	if must {
		rounds = 4000
	}
	for range rounds {
		if l.ended == nil {
			l.send()
		}
		select {
		case <-b.Exited():
			return true
		case err := <-l.ended:
			l.ended = nil
			l.took(err)
		}
	}
	return false
}

// finish waits for the records on their way: the broker is back.
func (l *compactLoad) finish() {
	if l.ended != nil {
		err := <-l.ended
		l.ended = nil
		l.took(err)
	}
}

func (l *compactLoad) took(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatalf("produce: %v", err)
	}
	for _, r := range l.batch {
		l.want[string(r.Key)] = r
	}
}

// check reads the topic from its start.
func (l *compactLoad) check(b *harness.Broker) {
	l.t.Helper()
	if err := l.plain.ProduceSync(l.t.Context(), &kgo.Record{Key: []byte("end"), Value: []byte("end")}).FirstErr(); err != nil {
		l.t.Fatal(err)
	}
	consumer := b.Client(l.t, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.topic: {0: kgo.NewOffset().AtStart()}}))
	ctx, cancel := context.WithTimeout(l.t.Context(), harness.Late)
	defer cancel()
	got := map[string]*kgo.Record{}
	read, last := 0, int64(-1)
	for end := (*kgo.Record)(nil); end == nil; {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			l.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset <= last {
				l.t.Errorf("offset %d after %d", r.Offset, last)
			}
			last = r.Offset
			if string(r.Key) == "end" {
				end = r
				return
			}
			got[string(r.Key)] = r
			read++
		})
	}
	if read > l.n/4 {
		l.t.Errorf("%d of %d records are left: hardly compacted", read, l.n)
	}
	for key, want := range l.want {
		r := got[key]
		if r == nil || r.Offset != want.Offset || !bytes.Equal(r.Value, want.Value) {
			l.t.Errorf("%s: got %+v, want offset %d %q", key, r, want.Offset, want.Value)
		}
	}
	if len(got) != len(l.want) {
		l.t.Errorf("%d keys, want %d", len(got), len(l.want))
	}
}

// TestRecordsWithoutKeyAreRefusedInCompactedTopics, compressed ones too.
func TestRecordsWithoutKeyAreRefusedInCompactedTopics(t *testing.T) {
	b := harness.Start(t, harness.Options{Store: harness.NoStore})
	b.CreateTopic(t, "keyed", 1, map[string]string{"cleanup.policy": "compact"})
	for name, codec := range map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	} {
		cl := b.Client(t, kgo.DefaultProduceTopic("keyed"), kgo.ProducerBatchCompression(codec), kgo.DisableIdempotentWrite())
		value := bytes.Repeat([]byte("value "), 100)
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Value: value}).FirstErr(); !errors.Is(err, kerr.InvalidRecord) {
			t.Errorf("%s: a record without key: %v", name, err)
		}
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Key: []byte{}, Value: value}).FirstErr(); err != nil {
			t.Errorf("%s: a record with an empty key: %v", name, err)
		}
	}
}

// TestAPolicyOfCompactTakesHoldOfWhatIsThere: records without key go, as in Kafka, and so do older
// values, once a topic that only deleted is compacted.
func TestAPolicyOfCompactTakesHoldOfWhatIsThere(t *testing.T) {
	b := harness.Start(t, harness.Options{Store: harness.NoStore, Settings: map[string]string{"log.cleaner.backoff.ms": "20ms"}})
	configs := maps.Clone(compacted)
	configs["cleanup.policy"] = "delete"
	b.CreateTopic(t, "later", 1, configs)
	cl := b.Client(t, kgo.DefaultProduceTopic("later"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	for i := range 300 {
		r := &kgo.Record{Value: bytes.Repeat([]byte("x"), 10_000)}
		if i%2 == 0 {
			r.Key = fmt.Appendf(nil, "k%d", i%4)
		}
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	b.AlterTopic(t, "later", map[string]string{"cleanup.policy": "compact"})
	harness.Eventually(t, harness.Soon, "the sealed segments are compacted", func() error {
		consumer := b.Client(t, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"later": {0: kgo.NewOffset().AtStart()}}))
		defer consumer.Close()
		first := consumer.PollFetches(t.Context()).Records()[0]
		if first.Offset < 100 {
			return fmt.Errorf("the first record is that of offset %d", first.Offset)
		}
		return nil
	})
}
