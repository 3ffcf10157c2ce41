package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/integration/harness"
)

// tryDeleteRecords asks for one partition to begin at offset (-1: at its high watermark).
func tryDeleteRecords(t testing.TB, b *harness.Broker, topic string, partition int32, offset int64) kmsg.DeleteRecordsResponseTopicPartition {
	t.Helper()
	part := kmsg.NewDeleteRecordsRequestTopicPartition()
	part.Partition, part.Offset = partition, offset
	dt := kmsg.NewDeleteRecordsRequestTopic()
	dt.Topic, dt.Partitions = topic, append(dt.Partitions, part)
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = int32(harness.Soon.Milliseconds())
	req.Topics = append(req.Topics, dt)
	return harness.Do[*kmsg.DeleteRecordsResponse](t, b.Dial(t), 2, req).Topics[0].Partitions[0]
}

func deleteRecords(t testing.TB, b *harness.Broker, topic string, partition int32, offset int64) int64 {
	t.Helper()
	got := tryDeleteRecords(t, b, topic, partition, offset)
	if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
		t.Fatalf("delete records of %s/%d before %d: %v", topic, partition, offset, err)
	}
	return got.LowWatermark
}

// TestDeletedRecordsStayGone moves the log start through the cold and the hot part of a partition.
// It may never go back: not by an older request, nor by kill -9.
func TestDeletedRecordsStayGone(t *testing.T) {
	b := harness.Start(t, harness.Options{})
	const topic, n = "delete-records", 20
	b.CreateTopic(t, topic, 1, harness.Edge)
	for i := range n {
		b.Produce(t, topic, 0, harness.Payload(uint64(i), 300<<10))
	}
	p := settled(t, b, topic)
	if p.LocalStart.Offset < 4 || p.LocalStart.Offset >= n {
		t.Fatalf("local start %d: nothing is cold, or nothing hot", p.LocalStart.Offset)
	}
	raw := b.Dial(t)
	log := harness.FetchLog(t, raw, topic, 0, 0, n)
	size := len(log) / n // the batches are of one size
	check := func(start int64) {
		t.Helper()
		raw := b.Dial(t)
		expectOffset(t, "earliest", listOffset(t, raw, 1, topic, 0, atEarliest), start, -1)
		for offset := range start {
			if got := harness.Fetch(t, raw, topic, 0, offset); got.ErrorCode != kerr.OffsetOutOfRange.Code || got.LogStartOffset != start {
				t.Errorf("fetch at %d: error code %d, log start %d; want %d and %d",
					offset, got.ErrorCode, got.LogStartOffset, kerr.OffsetOutOfRange.Code, start)
			}
		}
		if start < n {
			if got := harness.FetchLog(t, raw, topic, 0, start, n); string(got) != string(log[int(start)*size:]) {
				t.Errorf("from %d: %d bytes that are not the rest of the log", start, len(got))
			}
		}
	}
	hot := p.LocalStart.Offset + 1
	for _, offset := range []int64{2, 1, hot} { // 1 changes nothing
		if low, want := deleteRecords(t, b, topic, 0, offset), max(offset, 2); low != want {
			t.Errorf("delete before %d: low watermark %d, want %d", offset, low, want)
		}
		check(max(offset, 2))
	}
	for _, offset := range []int64{n + 1, -2} {
		if got := tryDeleteRecords(t, b, topic, 0, offset); got.ErrorCode != kerr.OffsetOutOfRange.Code {
			t.Errorf("delete before %d: error code %d, want %d", offset, got.ErrorCode, kerr.OffsetOutOfRange.Code)
		}
	}
	b.Kill(t)
	b.Restart(t)
	check(hot)
	if low := deleteRecords(t, b, topic, 0, -1); low != n {
		t.Errorf("delete everything: low watermark %d, want %d", low, n)
	}
	check(n)
	b.Stop(t)
	b.Restart(t)
	check(n)
	b.Produce(t, topic, 0, []byte("next"))
	if got := b.Consume(t, topic, 0, n, n+1); string(got[0].Value) != "next" {
		t.Errorf("offset %d holds %q", n, got[0].Value)
	}
}

func deleteTopic(t testing.TB, b *harness.Broker, topic string) error {
	t.Helper()
	dt := kmsg.NewDeleteTopicsRequestTopic()
	dt.Topic = kmsg.StringPtr(topic)
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis = int32(harness.Soon.Milliseconds())
	req.Topics = append(req.Topics, dt)
	return kerr.ErrorForCode(harness.Do[*kmsg.DeleteTopicsResponse](t, b.Dial(t), 6, req).Topics[0].ErrorCode)
}

// TestDeletedTopicLeavesNothingButItsTombstone deletes a topic of which one part is cold. Its
// objects and its directory go; a new topic of the same name is empty; another topic keeps all.
func TestDeletedTopicLeavesNothingButItsTombstone(t *testing.T) {
	b := sharedBroker(t)
	const topic, other = "deleted", "deleted-not"
	for _, name := range []string{topic, other} {
		b.CreateTopic(t, name, 2, harness.Edge)
		for p := range int32(2) {
			b.Produce(t, name, p, harness.Payload(1, 900<<10), harness.Payload(2, 900<<10), harness.Payload(3, 900<<10))
		}
		b.Flush(t, name)
	}
	id := b.Tier(t, topic).TopicID
	objects, local := b.TopicObjects(t, topic), filepath.Join(b.Data, "topics", id)
	for _, dir := range []string{objects, local} {
		if countFiles(t, dir) == 0 {
			t.Fatalf("%s is empty before the topic is deleted", dir)
		}
	}
	if err := deleteTopic(t, b, topic); err != nil {
		t.Fatal(err)
	}
	if err := deleteTopic(t, b, topic); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("delete it again: %v", err)
	}
	b.CreateTopic(t, topic, 1, harness.Edge)
	raw := b.Dial(t)
	expectOffset(t, "latest of the new topic", listOffset(t, raw, 1, topic, 0, atLatest), 0, -1)
	harness.Eventually(t, harness.Late, "objects and files of the deleted topic go", func() error {
		for _, dir := range []string{objects, local} {
			if n := countFiles(t, dir); n > 0 {
				return fmt.Errorf("%s holds %d files", dir, n)
			}
		}
		return nil
	})
	if stones, err := filepath.Glob(filepath.Join(b.Bucket, "*", "deleted", id+".json")); err != nil || len(stones) != 1 {
		t.Errorf("tombstones of %s: %v, %v", id, stones, err)
	}
	if got := b.Consume(t, other, 1, 0, 3); len(got[2].Value) != 900<<10 {
		t.Errorf("the other topic's last record has %d bytes", len(got[2].Value))
	}
}

// countFiles counts the files under a directory; one that is not there holds none.
func countFiles(t testing.TB, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err):
			return nil
		case err != nil:
			return err
		case !d.IsDir():
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
