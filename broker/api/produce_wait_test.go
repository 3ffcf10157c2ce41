package api

import (
	"bytes"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/record"
	"varve/broker/wire"
)

func builtBatch(t *testing.T, codec record.Codec, records, size int, key []byte) record.Batch {
	t.Helper()
	b := record.NewBuilder(codec)
	b.SetProducer(7, 3, 11)
	for i := range records {
		b.Append(record.Record{Timestamp: int64(1000 + i), Key: key, Value: make([]byte, size), Headers: []record.Header{{Key: "h", Value: []byte("v")}}})
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func TestAForcedCodecKeepsEveryRecordAndTheProducer(t *testing.T) {
	for _, name := range []string{"uncompressed", "gzip", "snappy", "lz4", "zstd"} {
		in := builtBatch(t, record.Gzip, 5, 100, []byte("k"))
		out, err := recompress(in, name, record.DefaultLevel, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		codec, err := record.ParseCodec(name)
		if err != nil || out.Attributes().Codec() != codec || out.ProducerID() != 7 || out.ProducerEpoch() != 3 || out.BaseSequence() != 11 ||
			out.Count() != 5 || out.MaxTimestamp() != in.MaxTimestamp() || out.BaseTimestamp() != in.BaseTimestamp() || out.CheckCRC() != nil {
			t.Errorf("%s: the batch is another one (%v)", name, err)
		}
		n := 0
		for r, err := range out.Records(1 << 20) {
			if err != nil || r.Timestamp != int64(1000+n) || len(r.Value) != 100 || len(r.Headers) != 1 || string(r.Key) != "k" {
				t.Errorf("%s: record %d: %+v %v", name, n, r, err)
			}
			n++
		}
	}
}

func TestAForcedCodecCannotMakeABatchLargerThanTheTopicTakes(t *testing.T) {
	bomb := builtBatch(t, record.Zstd, 10, 1<<20, []byte("k"))
	if _, err := recompress(bomb, "uncompressed", record.DefaultLevel, 1<<20); !errors.Is(err, record.ErrTooLarge) {
		t.Errorf("%d bytes unpacked to 10 MiB: %v", bomb.Len(), err)
	}
}

func TestARefusedBatchNamesItsRecordsWithoutKey(t *testing.T) {
	err := needKeys(builtBatch(t, record.None, 3, 1, nil), 1<<20)
	var bad *badRecords
	if !errors.As(err, &bad) || len(bad.at) != 3 || !errors.Is(err, errNullKey) {
		t.Fatalf("%v", err)
	}
	if err := needKeys(builtBatch(t, record.None, 3, 1, []byte("k")), 1<<20); err != nil {
		t.Error(err)
	}
	for v := int16(8); v <= 13; v++ {
		p := &produceReply{version: v, names: bytes.Repeat([]byte{9}, 16)}
		p.topics = []produceTopic{{name: [2]int{0, 16}, parts: [2]int{0, 1}}}
		p.parts = []producePart{{code: 87, base: -1, message: "why", bad: bad}}
		resp := kmsg.NewPtrProduceResponse()
		resp.Version = v
		b := p.encode()
		if err := resp.ReadFrom(b); err != nil || !bytes.Equal(resp.AppendTo(nil), b) {
			t.Fatalf("v%d: %v", v, err)
		}
		if got := resp.Topics[0].Partitions[0].ErrorRecords; len(got) != 3 || got[2].RelativeOffset != 2 || got[2].ErrorMessage == nil {
			t.Errorf("v%d: %+v", v, got)
		}
	}
}

// A partition costs six bytes in a frame and a hundred in memory.
func TestARequestThatNamesPartitionsWithoutEndIsRefused(t *testing.T) {
	req := kmsg.NewPtrFetchRequest()
	req.Version = 12
	rt := kmsg.NewFetchRequestTopic()
	rt.Partitions = make([]kmsg.FetchRequestTopicPartition, maxRequestPartitions+1)
	req.Topics = append(req.Topics, rt)
	f := newFetch(&API{cfg: Config{FetchMaxBytes: 1}}, &wire.Request{Version: 12, Body: req.AppendTo(nil)})
	r := reader{b: f.wreq.Body}
	f.header(&r)
	if err := f.checkBody(r); !errors.Is(err, errTooManyPartitions) {
		t.Errorf("fetch: %v", err)
	}
	pr := kmsg.NewPtrProduceRequest()
	pr.Version = 9
	pt := kmsg.NewProduceRequestTopic()
	pt.Partitions = make([]kmsg.ProduceRequestTopicPartition, maxRequestPartitions+1)
	pr.Topics = append(pr.Topics, pt)
	p := &produceReply{version: 9}
	r = reader{b: pr.AppendTo(nil)}
	p.header(&r)
	if err := p.walk(&r); !errors.Is(err, errTooManyPartitions) || len(p.parts) != 0 {
		t.Errorf("produce: %v", err)
	}
}

func TestASessionForgetsTheNamesOfForgottenTopics(t *testing.T) {
	s := &fetchSession{parts: map[partKey]*fetchPart{}, names: map[string]*fetchTopic{}}
	s.wake.signal = make(chan struct{}, 1)
	a := &API{cfg: Config{FetchMaxBytes: 1}}
	for i := range 100 {
		req := fetchRequestOf(12)
		req.Topics[0].Topic = string(rune('a'+i%26)) + "x"
		if i%2 == 1 { // named and forgotten in one request
			req.ForgottenTopics[0].Topic = req.Topics[0].Topic
			req.ForgottenTopics[0].Partitions = []int32{0, 1, 2}
		} else { // named without a partition; a topic forgotten that it never had
			req.Topics[0].Partitions = nil
		}
		f := newFetch(a, &wire.Request{Version: 12, Body: req.AppendTo(nil)})
		r := reader{b: f.wreq.Body}
		f.header(&r)
		s.update(f, &r)
	}
	if len(s.names) != 0 || len(s.parts) != 0 {
		t.Errorf("%d names, %d partitions are kept", len(s.names), len(s.parts))
	}
}

func TestAForcedCodecKeepsABatchInItsTransaction(t *testing.T) {
	b := record.NewBuilder(record.None)
	b.SetProducer(7, 0, 0)
	b.SetTransactional()
	b.Append(record.Record{Value: []byte("v")})
	in, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	out, err := recompress(in, "gzip", 9, 1<<20)
	if err != nil || !out.Attributes().Transactional() {
		t.Errorf("transactional %v, %v", out.Attributes().Transactional(), err)
	}
}
