package broker

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/record"
)

// keyless is a batch whose second record has no key.
func keyless(t *testing.T) []byte {
	t.Helper()
	b := record.NewBuilder(record.None)
	b.Append(record.Record{Timestamp: time.Now().UnixMilli(), Key: []byte("k")})
	b.Append(record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte("no key")})
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func TestProduceSaysWhyItRefuses(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	c.makeTopic("t", 1, nil)
	c.makeTopic("compacted", 1, map[string]string{"cleanup.policy": "compact"})
	c.makeTopic("small", 1, map[string]string{"max.message.bytes": "1000"})
	rotten := batchOf(t, 1, 100)
	rotten[len(rotten)-1] ^= 1
	good := batchOf(t, 1, 10)
	two := append(append([]byte(nil), good...), good...)
	of := func(version, acks int16, topic string, p int32, b []byte) *kmsg.ProduceRequest {
		return produceOf(version, acks, topic, [16]byte{1}, map[int32][]byte{p: b})
	}
	for _, x := range []struct {
		what string
		req  *kmsg.ProduceRequest
		want int16
	}{
		{"all is well", of(9, -1, "t", 0, good), 0},
		{"acks=1", of(9, 1, "t", 0, good), 0},
		{"acks=2", of(9, 2, "t", 0, good), kerr.InvalidRequiredAcks.Code},
		{"an unknown topic", of(9, -1, "none", 0, good), kerr.UnknownTopicOrPartition.Code},
		{"a bad name", of(9, -1, "a#", 0, good), kerr.InvalidTopicException.Code},
		{"an unknown partition", of(9, -1, "t", 1, good), kerr.UnknownTopicOrPartition.Code},
		{"an unknown id", of(13, -1, "", 0, good), kerr.UnknownTopicID.Code},
		{"a flipped bit", of(9, -1, "t", 0, rotten), kerr.CorruptMessage.Code},
		{"two batches", of(9, -1, "t", 0, two), kerr.InvalidRecord.Code},
		{"nothing", of(9, -1, "t", 0, []byte{}), kerr.InvalidRecord.Code},
		{"too much", of(9, -1, "small", 0, batchOf(t, 1, 1000)), kerr.MessageTooLarge.Code},
		{"a record without key", of(9, -1, "compacted", 0, keyless(t)), kerr.InvalidRecord.Code},
	} {
		got := ask[*kmsg.ProduceResponse](c, x.req).Topics[0].Partitions[0]
		if got.ErrorCode != x.want || (x.want == 0) != (got.BaseOffset >= 0) {
			t.Errorf("%s: code %d, want %d, offset %d", x.what, got.ErrorCode, x.want, got.BaseOffset)
		}
		if x.what == "a record without key" && (len(got.ErrorRecords) != 1 || got.ErrorRecords[0].RelativeOffset != 1 || got.ErrorMessage == nil) {
			t.Errorf("%s: %+v", x.what, got)
		}
	}
	eventually(t, "two records are in the log", func() bool { return replicaOf(t, b, "t", 0).HW() == 2 })
}

// TestPartitionsOfARequestMayBeDurableBeforeItIsReadToItsEnd: with a hundred partitions in each
// request, the first ones are acknowledged by the flusher while the last ones are still parsed.
func TestPartitionsOfARequestMayBeDurableBeforeItIsReadToItsEnd(t *testing.T) {
	const partitions, rounds = 100, 40
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	c.makeTopic("t", partitions, nil)
	for round := range rounds {
		batches := map[int32][]byte{}
		for p := range int32(partitions) {
			batches[p] = batchOf(t, 1, 100)
		}
		seen := 0
		for _, got := range ask[*kmsg.ProduceResponse](c, produceOf(9, -1, "t", [16]byte{}, batches)).Topics[0].Partitions {
			if got.ErrorCode != 0 || got.BaseOffset != int64(round) {
				t.Errorf("round %d, partition %d: code %d, offset %d", round, got.Partition, got.ErrorCode, got.BaseOffset)
			}
			seen++
		}
		if seen != partitions {
			t.Fatalf("round %d: %d answers", round, seen)
		}
	}
}

func TestAnUnansweredProduceThatFailsClosesTheConnection(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	c.makeTopic("t", 1, nil)
	c.send(produceOf(9, 0, "t", [16]byte{}, map[int32][]byte{0: batchOf(t, 1, 10)}))
	eventually(t, "the record is there", func() bool { return replicaOf(t, b, "t", 0).HW() == 1 })
	req := produceOf(9, 0, "none", [16]byte{}, map[int32][]byte{0: batchOf(t, 1, 10)})
	c.send(req)
	if _, err := c.tryReceive(req); !errors.Is(err, io.EOF) {
		t.Errorf("read after it: %v", err)
	}
}

func TestLogAppendTimeIsInTheStoredBatchAndInTheAnswer(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	c.makeTopic("t", 1, map[string]string{"message.timestamp.type": "LogAppendTime"})
	before := time.Now().UnixMilli()
	got := ask[*kmsg.ProduceResponse](c, produceOf(9, -1, "t", [16]byte{}, map[int32][]byte{0: batchOf(t, 1, 10)})).Topics[0].Partitions[0]
	if got.ErrorCode != 0 || got.LogAppendTime < before {
		t.Fatalf("%+v", got)
	}
	stored := fetched(ask[*kmsg.FetchResponse](c, fetchOf(12, 0, -1, "t", 0)))[0].RecordBatches
	batch, err := record.Parse(stored)
	if err != nil || !batch.Attributes().LogAppendTime() || batch.MaxTimestamp() != got.LogAppendTime || batch.CheckCRC() != nil {
		t.Errorf("stored %v, %v", batch, err)
	}
}

// deafStore accepts connections and never answers.
func deafStore(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var open []net.Conn
		for {
			nc, err := ln.Accept()
			if err != nil {
				break
			}
			open = append(open, nc)
		}
		for _, nc := range open {
			_ = nc.Close()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	return ln.Addr().String()
}

func TestCloseIsBoundedWithAColdReadOfADeadStore(t *testing.T) {
	cfg := testConfig(t, t.TempDir())
	cfg.LogRetentionCheck = 100 * time.Millisecond
	b := openBroker(t, cfg)
	c := dialProto(t, b)
	c.makeTopic("t", 1, map[string]string{
		"segment.bytes": "1048576", "local.retention.bytes": "0", "remote.storage.enable": "true",
	})
	for range 4 {
		c.mustProduce("t", 0, batchOf(t, 1, 900_000))
	}
	rep := replicaOf(t, b, "t", 0)
	eventually(t, "local segments went", func() bool { return rep.Segments()[0].Base > 0 })
	closeBroker(t, b)

	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	if err := os.RemoveAll(filepath.Join(cfg.DataDir, "cache")); err != nil {
		t.Fatal(err)
	}
	cfg.Store = "s3://bucket?region=us-east-1&path_style=true&endpoint=http://" + deafStore(t)
	cfg.RemoteFetchMaxWait = time.Minute
	b = openBroker(t, cfg)
	c = dialProto(t, b)
	req := fetchOf(12, 0, -1, "t", 0)
	req.MaxWaitMillis = 60_000
	c.send(req)
	eventually(t, "the fetch waits for the store", func() bool { return b.wire.Stats().Requests > 0 })
	start := time.Now()
	if err := b.Close(context.Background()); err != nil {
		t.Errorf("close: %v", err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
}
