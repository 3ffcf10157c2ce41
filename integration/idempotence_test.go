package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/integration/harness"
)

// newProducer gets a producer id, as an idempotent producer does first.
func newProducer(t testing.TB, raw *harness.Raw) harness.Producer {
	t.Helper()
	req := kmsg.NewPtrInitProducerIDRequest()
	req.ProducerID, req.ProducerEpoch = -1, -1
	resp := harness.Do[*kmsg.InitProducerIDResponse](t, raw, 4, req)
	if resp.ErrorCode != 0 || resp.ProducerID < 0 {
		t.Fatalf("InitProducerID: error code %d, id %d", resp.ErrorCode, resp.ProducerID)
	}
	return harness.Producer{ID: resp.ProducerID, Epoch: resp.ProducerEpoch}
}

func smallBatch(p harness.Producer, values ...string) []byte {
	var records []harness.Record
	for _, v := range values {
		records = append(records, harness.Record{Time: time.Now().UnixMilli(), Value: []byte(v)})
	}
	return harness.NewBatch(p, records...)
}

// TestRetriedBatchesKeepTheirOffset sends batches of one producer twice. The second answer is the
// first one's offset, and nothing is written: at once, after kill -9, after a clean restart, and
// when the batch itself exists only in the store.
func TestRetriedBatchesKeepTheirOffset(t *testing.T) {
	b := harness.Start(t, harness.Options{})
	const topic = "idempotent"
	b.CreateTopic(t, topic, 1, harness.Cold)
	raw := b.Dial(t)
	producer := newProducer(t, raw)
	batches := make([][]byte, 5) // what Kafka remembers of a producer
	send := func(i int) kmsg.ProduceResponseTopicPartition {
		t.Helper()
		return harness.ProduceBatch(t, raw, topic, 0, append([]byte(nil), batches[i]...))
	}
	for i := range batches {
		p := producer
		p.Sequence = int32(3 * i)
		batches[i] = smallBatch(p, "a", "b", fmt.Sprint(i))
		if got := send(i); got.ErrorCode != 0 || got.BaseOffset != int64(3*i) {
			t.Fatalf("batch %d: error code %d, offset %d", i, got.ErrorCode, got.BaseOffset)
		}
	}
	again := func(when string) {
		t.Helper()
		for i := range batches {
			if got := send(i); got.ErrorCode != 0 || got.BaseOffset != int64(3*i) {
				t.Errorf("%s: batch %d again: error code %d, offset %d, want %d", when, i, got.ErrorCode, got.BaseOffset, 3*i)
			}
		}
		expectOffset(t, when+": latest", listOffset(t, raw, 1, topic, 0, atLatest), 15, -1)
	}
	again("at once")
	b.Kill(t)
	b.Restart(t)
	raw = b.Dial(t)
	again("after kill -9")
	b.Stop(t)
	b.Restart(t)
	raw = b.Dial(t)
	again("after a clean restart")
	b.GoCold(t, topic, 0)
	again("cold")
	b.Kill(t)
	b.Restart(t)
	raw = b.Dial(t)
	again("cold, after kill -9")
	checkSequences(t, raw, topic, producer, 15)
}

// checkSequences sends what a producer must never send after sequence next.
func checkSequences(t *testing.T, raw *harness.Raw, topic string, producer harness.Producer, next int32) {
	t.Helper()
	for _, bad := range []struct {
		what string
		p    harness.Producer
		code *kerr.Error
	}{
		{"a gap", harness.Producer{ID: producer.ID, Epoch: producer.Epoch, Sequence: next + 1}, kerr.OutOfOrderSequenceNumber},
		{"a new epoch that does not begin at 0", harness.Producer{ID: producer.ID, Epoch: producer.Epoch + 1, Sequence: 7}, kerr.OutOfOrderSequenceNumber},
	} {
		if got := harness.ProduceBatch(t, raw, topic, 0, smallBatch(bad.p, "x")); got.ErrorCode != bad.code.Code {
			t.Errorf("%s: error code %d, want %v", bad.what, got.ErrorCode, bad.code)
		}
	}
	later := harness.Producer{ID: producer.ID, Epoch: producer.Epoch + 1}
	if got := harness.ProduceBatch(t, raw, topic, 0, smallBatch(later, "new epoch")); got.ErrorCode != 0 || got.BaseOffset != int64(next) {
		t.Errorf("a new epoch: error code %d, offset %d", got.ErrorCode, got.BaseOffset)
	}
	producer.Sequence = next
	if got := harness.ProduceBatch(t, raw, topic, 0, smallBatch(producer, "zombie")); got.ErrorCode != kerr.InvalidProducerEpoch.Code {
		t.Errorf("an old epoch: error code %d, want %v", got.ErrorCode, kerr.InvalidProducerEpoch)
	}
}
