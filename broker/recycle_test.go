package broker

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/record"
)

// recycleValue is a value of always the same length that says where it belongs.
func recycleValue(partition int32, n int) []byte {
	v := make([]byte, 64<<10)
	copy(v, fmt.Sprintf("partition %03d record %010d", partition, n))
	for i := 64; i < len(v); i++ {
		v[i] = byte(partition)
	}
	return v
}

// rawFetch asks for one partition on a connection of its own and reads nothing of the answer.
func rawFetch(t *testing.T, addr, topic string, partition int32, offset int64) *net.TCPConn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = 11, 1000, 1, 1<<20, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = partition, offset, 1<<20
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	if _, err := nc.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, 7)); err != nil {
		t.Fatal(err)
	}
	return nc.(*net.TCPConn)
}

// readFetch reads the answer of rawFetch and returns its batches.
func readFetch(t *testing.T, nc *net.TCPConn) []byte {
	t.Helper()
	if err := nc.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var head [8]byte
	if _, err := io.ReadFull(nc, head[:]); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:])-4)
	if _, err := io.ReadFull(nc, body); err != nil {
		t.Fatal(err)
	}
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = 11
	if err := resp.ReadFrom(body); err != nil {
		t.Fatal(err)
	}
	if code := resp.Topics[0].Partitions[0].ErrorCode; code != 0 {
		t.Fatalf("fetch: code %d", code)
	}
	return resp.Topics[0].Partitions[0].RecordBatches
}

// TestSlowReadersNeverSeeAByteOfAnotherSegment holds answers in socket queues while the segments
// they came from are dropped and their files recycled, with equal-sized batches in all partitions,
// so that a byte of the wrong segment would still parse.
func TestSlowReadersNeverSeeAByteOfAnotherSegment(t *testing.T) {
	const partitions, rounds, perRound = 3, 6, 60
	cfg := testConfig(t, t.TempDir())
	cfg.LogRetentionCheck = 100 * time.Millisecond
	b := openBroker(t, cfg)
	defer closeBroker(t, b)
	c := client(t, b, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(1<<20), kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	createTopic(t, c, "recycled", partitions, map[string]string{
		"segment.bytes": "1048576", "retention.bytes": "1048576", "varve.segment.recycle.window.ms": "3600000",
	})
	type pending struct {
		conn      *net.TCPConn
		partition int32
	}
	next := 0
	produce := func() {
		t.Helper()
		for range perRound {
			for p := range int32(partitions) {
				r := &kgo.Record{Topic: "recycled", Partition: p, Value: recycleValue(p, next)}
				if err := c.ProduceSync(t.Context(), r).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			next++
		}
	}
	produce()
	recycled := false
	for range rounds {
		var held []pending
		for p := range int32(partitions) {
			start := b.set.ByName("recycled").Partition(p).LogStart()
			held = append(held, pending{rawFetch(t, b.Addresses().Kafka, "recycled", p, start), p})
		}
		produce() // rolls several segments of each partition, and drops the ones being sent
		for _, h := range held {
			checkOwn(t, readFetch(t, h.conn), h.partition)
			h.conn.Close()
		}
		recycled = recycled || b.set.ByName("recycled").Partition(0).LogStart() > 0
	}
	if !recycled {
		t.Error("nothing was dropped: the test did not test")
	}
}

// checkOwn verifies that a Fetch answer holds nothing but records of its own partition and offset.
func checkOwn(t *testing.T, b []byte, partition int32) {
	t.Helper()
	if len(b) < 64<<10 {
		t.Fatalf("partition %d: %d bytes", partition, len(b))
	}
	for len(b) > 0 {
		batch, err := record.Parse(b)
		if err != nil {
			return // cut by the byte limit
		}
		if err := batch.CheckCRC(); err != nil {
			t.Fatalf("partition %d offset %d: %v", partition, batch.BaseOffset(), err)
		}
		for r, err := range batch.Records(1 << 20) {
			if err != nil {
				t.Fatal(err)
			}
			if want := recycleValue(partition, int(r.Offset)); string(r.Value) != string(want) {
				t.Fatalf("partition %d offset %d holds %q", partition, r.Offset, r.Value[:40])
			}
		}
		b = b[batch.Len():]
	}
}
