package broker

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/partition"
	"varve/broker/record"
)

// protoConn speaks the protocol without a client library in between, so that a test says exactly
// which version it sends and sees exactly the bytes that come back.
type protoConn struct {
	t    *testing.T
	nc   net.Conn
	next int32
}

// protoTimeout bounds one answer; nothing waits for it unless the broker is broken.
const protoTimeout = 15 * time.Second

func dialProto(t *testing.T, b *Broker) *protoConn {
	t.Helper()
	nc, err := net.Dial("tcp", b.Addresses().Kafka)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return &protoConn{t: t, nc: nc}
}

func (c *protoConn) send(req kmsg.Request) {
	c.t.Helper()
	c.next++
	if _, err := c.nc.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("test")).AppendRequest(nil, req, c.next)); err != nil {
		c.t.Fatal(err)
	}
}

// receive reads the answer to the last request: the bytes behind the response header.
func (c *protoConn) receive(req kmsg.Request) []byte {
	c.t.Helper()
	body, err := c.tryReceive(req)
	if err != nil {
		c.t.Fatalf("%s v%d: %v", kmsg.NameForKey(req.Key()), req.GetVersion(), err)
	}
	return body
}

func (c *protoConn) tryReceive(req kmsg.Request) ([]byte, error) {
	if err := c.nc.SetReadDeadline(time.Now().Add(protoTimeout)); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(c.nc, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c.nc, b); err != nil {
		return nil, err
	}
	if got := int32(binary.BigEndian.Uint32(b)); got != c.next {
		c.t.Fatalf("correlation id %d, want %d", got, c.next)
	}
	b = b[4:]
	if req.IsFlexible() && req.Key() != 18 {
		if b[0] != 0 {
			c.t.Fatalf("tags in the response header: %x", b[:4])
		}
		b = b[1:]
	}
	return b, nil
}

// ask sends req as it is, version included, and decodes the answer.
func ask[R kmsg.Response](c *protoConn, req kmsg.Request) R {
	c.t.Helper()
	c.send(req)
	return answer[R](c, req)
}

func answer[R kmsg.Response](c *protoConn, req kmsg.Request) R {
	c.t.Helper()
	body := c.receive(req)
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if err := resp.ReadFrom(body); err != nil {
		c.t.Fatalf("%s v%d: %v in %x", kmsg.NameForKey(req.Key()), req.GetVersion(), err, body)
	}
	return resp.(R)
}

// batchOf makes a batch of n records of the given size.
func batchOf(t *testing.T, n, size int) []byte {
	t.Helper()
	b := record.NewBuilder(record.None)
	for range n {
		b.Append(record.Record{Timestamp: time.Now().UnixMilli(), Key: []byte("k"), Value: make([]byte, size)})
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func produceOf(version, acks int16, topic string, id [16]byte, batches map[int32][]byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, acks, 10_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = topic, id
	for i, b := range batches {
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition, rp.Records = i, b
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

// mustProduce appends one batch to a partition, acks=all.
func (c *protoConn) mustProduce(topic string, p int32, batch []byte) {
	c.t.Helper()
	resp := ask[*kmsg.ProduceResponse](c, produceOf(9, -1, topic, [16]byte{}, map[int32][]byte{p: batch}))
	if got := resp.Topics[0].Partitions[0]; got.ErrorCode != 0 {
		c.t.Fatalf("produce to %s/%d: code %d", topic, p, got.ErrorCode)
	}
}

// fetchOf is a Fetch by name; offsets is by partition.
func fetchOf(version int16, session, epoch int32, topic string, offsets ...int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = version, 0, 1, 50<<20
	req.SessionID, req.SessionEpoch = session, epoch
	if len(offsets) == 0 {
		return req
	}
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = topic
	for i, off := range offsets {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = int32(i), off, 1<<20
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

// fetched is what a Fetch told, by partition number.
func fetched(resp *kmsg.FetchResponse) map[int32]kmsg.FetchResponseTopicPartition {
	out := map[int32]kmsg.FetchResponseTopicPartition{}
	for _, rt := range resp.Topics {
		for _, rp := range rt.Partitions {
			out[rp.Partition] = rp
		}
	}
	return out
}

// makeTopic creates a topic over the protocol and returns its id.
func (c *protoConn) makeTopic(name string, partitions int32, configs map[string]string) [16]byte {
	c.t.Helper()
	out := ask[*kmsg.CreateTopicsResponse](c, createOf(name, partitions, configs)).Topics[0]
	if out.ErrorCode != 0 {
		c.t.Fatalf("create %s: code %d %v", name, out.ErrorCode, out.ErrorMessage)
	}
	return out.TopicID
}

func createOf(name string, partitions int32, configs map[string]string) *kmsg.CreateTopicsRequest {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis = 7, 10_000
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, partitions, 1
	for k, v := range configs {
		rc := kmsg.NewCreateTopicsRequestTopicConfig()
		rc.Name, rc.Value = k, kmsg.StringPtr(v)
		rt.Configs = append(rt.Configs, rc)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

// eventually polls what no event tells.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(protoTimeout); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// protoBroker is a broker without tiering by default, closed at the end of the test.
func protoBroker(t *testing.T, change func(*Config)) *Broker {
	t.Helper()
	cfg := testConfig(t, t.TempDir())
	if change != nil {
		change(&cfg)
	}
	b := openBroker(t, cfg)
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// waiters tells how many readers are parked on a partition.
func replicaOf(t *testing.T, b *Broker, topic string, p int32) *partition.Replica {
	t.Helper()
	held := b.set.ByName(topic)
	if held == nil || held.Partition(p) == nil {
		t.Fatalf("no replica of %s/%d", topic, p)
	}
	return held.Partition(p)
}
