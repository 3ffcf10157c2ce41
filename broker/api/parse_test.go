package api

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/partition"
	"varve/broker/wire"
)

// produceRequest is one that uses every field of the version.
func produceRequest(version int16) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, -1, 1234
	for _, name := range []string{"a", "topic-b"} {
		t := kmsg.NewProduceRequestTopic()
		t.Topic, t.TopicID = name, [16]byte{1, byte(len(name))}
		for i := range int32(3) {
			p := kmsg.NewProduceRequestTopicPartition()
			p.Partition, p.Records = i, bytes.Repeat([]byte{byte(i)}, int(i)*7)
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	return req
}

func TestProduceParserReadsWhatKmsgWrites(t *testing.T) {
	for v := int16(3); v <= 13; v++ {
		p := &produceReply{version: v}
		r := reader{b: produceRequest(v).AppendTo(nil)}
		if timeout := p.header(&r); timeout != 1234 || p.acks != -1 || r.bad {
			t.Fatalf("v%d: header timeout %d acks %d bad %v", v, timeout, p.acks, r.bad)
		}
		if n, err := p.measure(r); n != 6 || err != nil {
			t.Fatalf("v%d: %d partitions, %v", v, n, err)
		}
	}
}

func TestProduceReplyIsWhatKmsgReads(t *testing.T) {
	for v := int16(3); v <= 13; v++ {
		p := &produceReply{version: v, names: []byte("topic")}
		if v >= 13 {
			p.names = bytes.Repeat([]byte{9}, 16)
		}
		p.topics = []produceTopic{{name: [2]int{0, len(p.names)}, parts: [2]int{0, 2}}}
		p.parts = []producePart{{index: 4, base: 77, time: -1, logStart: 5}, {index: 6, code: 87, base: -1, time: -1, logStart: -1, message: "why"}}
		resp := kmsg.NewPtrProduceResponse()
		resp.Version = v
		b := p.encode()
		if err := resp.ReadFrom(b); err != nil {
			t.Fatalf("v%d: %v", v, err)
		}
		if got := resp.AppendTo(nil); !bytes.Equal(got, b) {
			t.Errorf("v%d: read and written again it is %x, was %x", v, got, b)
		}
		got := resp.Topics[0].Partitions
		if got[0].BaseOffset != 77 || got[1].ErrorCode != 87 || v >= 8 && *got[1].ErrorMessage != "why" {
			t.Errorf("v%d: %+v", v, got)
		}
	}
}

func fetchRequestOf(version int16) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = version, 500, 1, 1<<20
	req.SessionID, req.SessionEpoch, req.Rack = 0, -1, "r"
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = "topic", [16]byte{3}
	for i := range int32(3) {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = i, int64(i)*10, 1000, 2
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	f := kmsg.NewFetchRequestForgottenTopic()
	f.Topic, f.TopicID, f.Partitions = "gone", [16]byte{4}, []int32{1, 2}
	req.ForgottenTopics = append(req.ForgottenTopics, f)
	return req
}

func TestFetchParserReadsWhatKmsgWrites(t *testing.T) {
	a := &API{cfg: Config{FetchMaxBytes: 1 << 30}}
	for v := int16(4); v <= 18; v++ {
		f := newFetch(a, &wire.Request{Version: v, Body: fetchRequestOf(v).AppendTo(nil)})
		r := reader{b: f.wreq.Body}
		f.header(&r)
		if err := f.checkBody(r); err != nil || r.bad {
			t.Fatalf("v%d: %v", v, err)
		}
		f.walk(&r)
		if len(f.parts) != 3 || f.parts[2].offset != 20 || f.parts[2].max != 1000 || f.req.maxBytes != 1<<20 {
			t.Fatalf("v%d: %d parts, %+v", v, len(f.parts), f.req)
		}
		if v >= 9 && f.parts[0].epoch != 2 {
			t.Errorf("v%d: epoch %d", v, f.parts[0].epoch)
		}
	}
}

func TestFetchReplyIsWhatKmsgReads(t *testing.T) {
	for v := int16(4); v <= 18; v++ {
		for _, committed := range []bool{false, true} {
			f := &fetch{req: fetchRequest{version: v, committed: committed}, full: true}
			topic := &fetchTopic{name: []byte("topic"), id: [16]byte{7}}
			for i := range int32(2) {
				p := &fetchPart{topic: topic, index: i, res: fetchResult{bounds: partition.Bounds{LogStart: 1, HW: 9, LSO: 8}, code: int16(i)}}
				p.res.aborted = []partition.AbortedTxn{{ProducerID: 5, First: 3}}
				f.results = append(f.results, p)
			}
			f.enc.w.b = []byte{}
			f.head(0, 42)
			f.enc.w.array(1, v >= 12)
			f.topic(f.results, v >= 12)
			f.enc.w.noTags(v >= 12)
			resp := kmsg.NewPtrFetchResponse()
			resp.Version = v
			if err := resp.ReadFrom(f.enc.w.b); err != nil {
				t.Fatalf("v%d: %v", v, err)
			}
			if got := resp.AppendTo(nil); !bytes.Equal(got, f.enc.w.b) {
				t.Errorf("v%d: read and written again it is %x, was %x", v, got, f.enc.w.b)
			}
			p := resp.Topics[0].Partitions[1]
			if p.HighWatermark != 9 || p.LastStableOffset != 8 || p.ErrorCode != 1 || committed == (p.AbortedTransactions == nil) {
				t.Errorf("v%d: %+v", v, p)
			}
		}
	}
}

// FuzzRequestBodies: no bytes after a header panic a parser or make it allocate more than a small
// multiple of them.
func FuzzRequestBodies(f *testing.F) {
	for v := int16(3); v <= 13; v++ {
		f.Add(int16(0), v, produceRequest(v).AppendTo(nil))
	}
	for v := int16(4); v <= 18; v++ {
		f.Add(int16(1), v, fetchRequestOf(v).AppendTo(nil))
	}
	f.Add(int16(1), int16(12), []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	a := &API{cfg: Config{FetchMaxBytes: 1 << 30}}
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		switch key {
		case 0:
			p := &produceReply{version: max(3, version%14)}
			r := reader{b: body}
			p.header(&r)
			n, err := p.measure(r)
			if err == nil && n > len(body) {
				t.Fatalf("%d partitions in %d bytes", n, len(body))
			}
		case 1:
			fr := newFetch(a, &wire.Request{Version: max(4, version%19), Body: body})
			r := reader{b: body}
			fr.header(&r)
			if err := fr.checkBody(r); err == nil {
				fr.walk(&r)
				if len(fr.parts) > len(body)/16+1 {
					t.Fatalf("%d partitions in %d bytes", len(fr.parts), len(body))
				}
			}
		}
	})
}
