package record

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The independent encoder of these tests: franz-go's structs and compressors.

var kgoCodecs = map[Codec]kgo.CompressionCodec{
	None: kgo.NoCompression(), Gzip: kgo.GzipCompression(), Snappy: kgo.SnappyCompression(),
	LZ4: kgo.Lz4Compression(), Zstd: kgo.ZstdCompression(),
}

var allCodecs = []Codec{None, Gzip, Snappy, LZ4, Zstd}

// kmsgRecords encodes records; their offsets and timestamps are taken relative to the arguments.
func kmsgRecords(baseOffset, baseTimestamp int64, recs []Record) []byte {
	var out []byte
	for _, r := range recs {
		k := kmsg.Record{
			TimestampDelta64: r.Timestamp - baseTimestamp, OffsetDelta: int32(r.Offset - baseOffset),
			Key: r.Key, Value: r.Value,
		}
		for _, h := range r.Headers {
			k.Headers = append(k.Headers, kmsg.Header{Key: h.Key, Value: h.Value})
		}
		k.Length = int32(len(k.AppendTo(nil)) - 1) // a zero length takes one byte
		out = k.AppendTo(out)
	}
	return out
}

// kmsgCompress uses kgo's compressor, which leaves input alone that does not shrink.
func kmsgCompress(t testing.TB, codec Codec, src []byte) (Codec, []byte) {
	t.Helper()
	c, err := kgo.DefaultCompressor(kgoCodecs[codec])
	if err != nil {
		t.Fatal(err)
	}
	if c == nil { // no compression
		return None, src
	}
	out, used := c.Compress(new(bytes.Buffer), src)
	return Codec(used), bytes.Clone(out)
}

// kmsgBatch fills in length and CRC.
func kmsgBatch(kb kmsg.RecordBatch) []byte {
	kb.Magic = 2
	kb.Length = int32(HeaderLen - 12 + len(kb.Records))
	kb.CRC = int32(crc32.Checksum(kb.AppendTo(nil)[21:], crc32.MakeTable(crc32.Castagnoli)))
	return kb.AppendTo(nil)
}

// kmsgRaw is a batch of these record bytes, as an ordinary producer sends it.
func kmsgRaw(codec Codec, count int, payload []byte) []byte {
	return kmsgBatch(kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Attributes: int16(codec), LastOffsetDelta: int32(count - 1),
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(count), Records: payload,
	})
}

// xerialFrame is what snappy-java writes: blocks of at most size raw bytes.
func xerialFrame(src []byte, size int) []byte {
	out := append(bytes.Clone(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1)
	for len(src) > 0 {
		n := min(size, len(src))
		block := snappy.Encode(nil, src[:n])
		out = binary.BigEndian.AppendUint32(out, uint32(len(block)))
		out = append(out, block...)
		src = src[n:]
	}
	return out
}

// collect copies the records, which are views.
func collect(b Batch, limit int64) ([]Record, error) {
	var out []Record
	for r, err := range b.Records(limit) {
		if err != nil {
			return out, err
		}
		r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
		headers := r.Headers
		r.Headers = nil
		for _, h := range headers {
			r.Headers = append(r.Headers, Header{Key: h.Key, Value: bytes.Clone(h.Value)})
		}
		out = append(out, r)
	}
	return out, nil
}

// sample has nulls, empties, repeated headers, and times that go back.
func sample() []Record {
	const t0 = 1_700_000_000_000
	return []Record{
		{Offset: 0, Timestamp: t0, Key: []byte("k0"), Value: bytes.Repeat([]byte("varve "), 40)},
		{Offset: 1, Timestamp: t0 + 250, Key: nil, Value: []byte{}},
		{Offset: 2, Timestamp: t0 - 70_000, Key: []byte{}, Value: nil},
		{Offset: 3, Timestamp: t0 + 7, Key: []byte("k3"), Value: []byte("v3"), Headers: []Header{
			{Key: "trace", Value: []byte{1, 2, 3}}, {Key: "trace", Value: nil}, {Key: "", Value: []byte{}},
		}},
	}
}

func build(t testing.TB, codec Codec, recs []Record) Batch {
	t.Helper()
	b := NewBuilder(codec)
	for _, r := range recs {
		b.Append(r)
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return batch
}
