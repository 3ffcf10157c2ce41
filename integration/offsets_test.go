package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/integration/harness"
)

// The special timestamps of ListOffsets, with the first version that knows them.
const (
	atLatest        = -1
	atEarliest      = -2
	atMaxTimestamp  = -3 // v7, KIP-734
	atEarliestLocal = -4 // v8, KIP-405
	atLatestTiered  = -5 // v9, KIP-1005
	atPendingUpload = -6 // v11, KIP-1023
)

// listOffset asks for one partition; offset and time are -1 where there is none.
func listOffset(t testing.TB, raw *harness.Raw, version int16, topic string, partition int32, ts int64) kmsg.ListOffsetsResponseTopicPartition {
	t.Helper()
	part := kmsg.NewListOffsetsRequestTopicPartition()
	part.Partition, part.Timestamp = partition, ts
	lt := kmsg.NewListOffsetsRequestTopic()
	lt.Topic, lt.Partitions = topic, append(lt.Partitions, part)
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.TimeoutMillis = -1, int32(harness.Soon.Milliseconds())
	req.Topics = append(req.Topics, lt)
	return harness.Do[*kmsg.ListOffsetsResponse](t, raw, version, req).Topics[0].Partitions[0]
}

func expectOffset(t *testing.T, what string, got kmsg.ListOffsetsResponseTopicPartition, offset, ts int64) {
	t.Helper()
	if got.ErrorCode != 0 || got.Offset != offset || got.Timestamp != ts {
		t.Errorf("%s: error code %d, offset %d, timestamp %d; want offset %d, timestamp %d",
			what, got.ErrorCode, got.Offset, got.Timestamp, offset, ts)
	}
}

// timedBatches writes batches of records with the given times, about 300 KiB each, so that a
// segment of 1 MiB holds three.
func timedBatches(t *testing.T, b *harness.Broker, topic string, partition int32, batches [][]int64) (times []int64) {
	t.Helper()
	raw := b.Dial(t)
	for i, batch := range batches {
		var records []harness.Record
		for _, ts := range batch {
			records = append(records, harness.Record{Time: ts, Value: harness.Payload(uint64(i), 300<<10/len(batch))})
		}
		if got := harness.ProduceBatch(t, raw, topic, partition, harness.NewBatch(harness.NoProducer, records...)); got.ErrorCode != 0 {
			t.Fatalf("produce batch %d: error code %d", i, got.ErrorCode)
		}
		times = append(times, batch...)
	}
	return times
}

// TestListOffsetsIsExactOverBothTiers compares lookups by time, and all special timestamps, with a
// scan of the records: on local disk alone, over the border of the tiers, and in the store alone.
func TestListOffsetsIsExactOverBothTiers(t *testing.T) {
	b := sharedBroker(t)
	start := time.Now().Add(-24 * time.Hour).UnixMilli()
	batches := [][]int64{ // times go back between and within batches, and the greatest come first
		{0, 10, 20},
		{30, 25, 40},
		{40, 40, 40},
		{35, 50, 45},
		{900, 990, 950},
		{60, 70, 65},
		{80, 80, 90},
		{100, 95, 110},
		{110, 120, 130},
		{130, 990, 140},
		{150, 160, 170},
		{180, 175, 190},
	}
	for _, batch := range batches {
		for i := range batch {
			batch[i] += start
		}
	}
	const topic = "offsets"
	b.CreateTopic(t, topic, 1, harness.Warm)
	times := timedBatches(t, b, topic, 0, batches)
	t.Run("hot", func(t *testing.T) { compareOffsets(t, b, topic, times) })
	b.AlterTopic(t, topic, harness.Edge)
	harness.Eventually(t, harness.Late, "the older part leaves the disk", func() error {
		if p := b.Tier(t, topic).Partitions[0]; p.LocalStart.Offset == 0 {
			return fmt.Errorf("local start 0, tiered end %d", p.TieredEnd.Offset)
		}
		return nil
	})
	t.Run("both", func(t *testing.T) { compareOffsets(t, b, topic, times) })
	b.AlterTopic(t, topic, harness.Cold)
	b.GoCold(t, topic, 0)
	t.Run("cold", func(t *testing.T) { compareOffsets(t, b, topic, times) })
	deleteRecords(t, b, topic, 0, 16)
	times = append(makeGone(16), times[16:]...)
	t.Run("trimmed", func(t *testing.T) { compareOffsets(t, b, topic, times) })
}

// gone is the time of a deleted record in a model.
const gone = -1

func makeGone(n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = gone
	}
	return out
}

func compareOffsets(t *testing.T, b *harness.Broker, topic string, times []int64) {
	t.Helper()
	raw := b.Dial(t)
	p := settled(t, b, topic)
	n := int64(len(times))
	expectOffset(t, "latest", listOffset(t, raw, 1, topic, 0, atLatest), n, -1)
	expectOffset(t, "earliest", listOffset(t, raw, 1, topic, 0, atEarliest), p.LogStart.Offset, -1)
	expectOffset(t, "earliest local", listOffset(t, raw, 8, topic, 0, atEarliestLocal), p.LocalStart.Offset, -1)
	latestTiered := p.TieredEnd.Offset - 1
	if p.TieredEnd.Offset == p.LogStart.Offset {
		latestTiered = -1
	}
	expectOffset(t, "latest tiered", listOffset(t, raw, 9, topic, 0, atLatestTiered), latestTiered, -1)
	expectOffset(t, "earliest pending upload", listOffset(t, raw, 11, topic, 0, atPendingUpload), p.TieredEnd.Offset, -1)
	maxAt, maxTime := int64(-1), int64(-1)
	for offset, ts := range times {
		if ts > maxTime {
			maxAt, maxTime = int64(offset), ts
		}
	}
	expectOffset(t, "max timestamp", listOffset(t, raw, 7, topic, 0, atMaxTimestamp), maxAt, maxTime)
	asked := map[int64]bool{0: true}
	for _, ts := range times {
		if ts != gone {
			asked[ts-1], asked[ts], asked[ts+1] = true, true, true
		}
	}
	for ts := range asked {
		want, at := int64(-1), int64(-1)
		for offset, have := range times {
			if have != gone && have >= ts {
				want, at = int64(offset), have
				break
			}
		}
		expectOffset(t, fmt.Sprintf("time %d", ts), listOffset(t, raw, 10, topic, 0, ts), want, at)
	}
}

// settled waits until no upload or deletion of the topic is on its way.
func settled(t *testing.T, b *harness.Broker, topic string) (p harness.TierPartition) {
	t.Helper()
	last := ""
	harness.Eventually(t, harness.Late, "uploads of "+topic+" end", func() error {
		p = b.Tier(t, topic).Partitions[0]
		now := fmt.Sprint(p.TieredEnd, p.LocalStart, p.LogStart)
		pending := false
		for _, s := range b.Segments(t, topic) {
			pending = pending || s.Where == "disk" && !s.Active
		}
		if same := now == last; pending || !same {
			last = now
			return fmt.Errorf("sealed segments wait, or moved: %s", now)
		}
		return nil
	})
	return p
}
