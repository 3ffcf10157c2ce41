package integration

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/integration/harness"
)

// produceTo sends bytes as the records of one partition and gives the answer for it.
func produceTo(t *testing.T, r *harness.Raw, topic string, partition int32, acks int16, records []byte) kmsg.ProduceResponseTopicPartition {
	t.Helper()
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, records
	pt := kmsg.NewProduceRequestTopic()
	pt.Topic, pt.Partitions = topic, append(pt.Partitions, p)
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis, req.Topics = acks, 10_000, append(req.Topics, pt)
	return harness.Do[*kmsg.ProduceResponse](t, r, 9, req).Topics[0].Partitions[0]
}

// TestBadBatchIsRefusedWithItsCode damages one field of a batch after another. Each gets the code
// of the protocol and leaves nothing behind, and the connection goes on.
func TestBadBatchIsRefusedWithItsCode(t *testing.T) {
	b := sharedBroker(t)
	const topic = "bad-batch"
	b.CreateTopic(t, topic, 1, map[string]string{"max.message.bytes": "100000"})
	be := binary.BigEndian
	hours := func(n int) uint64 { return uint64(time.Now().Add(time.Duration(n) * time.Hour).UnixMilli()) }
	good := func() []byte { return harness.Batch([]byte("one"), []byte("two"), []byte("six")) }
	sealed := func(change func(b []byte)) []byte {
		out := good()
		change(out)
		harness.SealBatch(out)
		return out
	}
	r := b.Dial(t)
	for name, tc := range map[string]struct {
		records []byte
		want    *kerr.Error
	}{
		"no bytes":             {[]byte{}, kerr.InvalidRecord},
		"no records at all":    {nil, kerr.InvalidRecord},
		"a cut header":         {good()[:40], kerr.CorruptMessage},
		"a cut batch":          {good()[:70], kerr.CorruptMessage},
		"a length below":       {sealed(func(b []byte) { be.PutUint32(b[harness.BatchLength:], 3) }), kerr.CorruptMessage},
		"a negative length":    {sealed(func(b []byte) { be.PutUint32(b[harness.BatchLength:], 1<<31) }), kerr.CorruptMessage},
		"a huge length":        {sealed(func(b []byte) { be.PutUint32(b[harness.BatchLength:], 1<<31-1) }), kerr.CorruptMessage},
		"magic 0":              {sealed(func(b []byte) { b[harness.BatchMagic] = 0 }), kerr.InvalidRecord},
		"magic 1":              {sealed(func(b []byte) { b[harness.BatchMagic] = 1 }), kerr.InvalidRecord},
		"magic 3":              {sealed(func(b []byte) { b[harness.BatchMagic] = 3 }), kerr.CorruptMessage},
		"a flipped bit":        {func() []byte { b := good(); b[len(b)-2] ^= 4; return b }(), kerr.CorruptMessage},
		"a wrong CRC":          {func() []byte { b := good(); b[harness.BatchCRC] ^= 1; return b }(), kerr.CorruptMessage},
		"count 0":              {sealed(func(b []byte) { be.PutUint32(b[harness.BatchCount:], 0) }), kerr.InvalidRecord},
		"a negative count":     {sealed(func(b []byte) { be.PutUint32(b[harness.BatchCount:], 1<<32-1) }), kerr.InvalidRecord},
		"a huge count":         {sealed(func(b []byte) { be.PutUint32(b[harness.BatchCount:], 1<<31-1) }), kerr.InvalidRecord},
		"one too few":          {sealed(func(b []byte) { be.PutUint32(b[harness.BatchCount:], 2) }), kerr.InvalidRecord},
		"last delta too large": {sealed(func(b []byte) { be.PutUint32(b[harness.BatchLastDelta:], 3) }), kerr.InvalidRecord},
		"last delta negative":  {sealed(func(b []byte) { be.PutUint32(b[harness.BatchLastDelta:], 1<<32-1) }), kerr.InvalidRecord},
		"count and delta huge": {sealed(func(b []byte) {
			be.PutUint32(b[harness.BatchLastDelta:], 1<<31-2)
			be.PutUint32(b[harness.BatchCount:], 1<<31-1)
		}), kerr.InvalidRecord},
		"a control batch":       {sealed(func(b []byte) { b[harness.BatchAttributes+1] = 0x20 }), kerr.InvalidRecord},
		"transactional, no id":  {sealed(func(b []byte) { b[harness.BatchAttributes+1] = 0x10 }), kerr.InvalidRecord},
		"unknown codec":         {sealed(func(b []byte) { b[harness.BatchAttributes+1] = 7 }), kerr.InvalidRecord},
		"id without a sequence": {sealed(func(b []byte) { be.PutUint64(b[harness.BatchProducerID:], 5) }), kerr.InvalidRecord},
		"a day ahead": {sealed(func(b []byte) {
			be.PutUint64(b[harness.BatchMaxTimestamp:], hours(24))
		}), kerr.InvalidTimestamp},
		"the end of time": {sealed(func(b []byte) {
			be.PutUint64(b[harness.BatchFirstTimestamp:], 1<<63-1)
			be.PutUint64(b[harness.BatchMaxTimestamp:], 1<<63-1)
		}), kerr.InvalidTimestamp},
		"append time from a client": {sealed(func(b []byte) { b[harness.BatchAttributes+1] = 8 }), kerr.InvalidTimestamp},
		"two batches":               {append(good(), good()...), kerr.InvalidRecord},
		"a batch and bytes":         {append(good(), 1, 2, 3), kerr.InvalidRecord},
		"over max.message.bytes":    {harness.Batch(make([]byte, 100_001)), kerr.MessageTooLarge},
	} {
		got := produceTo(t, r, topic, 0, -1, tc.records)
		if err := kerr.ErrorForCode(got.ErrorCode); !errors.Is(err, tc.want) {
			t.Errorf("%s: answered %v, want %v", name, err, tc.want)
		}
		if got.BaseOffset != -1 {
			t.Errorf("%s: base offset %d", name, got.BaseOffset)
		}
	}
	if got := produceTo(t, r, topic, 0, -1, good()); got.ErrorCode != 0 || got.BaseOffset != 0 {
		t.Errorf("a good batch after all the bad ones: code %d, offset %d, want 0 and 0", got.ErrorCode, got.BaseOffset)
	}
}

// TestBadPlaceOfAProduceIsRefused names partitions, topics and acks that there are not.
func TestBadPlaceOfAProduceIsRefused(t *testing.T) {
	b := sharedBroker(t)
	const topic = "bad-place"
	b.CreateTopic(t, topic, 2, nil)
	r := b.Dial(t)
	for _, tc := range []struct {
		topic     string
		partition int32
		acks      int16
		want      *kerr.Error
	}{
		{topic, 2, -1, kerr.UnknownTopicOrPartition},
		{topic, -1, -1, kerr.UnknownTopicOrPartition},
		{topic, 1<<31 - 1, -1, kerr.UnknownTopicOrPartition},
		{"absent", 0, -1, kerr.UnknownTopicOrPartition},
		{"", 0, -1, kerr.InvalidTopicException},
		{"..", 0, -1, kerr.InvalidTopicException},
		{"../../etc/passwd", 0, -1, kerr.InvalidTopicException},
		{"a\x00b", 0, -1, kerr.InvalidTopicException},
		{strings.Repeat("n", 250), 0, -1, kerr.InvalidTopicException},
		{topic, 0, 2, kerr.InvalidRequiredAcks},
		{topic, 0, -2, kerr.InvalidRequiredAcks},
	} {
		got := produceTo(t, r, tc.topic, tc.partition, tc.acks, harness.Batch([]byte("x")))
		if err := kerr.ErrorForCode(got.ErrorCode); !errors.Is(err, tc.want) {
			t.Errorf("produce to %.20q/%d acks=%d: %v, want %v", tc.topic, tc.partition, tc.acks, err, tc.want)
		}
	}
}

// TestBadTopicIsRefusedWithItsReason creates and alters topics as nobody can have them: the code of
// the protocol, a message that helps, and no topic.
func TestBadTopicIsRefusedWithItsReason(t *testing.T) {
	b := sharedBroker(t)
	const exists = "bad-topic-exists"
	b.CreateTopic(t, exists, 3, nil)
	for _, tc := range []struct {
		name       string
		partitions int32
		configs    map[string]string
		want       *kerr.Error
		says       string
	}{
		{"", 1, nil, kerr.InvalidTopicException, ""},
		{".", 1, nil, kerr.InvalidTopicException, ""},
		{"..", 1, nil, kerr.InvalidTopicException, ""},
		{"a/b", 1, nil, kerr.InvalidTopicException, ""},
		{"ä", 1, nil, kerr.InvalidTopicException, ""},
		{strings.Repeat("n", 250), 1, nil, kerr.InvalidTopicException, ""},
		{exists, 1, nil, kerr.TopicAlreadyExists, ""},
		{"bad-topic", 0, nil, kerr.InvalidPartitions, ""},
		{"bad-topic", -2, nil, kerr.InvalidPartitions, ""},
		{"bad-topic", 1<<31 - 1, nil, kerr.InvalidPartitions, ""},
		{"bad-topic", 1, map[string]string{"retnetion.ms": "1"}, kerr.InvalidConfig, "retention.ms"},
		{"bad-topic", 1, map[string]string{"local.retention.byte": "1"}, kerr.InvalidConfig, "local.retention.bytes"},
		{"bad-topic", 1, map[string]string{"retention.ms": "soon"}, kerr.InvalidConfig, "retention.ms"},
		{"bad-topic", 1, map[string]string{"segment.bytes": "-1"}, kerr.InvalidConfig, "segment.bytes"},
		{"bad-topic", 1, map[string]string{"cleanup.policy": "burn"}, kerr.InvalidConfig, "cleanup.policy"},
		{"bad-topic", 1, map[string]string{"remote.storage.enable": "true", "retention.ms": "1000", "local.retention.ms": "2000"}, kerr.InvalidConfig, "local.retention.ms"},
		{"bad-topic", 1, map[string]string{"remote.storage.enable": "true", "retention.bytes": "1000", "local.retention.bytes": "2000"}, kerr.InvalidConfig, "local.retention.bytes"},
		{"bad-topic", 1, map[string]string{"remote.storage.enable": "true", "cleanup.policy": "compact"}, kerr.InvalidConfig, "compact"},
	} {
		err := b.TryCreateTopic(t, tc.name, tc.partitions, tc.configs)
		if err == nil || !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("create %.20q with %d partitions, %v: %v; want %v and %q", tc.name, tc.partitions, tc.configs, err, tc.want, tc.says)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("create %.20q: more than one line: %q", tc.name, err)
		}
	}
	if err := b.TryCreateTopic(t, "bad-topic", 1, nil); err != nil {
		t.Errorf("the name of all those refused topics is not free: %v", err)
	}
	for _, count := range []int32{0, -1, 2, 3, 1<<31 - 1} { // there are three
		topic := kmsg.NewCreatePartitionsRequestTopic()
		topic.Topic, topic.Count = exists, count
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.Topics, req.TimeoutMillis = append(req.Topics, topic), 10_000
		got := harness.Do[*kmsg.CreatePartitionsResponse](t, b.Dial(t), 3, req).Topics[0]
		if err := kerr.ErrorForCode(got.ErrorCode); !errors.Is(err, kerr.InvalidPartitions) {
			t.Errorf("partitions of a topic of three to %d: %v", count, err)
		}
	}
	err := b.TryAlterTopic(t, exists, map[string]string{"retention.m": "1"})
	if !errors.Is(err, kerr.InvalidConfig) || !strings.Contains(err.Error(), "retention.ms") {
		t.Errorf("alter with an unknown key: %v", err)
	}
}
