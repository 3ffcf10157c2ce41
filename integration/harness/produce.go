package harness

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Producer is the idempotent part of a batch.
type Producer struct {
	ID       int64
	Epoch    int16
	Sequence int32
}

// NoProducer marks a batch of a producer that is not idempotent.
var NoProducer = Producer{ID: -1, Epoch: -1, Sequence: -1}

// NewBatch encodes records as an uncompressed batch, as a producer would send it.
func NewBatch(p Producer, records ...Record) []byte {
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, LastOffsetDelta: int32(len(records) - 1), FirstTimestamp: records[0].Time,
		MaxTimestamp: records[0].Time, ProducerID: p.ID, ProducerEpoch: p.Epoch, FirstSequence: p.Sequence,
		NumRecords: int32(len(records)),
	}
	for i, r := range records {
		b.MaxTimestamp = max(b.MaxTimestamp, r.Time)
		rec := kmsg.Record{TimestampDelta64: r.Time - b.FirstTimestamp, OffsetDelta: int32(i), Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			rec.Headers = append(rec.Headers, kmsg.Header{Key: h.Key, Value: h.Value})
		}
		body := rec.AppendTo(nil)[1:] // without the length, which is 0 and so one byte
		b.Records = append(binary.AppendVarint(b.Records, int64(len(body))), body...)
	}
	out := b.AppendTo(nil)
	binary.BigEndian.PutUint32(out[BatchLength:], uint32(len(out)-12))
	SealBatch(out)
	return out
}

// ProduceBatch sends bytes as the records of one partition and gives the broker's answer.
func ProduceBatch(t testing.TB, r *Raw, topic string, partition int32, batch []byte) kmsg.ProduceResponseTopicPartition {
	t.Helper()
	part := kmsg.NewProduceRequestTopicPartition()
	part.Partition, part.Records = partition, batch
	pt := kmsg.NewProduceRequestTopic()
	pt.Topic, pt.Partitions = topic, append(pt.Partitions, part)
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, int32(Soon.Milliseconds())
	req.Topics = append(req.Topics, pt)
	resp := Do[*kmsg.ProduceResponse](t, r, 9, req)
	return resp.Topics[0].Partitions[0]
}

// FetchLog reads the raw batches of one partition, from the one that holds offset from up to end.
func FetchLog(t testing.TB, r *Raw, topic string, partition int32, from, end int64) []byte {
	t.Helper()
	var log []byte
	for from < end {
		var answer kmsg.FetchResponseTopicPartition
		Eventually(t, Late, fmt.Sprintf("fetch %s/%d at %d", topic, partition, from), func() error {
			answer = Fetch(t, r, topic, partition, from)
			if answer.ErrorCode != 0 {
				return fmt.Errorf("error code %d", answer.ErrorCode)
			}
			if len(answer.RecordBatches) == 0 { // cold data that is still on its way
				return fmt.Errorf("no data, high watermark %d", answer.HighWatermark)
			}
			return nil
		})
		next, err := NextOffset(answer.RecordBatches)
		if err != nil {
			t.Fatalf("fetch %s/%d at %d: %v", topic, partition, from, err)
		}
		log, from = append(log, answer.RecordBatches...), next
	}
	return log
}

// Fetch asks once for one partition, without a session.
func Fetch(t testing.TB, r *Raw, topic string, partition int32, offset int64) kmsg.FetchResponseTopicPartition {
	t.Helper()
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = partition, offset, 4<<20
	ft := kmsg.NewFetchRequestTopic()
	ft.Topic, ft.Partitions = topic, append(ft.Partitions, part)
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = 500, 1, 50<<20, -1
	req.Topics = append(req.Topics, ft)
	resp := Do[*kmsg.FetchResponse](t, r, 12, req)
	if resp.ErrorCode != 0 || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		t.Fatalf("fetch %s/%d: error code %d, %d topics", topic, partition, resp.ErrorCode, len(resp.Topics))
	}
	return resp.Topics[0].Partitions[0]
}

// NextOffset walks whole batches, checks their CRCs and that no offset is missing between them,
// and tells the offset after the last one, -1 if there is none.
func NextOffset(batches []byte) (next int64, err error) {
	next = -1
	for b := batches; len(b) > 0; {
		if len(b) < BatchHeader {
			return 0, fmt.Errorf("a batch is cut off after %d bytes", len(b))
		}
		size := 12 + int(binary.BigEndian.Uint32(b[BatchLength:]))
		base := int64(binary.BigEndian.Uint64(b))
		switch {
		case size > len(b) || size < BatchHeader:
			return 0, fmt.Errorf("the batch at offset %d has %d bytes of %d", base, len(b), size)
		case next >= 0 && base != next:
			return 0, fmt.Errorf("a batch at offset %d after one that ends before %d", base, next)
		case CRC32C(b[BatchAttributes:size]) != binary.BigEndian.Uint32(b[BatchCRC:]):
			return 0, fmt.Errorf("the batch at offset %d has another CRC than its bytes", base)
		}
		next = base + int64(binary.BigEndian.Uint32(b[BatchLastDelta:])) + 1
		b = b[size:]
	}
	return next, nil
}
