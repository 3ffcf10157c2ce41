package integration

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"varve/integration/harness"
)

// codecs in the order of the partitions that hold them.
var codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// client is one Kafka client library or program. Both functions fail the test themselves.
// Consumers assign partitions by hand; groups_test.go lets them join groups.
type client struct {
	name string
	need func(t testing.TB) // skips if the client is not there; nil: it always is
	// can gives the records of the set that the client is able to write as they are, in the order
	// in which it writes them.
	can func(set []harness.Record) []harness.Record
	// produce writes records to one partition, in order.
	produce func(t testing.TB, b *harness.Broker, topic string, partition int32, codec string, records []harness.Record)
	// sees is a record as the client shows it where that is less than what it is; nil: all is shown.
	sees func(r harness.Record) harness.Record
	// consume reads the first counts[p] records of each partition p of a topic.
	consume func(t testing.TB, b *harness.Broker, topic string, counts map[int32]int) harness.Expected
}

var clients = []client{kcatClient, kgoClient, saramaClient, kafkaGoClient, confluentClient}

// all is client.can for those that write everything.
func all(set []harness.Record) []harness.Record { return set }

// available skips the test of a client that is not there.
func (c client) available(t testing.TB) {
	t.Helper()
	if c.need != nil {
		c.need(t)
	}
}

// view is what the client should show of a topic.
func (c client) view(want harness.Expected) harness.Expected {
	if c.sees == nil {
		return want
	}
	out := harness.Expected{}
	for p, records := range want {
		for _, r := range records {
			r.Headers = slices.Clone(r.Headers)
			out[p] = append(out[p], c.sees(r))
		}
	}
	return out
}

// counts is how many records each partition of a topic should have.
func counts(want harness.Expected) map[int32]int {
	out := make(map[int32]int, len(want))
	for p, records := range want {
		out[p] = len(records)
	}
	return out
}

// eachPartition reads the partitions of a topic at one time, each by read: clients that close a
// reader only after its last poll would otherwise take seconds for a topic.
func eachPartition(t testing.TB, counts map[int32]int, read func(partition int32, n int) ([]harness.Record, error)) harness.Expected {
	t.Helper()
	type answer struct {
		partition int32
		records   []harness.Record
		err       error
	}
	answers := make(chan answer, len(counts))
	for p, n := range counts {
		go func() { // read is bounded in time, and its answer is waited for
			records, err := read(p, n)
			answers <- answer{p, records, err}
		}()
	}
	out := harness.Expected{}
	for range counts {
		a := <-answers
		if a.err != nil {
			t.Errorf("consume partition %d: %v after %d of %d records", a.partition, a.err, len(a.records), counts[a.partition])
		}
		out[a.partition] = a.records
	}
	return out
}

// renumber gives records the offsets that they get in an empty partition.
func renumber(records []harness.Record) []harness.Record {
	records = slices.Clone(records)
	for i := range records {
		records[i].Offset = int64(i)
	}
	return records
}

// TestEveryClientReadsWhatEveryClientWrote has each client write the set in each codec to a topic
// of its own, and each client read every such topic twice: from local disk, and after all of it has
// left the disk, from the object store.
func TestEveryClientReadsWhatEveryClientWrote(t *testing.T) {
	b := sharedBroker(t)
	written := map[string]harness.Expected{}
	for _, c := range clients {
		t.Run("write/"+c.name, func(t *testing.T) {
			c.available(t)
			topic := "round-trip-" + c.name
			written[topic] = writeSet(t, b, c, topic)
		})
	}
	topics := slices.Sorted(maps.Keys(written))
	readAll(t, b, "hot", written)
	for _, topic := range topics {
		b.AlterTopic(t, topic, harness.Cold)
		b.GoCold(t, topic, 0)
	}
	readAll(t, b, "cold", written)
}

func writeSet(t *testing.T, b *harness.Broker, c client, topic string) harness.Expected {
	t.Helper()
	b.CreateTopic(t, topic, int32(len(codecs)), harness.Warm)
	want := harness.Expected{}
	for i, codec := range codecs {
		records := renumber(c.can(harness.Set(c.name + " " + codec)))
		c.produce(t, b, topic, int32(i), codec, records)
		want[int32(i)] = records
	}
	return want
}

func readAll(t *testing.T, b *harness.Broker, tier string, written map[string]harness.Expected) {
	t.Helper()
	for _, c := range clients {
		t.Run(tier+"/"+c.name, func(t *testing.T) {
			c.available(t)
			for _, topic := range slices.Sorted(maps.Keys(written)) {
				want := written[topic]
				if err := checkTier(b.Tier(t, topic), tier, want); err != nil {
					t.Fatal(err)
				}
				if err := harness.Diff(c.view(want), c.consume(t, b, topic, counts(want))); err != nil {
					t.Errorf("%s: %v", topic, err)
				}
			}
		})
	}
}

// checkTier makes sure that a read is of the tier that the test's name says.
func checkTier(topic harness.TierTopic, tier string, want harness.Expected) error {
	if len(topic.Partitions) != len(want) {
		return fmt.Errorf("%s has %d partitions, want %d", topic.Topic, len(topic.Partitions), len(want))
	}
	for _, p := range topic.Partitions {
		end, local := int64(len(want[p.Partition])), int64(0)
		if tier == "cold" {
			local = end
		}
		if p.HighWatermark.Offset != end || p.LocalStart.Offset != local || p.LogStart.Offset != 0 {
			return fmt.Errorf("%s/%d: log start %d, local start %d, high watermark %d; want 0, %d, %d",
				topic.Topic, p.Partition, p.LogStart.Offset, p.LocalStart.Offset, p.HighWatermark.Offset, local, end)
		}
	}
	return nil
}
