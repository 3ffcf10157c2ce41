package integration

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/integration/harness"
)

// The bounds of what the broker of TestBadInput holds at once, and of what it may take: frames,
// decoding (each byte of input can become a struct) and itself. The input that it gets asks for
// thousands of times as much.
const (
	badMaxFrame   = 16 << 20
	badFrameBytes = 64 << 20
	badMaxRSS     = 700 << 20
)

// badTopic is what bad input talks about.
const badTopic = "target"

// TestBadInputHarmsNobody sends a broker everything that is not the protocol. A good client beside
// it must get on all the time, the broker must live, and its memory stay bounded.
func TestBadInputHarmsNobody(t *testing.T) {
	b := harness.Start(t, harness.Options{Settings: map[string]string{
		"socket.request.max.bytes": strconv.Itoa(badMaxFrame), "queued.max.request.bytes": strconv.Itoa(badFrameBytes),
		"log.level": "error",
	}})
	b.CreateTopic(t, badTopic, 1, nil)
	for _, part := range []struct {
		name string
		test func(*testing.T, *harness.Broker)
	}{
		{"frames of any length", badFrames},
		{"any bytes in a frame", badBytes},
		{"tagged fields", badTags},
		{"unknown keys and versions", badKeys},
		{"any number anywhere in a request", badNumbers},
		{"slow writers and slow readers", badPeers},
	} {
		t.Run(part.name, func(t *testing.T) {
			part.test(t, b)
			mustServe(t, b)
		})
	}
	if rss := peakRSS(t, b.Pid()); rss > badMaxRSS {
		t.Errorf("the broker took %d MiB at its peak, more than %d", rss>>20, badMaxRSS>>20)
	} else {
		t.Logf("peak of resident memory: %d MiB", rss>>20)
	}
}

// mustServe shows that another client gets its work done: a record goes in and comes out.
func mustServe(t *testing.T, b *harness.Broker) {
	t.Helper()
	name := fmt.Sprintf("witness-%d", rand.Uint64())
	b.CreateTopic(t, name, 1, nil)
	b.Produce(t, name, 0, []byte("well"))
	if got := b.Consume(t, name, 0, 0, 1); string(got[0].Value) != "well" {
		t.Errorf("another client read %q", got[0].Value)
	}
}

// peakRSS is VmHWM, the most memory that a process ever had resident.
func peakRSS(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		harness.Skip(t, "/proc is missing")
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		t.Fatalf("no VmHWM in %s", status)
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// mustEnd writes bytes to a new connection, says that no more come, and reads until the broker
// closes it, as it must.
func mustEnd(t *testing.T, b *harness.Broker, what string, parts ...[]byte) {
	t.Helper()
	conn, err := net.Dial("tcp", b.Addr)
	if err != nil {
		t.Fatalf("%s: the broker takes no connection: %v", what, err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(harness.Soon))
	for _, p := range parts {
		if _, err := conn.Write(p); err != nil {
			return // closed already
		}
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
		t.Errorf("%s: the connection is still open after %s", what, harness.Soon)
	}
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}

// frame puts a length before bytes.
func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// hello is a good ApiVersions request: what follows it comes "after ApiVersions".
func hello() []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("bad")).AppendRequest(nil, &kmsg.ApiVersionsRequest{}, 1)
}

func badFrames(t *testing.T, b *harness.Broker) {
	word := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	lengths := []uint32{0, 1, 7, 8, 100, badMaxFrame, badMaxFrame + 1, 1 << 30, 1<<31 - 1, 1 << 31, 1<<32 - 1, 0x16030100}
	for _, before := range [][]byte{nil, hello()} {
		for _, n := range lengths {
			for _, follow := range [][]byte{nil, {0}, make([]byte, 200), bytes.Repeat([]byte{0xff}, 3<<20)} {
				mustEnd(t, b, fmt.Sprintf("length %d, %d bytes", n, len(follow)), before, word(n), follow)
			}
		}
		for n := range 4 {
			mustEnd(t, b, "a cut length", before, make([]byte, n))
		}
		mustEnd(t, b, "HTTP", before, []byte("GET / HTTP/1.1\r\nHost: varve\r\n\r\n"))
	}
}

func badBytes(t *testing.T, b *harness.Broker) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []byte {
		out := make([]byte, n)
		for i := range out {
			out[i] = byte(rng.Uint32())
		}
		return out
	}
	for range 150 {
		mustEnd(t, b, "random bytes", random(rng.IntN(300)))
		mustEnd(t, b, "random bytes after ApiVersions", hello(), random(rng.IntN(300)))
		mustEnd(t, b, "a frame of random bytes", hello(), frame(random(8+rng.IntN(3000))))
	}
	// A good header, and anything after it.
	for _, key := range servedKeys(t, b) {
		for _, version := range []int16{key.MinVersion, key.MaxVersion} {
			for _, n := range []int{0, 1, 5, 50, 5000} {
				body := append(header(key.ApiKey, version), random(n)...)
				mustEnd(t, b, fmt.Sprintf("key %d v%d and %d random bytes", key.ApiKey, version, n), frame(body))
			}
		}
	}
}

// header is a request header, with an empty tag section where the version is flexible.
func header(key, version int16) []byte {
	out := binary.BigEndian.AppendUint16(nil, uint16(key))
	out = binary.BigEndian.AppendUint16(out, uint16(version))
	out = append(out, 0, 0, 0, 9, 0, 1, 'x')
	if r := kmsg.RequestForKey(key); r != nil {
		if r.SetVersion(version); r.IsFlexible() {
			out = append(out, 0)
		}
	}
	return out
}

func servedKeys(t *testing.T, b *harness.Broker) []kmsg.ApiVersionsResponseApiKey {
	t.Helper()
	return harness.Do[*kmsg.ApiVersionsResponse](t, b.Dial(t), 0, &kmsg.ApiVersionsRequest{}).ApiKeys
}

func badTags(t *testing.T, b *harness.Broker) {
	old := header(3, 12) // Metadata v12, flexible
	flexible := old[:len(old)-1]
	many := func(n int) []byte { // n tags of one byte
		out := binary.AppendUvarint(nil, uint64(n))
		for i := range n {
			out = append(binary.AppendUvarint(out, uint64(i)), 1, 'v')
		}
		return out
	}
	for name, tags := range map[string][]byte{
		"count of 2^32-1":     binary.AppendUvarint(nil, 1<<32-1),
		"count of 2^64-1":     binary.AppendUvarint(nil, 1<<64-1),
		"endless varint":      bytes.Repeat([]byte{0xff}, 1000),
		"size of 2^31":        append([]byte{1, 0}, binary.AppendUvarint(nil, 1<<31)...),
		"size of 2^32-1":      append([]byte{1, 0}, binary.AppendUvarint(nil, 1<<32-1)...),
		"300,000 tags":        many(300_000),
		"one tag of a MiB":    append(append([]byte{1, 0}, binary.AppendUvarint(nil, 1<<20)...), make([]byte, 1<<20)...),
		"tags out of order":   {2, 9, 0, 3, 0},
		"the same tag thrice": {3, 5, 0, 5, 0, 5, 0},
	} {
		mustEnd(t, b, "header: "+name, frame(append(append([]byte{}, flexible...), tags...)))
		body := append(append([]byte{}, old...), 1, 0, 0, 0) // no topics, three flags
		mustEnd(t, b, "body: "+name, frame(append(body, tags...)))
	}
}

func badKeys(t *testing.T, b *harness.Broker) {
	for _, key := range []int16{-1, 4, 5, 6, 7, 11, 36, 99, 1000, 32767, -32768} {
		mustEnd(t, b, fmt.Sprintf("key %d", key), frame(append(header(key, 0), 0, 0, 0, 0)))
	}
	for _, version := range []int16{-1, 99, 32767} {
		mustEnd(t, b, fmt.Sprintf("Metadata v%d", version), frame(append(header(3, version), 0, 0, 0, 0)))
		// KIP-511: any version of ApiVersions is answered in version 0, with the versions there are.
		r := b.Dial(t)
		if err := r.Send(frame(append(header(18, version), 0, 0, 0))); err != nil {
			t.Fatal(err)
		}
		got, err := r.Receive()
		if err != nil {
			t.Errorf("ApiVersions v%d: %v", version, err)
			continue
		}
		var resp kmsg.ApiVersionsResponse
		if err := resp.ReadFrom(got[4:]); err != nil || resp.ErrorCode != kerr.UnsupportedVersion.Code || len(resp.ApiKeys) == 0 {
			t.Errorf("ApiVersions v%d: code %d, %d keys, %v; want 35 and the keys", version, resp.ErrorCode, len(resp.ApiKeys), err)
		}
	}
}

// badNumbers overwrites good requests of every key, at each place, with numbers that no count,
// length, id or offset can be.
func badNumbers(t *testing.T, b *harness.Broker) {
	numbers := [][]byte{
		{0x7f, 0xff, 0xff, 0xff}, {0x80, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff}, {0xff, 0xff, 0xff, 0xff, 0x0f}, {0x80, 0x80, 0x80, 0x80, 0x08},
	}
	fmtr := kmsg.NewRequestFormatter(kmsg.FormatterClientID("n"))
	p := &prober{t: t, b: b}
	defer func() { p.conn.Close() }()
	for _, key := range servedKeys(t, b) {
		for _, version := range []int16{key.MinVersion, key.MaxVersion} {
			req := goodRequest(key.ApiKey)
			req.SetVersion(version)
			good := fmtr.AppendRequest(nil, req, 7)
			for at := 12; at < len(good); at++ { // after length, key, version and correlation id
				for _, n := range numbers {
					bad := append([]byte{}, good...)
					copy(bad[at:], n)
					p.send(fmt.Sprintf("key %d v%d, % x at %d", key.ApiKey, version, n, at), bad)
				}
			}
		}
	}
	t.Logf("%d requests, %d of them closed the connection", p.sent, p.closed)
}

// prober sends requests that may be answered, end the connection, or (Produce with acks=0) neither:
// the answer to the ApiVersions behind each shows that the broker went on.
type prober struct {
	t            *testing.T
	b            *harness.Broker
	conn         *harness.Raw
	sent, closed int
}

const probeID = 0x50524f42 // correlation id of the ApiVersions requests

func (p *prober) send(what string, bad []byte) {
	p.t.Helper()
	p.sent++
	if p.conn == nil {
		var err error
		if p.conn, err = harness.DialRaw(p.b.Addr); err != nil {
			p.t.Fatalf("%s: the broker takes no connection: %v", what, err)
		}
	}
	probe := frame(append([]byte{0, 18, 0, 0}, 0x50, 0x52, 0x4f, 0x42, 0xff, 0xff))
	err := p.conn.Send(append(bad, probe...))
	for err == nil {
		var got []byte
		if got, err = p.conn.Receive(); err == nil && len(got) >= 4 && binary.BigEndian.Uint32(got) == probeID {
			return
		}
	}
	if isTimeout(err) {
		p.t.Fatalf("%s: neither an answer nor a closed connection", what)
	}
	p.conn.Close()
	p.conn = nil
	p.closed++
}

// goodRequest is a request with something in every array, which changes nothing that the test needs.
func goodRequest(key int16) kmsg.Request {
	name := kmsg.StringPtr(badTopic)
	switch key {
	case 0:
		req := kmsg.NewPtrProduceRequest()
		req.Acks, req.TimeoutMillis = 1, 1000
		req.Topics = []kmsg.ProduceRequestTopic{{Topic: badTopic, Partitions: []kmsg.ProduceRequestTopicPartition{{Records: harness.Batch([]byte("x"))}}}}
		return req
	case 1:
		req := kmsg.NewPtrFetchRequest()
		req.MaxBytes, req.SessionEpoch = 1000, -1
		req.Topics = []kmsg.FetchRequestTopic{{Topic: badTopic, Partitions: []kmsg.FetchRequestTopicPartition{{PartitionMaxBytes: 1000, CurrentLeaderEpoch: -1}}}}
		req.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{Topic: badTopic, Partitions: []int32{0}}}
		return req
	case 2:
		req := kmsg.NewPtrListOffsetsRequest()
		req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: badTopic, Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Timestamp: -1}}}}
		return req
	case 3:
		req := kmsg.NewPtrMetadataRequest()
		req.Topics = []kmsg.MetadataRequestTopic{{Topic: name}}
		return req
	case 19:
		req := kmsg.NewPtrCreateTopicsRequest()
		req.ValidateOnly = true
		req.Topics = []kmsg.CreateTopicsRequestTopic{{
			Topic: "new", NumPartitions: 1, ReplicationFactor: 1,
			Configs:           []kmsg.CreateTopicsRequestTopicConfig{{Name: "segment.bytes", Value: kmsg.StringPtr("1048576")}},
			ReplicaAssignment: []kmsg.CreateTopicsRequestTopicReplicaAssignment{{Replicas: []int32{1}}},
		}}
		return req
	case 20:
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.TopicNames = []string{"absent"}
		req.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: kmsg.StringPtr("absent")}}
		return req
	case 21:
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: badTopic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{}}}}
		return req
	case 23:
		req := kmsg.NewPtrOffsetForLeaderEpochRequest()
		req.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: badTopic, Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{}}}}
		return req
	case 32:
		req := kmsg.NewPtrDescribeConfigsRequest()
		req.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: badTopic, ConfigNames: []string{"segment.bytes"}}}
		return req
	case 33:
		req := kmsg.NewPtrAlterConfigsRequest()
		req.ValidateOnly = true
		req.Resources = []kmsg.AlterConfigsRequestResource{{
			ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: badTopic,
			Configs: []kmsg.AlterConfigsRequestResourceConfig{{Name: "segment.ms", Value: kmsg.StringPtr("60000")}},
		}}
		return req
	case 35:
		req := kmsg.NewPtrDescribeLogDirsRequest()
		req.Topics = []kmsg.DescribeLogDirsRequestTopic{{Topic: badTopic, Partitions: []int32{0}}}
		return req
	case 37:
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.ValidateOnly = true
		req.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: badTopic, Count: 2, Assignment: []kmsg.CreatePartitionsRequestTopicAssignment{{Replicas: []int32{1}}}}}
		return req
	case 44:
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		req.ValidateOnly = true
		req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{
			ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: badTopic,
			Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "segment.ms", Value: kmsg.StringPtr("60000")}},
		}}
		return req
	case 75:
		req := kmsg.NewPtrDescribeTopicPartitionsRequest()
		req.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: badTopic}}
		return req
	}
	return kmsg.RequestForKey(key)
}

// badPeers are connections that promise much and send or take little: they must not stop others.
func badPeers(t *testing.T, b *harness.Broker) {
	for range 2 * badFrameBytes / badMaxFrame { // each promises a frame of the greatest size, and sends nothing of it
		if err := b.Dial(t).Send(binary.BigEndian.AppendUint32(nil, badMaxFrame)); err != nil {
			t.Fatal(err)
		}
	}
	mustServe(t, b)
	b.CreateTopic(t, "large", 1, map[string]string{"max.message.bytes": strconv.Itoa(harness.MaxBatch)})
	b.Produce(t, "large", 0, harness.Payload(2, 8<<20)) // waits until those who promised are cut
	big := harness.Payload(1, 700<<10)
	for range 8 {
		b.Produce(t, badTopic, 0, big)
	}
	fetch := goodRequest(1).(*kmsg.FetchRequest)
	fetch.MaxBytes, fetch.Topics[0].Partitions[0].PartitionMaxBytes = 50<<20, 50<<20
	fetch.SetVersion(11)
	ask := kmsg.NewRequestFormatter().AppendRequest(nil, fetch, 3)
	for range 40 {
		reader := b.Dial(t) // asks again and again, and reads nothing
		if err := reader.Send(bytes.Repeat(ask, 20)); err != nil {
			t.Fatal(err)
		}
	}
	produce := goodRequest(0)
	produce.SetVersion(7)
	whole := kmsg.NewRequestFormatter().AppendRequest(nil, produce, 3)
	slow := make([]*harness.Raw, 40)
	for i := range slow {
		slow[i] = b.Dial(t)
	}
	for at := range len(whole) { // a byte of each at a time, while others work
		for _, r := range slow {
			if err := r.Send(whole[at : at+1]); err != nil {
				t.Fatalf("slow writer: %v after %d bytes", err, at)
			}
		}
		if at == len(whole)/2 {
			mustServe(t, b)
		}
	}
	for _, r := range slow {
		if _, err := r.Receive(); err != nil {
			t.Errorf("a slow writer of a good request got %v", err)
		}
	}
}
