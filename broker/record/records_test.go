package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

const testLimit = 16 << 20

func drawRecords(t *rapid.T) []Record {
	blob := rapid.OneOf(rapid.Just([]byte(nil)), rapid.SliceOfN(rapid.Byte(), 0, 300))
	header := rapid.Custom(func(t *rapid.T) Header {
		return Header{Key: rapid.StringN(0, 20, -1).Draw(t, "header"), Value: blob.Draw(t, "header value")}
	})
	recs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Record {
		r := Record{
			Timestamp: rapid.Int64Range(-1, 1<<45).Draw(t, "timestamp"),
			Key:       blob.Draw(t, "key"), Value: blob.Draw(t, "value"),
		}
		if n := rapid.IntRange(0, 3).Draw(t, "headers"); n > 0 {
			r.Headers = rapid.SliceOfN(header, n, n).Draw(t, "headers")
		}
		return r
	}), 1, 40).Draw(t, "records")
	base := rapid.Int64Range(0, 1<<50).Draw(t, "base offset")
	for i := range recs {
		recs[i].Offset = base + int64(i)
	}
	return recs
}

func TestWhatIsBuiltIsReadBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		codec := rapid.SampledFrom(allCodecs).Draw(rt, "codec")
		recs := drawRecords(rt)
		w := NewBuilder(codec)
		w.SetBaseOffset(recs[0].Offset)
		for _, r := range recs {
			w.Append(r)
		}
		b, err := w.Build()
		if err != nil {
			rt.Fatal(err)
		}
		if raw := HeaderLen + len(kmsgRecords(recs[0].Offset, recs[0].Timestamp, recs)); raw != w.Len() {
			rt.Fatalf("Len is %d, want %d", w.Len(), raw)
		}
		if p, err := Parse(b); err != nil || !bytes.Equal(p, b) || b.CheckCRC() != nil {
			rt.Fatal(err)
		}
		latest := slices.MaxFunc(recs, func(a, b Record) int { return int(a.Timestamp - b.Timestamp) }).Timestamp
		if b.MaxTimestamp() != latest {
			rt.Fatalf("max timestamp %d, want %d", b.MaxTimestamp(), latest)
		}
		got, err := collect(b, testLimit)
		if diff := cmp.Diff(recs, got); diff != "" || err != nil {
			rt.Fatal(err, diff)
		}
	})
}

func TestFranzGoReadsWhatIsBuilt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		codec := rapid.SampledFrom(allCodecs).Draw(rt, "codec")
		recs := drawRecords(rt)
		b := build(t, codec, recs)
		var kb kmsg.RecordBatch
		if err := kb.ReadFrom(b); err != nil {
			rt.Fatal(err)
		}
		payload, err := kgo.DefaultDecompressor().Decompress(kb.Records, kgo.CompressionCodecType(codec))
		if err != nil {
			rt.Fatal(err)
		}
		if want := kmsgRecords(recs[0].Offset, recs[0].Timestamp, recs); !bytes.Equal(payload, want) {
			rt.Fatalf("records are %x, want %x", payload, want)
		}
	})
}

func TestFranzGoBatchesAreRead(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		recs := drawRecords(rt)
		base := recs[0].Offset
		codec, payload := kmsgCompress(t, rapid.SampledFrom(allCodecs).Draw(rt, "codec"), kmsgRecords(base, 5, recs))
		b, err := Parse(kmsgBatch(kmsg.RecordBatch{
			FirstOffset: base, Attributes: int16(codec), LastOffsetDelta: int32(len(recs) - 1), FirstTimestamp: 5,
			NumRecords: int32(len(recs)), Records: payload,
		}))
		if err != nil {
			rt.Fatal(err)
		}
		got, err := collect(b, testLimit)
		if diff := cmp.Diff(recs, got); diff != "" || err != nil {
			rt.Fatal(err, diff)
		}
	})
}

func TestXerialSnappyIsRead(t *testing.T) {
	recs := sample()
	payload := kmsgRecords(0, 0, recs)
	for _, size := range []int{1, 7, 100, 32 << 10} {
		got, err := collect(kmsgRaw(Snappy, len(recs), xerialFrame(payload, size)), testLimit)
		if diff := cmp.Diff(recs, got); diff != "" || err != nil {
			t.Errorf("blocks of %d: %v %s", size, err, diff)
		}
	}
}

func TestGapsFromCompactionAreRead(t *testing.T) {
	recs := []Record{{Offset: 102, Value: []byte("a")}, {Offset: 107, Value: []byte("b")}}
	b := Batch(kmsgBatch(kmsg.RecordBatch{FirstOffset: 100, LastOffsetDelta: 9, NumRecords: 2, Records: kmsgRecords(100, 0, recs)}))
	got, err := collect(b, 0)
	if diff := cmp.Diff(recs, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

func TestBadRecordsAreCorrupt(t *testing.T) {
	one := func(body ...byte) []byte { return append(binary.AppendVarint(nil, int64(len(body))), body...) }
	good := one(0, 0, 0, 1, 1, 0)
	for _, c := range []struct {
		text    string
		count   int
		payload []byte
	}{
		{"2 records in 7 bytes", 2, good},
		{"bytes follow", 1, slices.Concat(good, good)},
		{"offset delta", 2, slices.Concat(good, good)},                                                   // the same offset twice
		{"offset delta", 1, one(0, 0, 2, 1, 1, 0)},                                                       // past the last
		{"offset delta", 1, one(0, 0, 1, 1, 1, 0)},                                                       // negative
		{"record length", 1, append([]byte{0x7e}, good...)},                                              // 63 bytes, not there
		{"record length", 1, append([]byte{0x0b}, good...)},                                              // -6
		{"record length", 1, bytes.Repeat([]byte{0xff}, 20)},                                             // endless varint
		{"record length", 1, append(binary.AppendVarint(nil, math.MaxInt64), good...)},                   // over 32 bits
		{"empty record", 1, make([]byte, 7)},                                                             //
		{"timestamp delta", 1, one(0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)}, // over 64 bits
		{"key", 1, one(0, 0, 0, 3, 1, 0)},                                                                // length -2
		{"key", 1, one(0, 0, 0, 8, 1, 0)},                                                                // 4 of 2 bytes
		{"value", 1, one(0, 0, 0, 1, 0x14, 0)},                                                           // 10 bytes, past the record's end
		{"headers", 1, one(0, 0, 0, 1, 1, 1)},                                                            // -1 headers
		{"headers", 1, one(0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f)},                                 // 2^31-1 headers
		{"headers", 1, one(0, 0, 0, 1, 1, 2, 1, 1)},                                                      // null key
		{"record end", 1, one(0, 0, 0, 1, 1, 0, 9)},                                                      //
	} {
		for _, codec := range []Codec{None, Zstd} {
			payload, err := compress(codec, nil, c.payload)
			if err != nil {
				t.Fatal(err)
			}
			_, err = collect(kmsgRaw(codec, c.count, payload), testLimit)
			if _, typed := errors.AsType[*CorruptError](err); !typed || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v %x: got %v, want %q", codec, c.payload, err, c.text)
			}
		}
	}
}

func TestBrokenCompressionIsCorrupt(t *testing.T) {
	plain := kmsgRecords(0, 0, sample())
	for _, codec := range allCodecs[1:] {
		whole, err := compress(codec, nil, plain)
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(whole) {
			// LZ4 and gzip may have all records before their trailing checksum is missed.
			if _, err := collect(kmsgRaw(codec, 4, whole[:n]), testLimit); !errors.Is(err, ErrCorrupt) && n < len(whole)-8 {
				t.Fatalf("%v cut to %d of %d bytes: %v", codec, n, len(whole), err)
			}
		}
		if _, err := collect(kmsgRaw(codec, 4, []byte("nothing that any codec writes")), testLimit); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v: %v", codec, err)
		}
	}
	if _, err := collect(kmsgRaw(6, 4, plain), testLimit); !errors.Is(err, ErrCorrupt) {
		t.Errorf("codec 6: %v", err)
	}
}

// bombs decompress to n zeros.
func bombs(t testing.TB, n int) map[string]Batch {
	zeros := make([]byte, n)
	out := map[string]Batch{"xerial": kmsgRaw(Snappy, 1, xerialFrame(zeros, 1<<20))}
	for _, codec := range allCodecs[1:] {
		payload, err := compress(codec, nil, zeros)
		if err != nil {
			t.Fatal(err)
		}
		out[codec.String()] = kmsgRaw(codec, 1, payload)
	}
	// A zstd frame without a content size: magic, window 1 MiB, RLE blocks of 128 KiB.
	rle := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50}
	for left := n; left > 0; left -= 128 << 10 {
		last := uint32(0)
		if left <= 128<<10 {
			last = 1
		}
		head := last | 1<<1 | uint32(min(left, 128<<10))<<3
		rle = append(rle, byte(head), byte(head>>8), byte(head>>16), 0)
	}
	out["zstd without size"] = kmsgRaw(Zstd, 1, rle)
	return out
}

func TestDecompressionBombsStopAtTheLimit(t *testing.T) {
	const limit = 2 << 20
	for name, b := range bombs(t, 64<<20) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := collect(b, limit)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		// Everything allocated, freed or not: the decoder's own tables too.
		if got := after.TotalAlloc - before.TotalAlloc; got > 4*limit+16<<20 {
			t.Errorf("%s: %d bytes allocated for a limit of %d", name, got, limit)
		}
	}
}

func TestTheLimitIsExact(t *testing.T) {
	for name, b := range bombs(t, 3<<20) {
		// At the limit the zeros are decompressed, and are then no records.
		if _, err := collect(b, 3<<20); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s at the limit: %v", name, err)
		}
		if _, err := collect(b, 3<<20-1); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s over the limit: %v", name, err)
		}
		for _, limit := range []int64{0, -1, math.MinInt64} {
			if _, err := collect(b, limit); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s with limit %d: %v", name, limit, err)
			}
		}
	}
}

func TestZstdWindowIsLimited(t *testing.T) {
	// One empty last raw block; the window descriptor's exponent is in its upper five bits.
	frame := func(exponent byte) []byte {
		return []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, exponent << 3, 0x01, 0x00, 0x00}
	}
	for _, c := range []struct {
		log  byte
		want string
	}{{27, "1 records in 0 bytes"}, {28, "window size exceeded"}} {
		_, err := collect(kmsgRaw(Zstd, 1, frame(c.log-10)), 1<<40)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("window of 2^%d: %v, want %q", c.log, err, c.want)
		}
	}
}

func TestIterationMayStopAnywhere(t *testing.T) {
	for _, codec := range allCodecs {
		b := build(t, codec, sample())
		for stop := range 4 {
			seen := 0
			for _, err := range b.Records(testLimit) {
				if err != nil {
					t.Fatal(err)
				}
				if seen++; seen > stop {
					break
				}
			}
		}
	}
	for _, err := range Batch("short").Records(0) {
		if !errors.Is(err, ErrShort) {
			t.Error(err)
		}
	}
}

func FuzzRecords(f *testing.F) {
	plain := kmsgRecords(0, 0, sample())
	for _, codec := range allCodecs {
		payload, err := compress(codec, nil, plain)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(int16(codec), int32(4), int32(3), payload)
	}
	f.Add(int16(Snappy), int32(4), int32(3), xerialFrame(plain, 50))
	for _, b := range bombs(f, 32<<20) {
		if len(b) < 64<<10 { // large seeds make the fuzzer slow
			f.Add(int16(b.Attributes()), b.Count(), b.LastOffsetDelta(), []byte(b[HeaderLen:]))
		}
	}
	f.Fuzz(func(t *testing.T, attributes int16, count, delta int32, payload []byte) {
		const limit = 1 << 20
		b := Batch(kmsgBatch(kmsg.RecordBatch{
			FirstOffset: 1000, Attributes: attributes, LastOffsetDelta: delta, NumRecords: count, Records: payload,
		}))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		recs, err := collect(b, limit)
		runtime.ReadMemStats(&after)
		// Records are copied, and a record's struct is 100 bytes where its bytes may be 7.
		if got := after.TotalAlloc - before.TotalAlloc; got > 128<<20 {
			t.Fatalf("%d bytes allocated for %d", got, len(payload))
		}
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if len(recs) != int(count) {
			t.Fatalf("%d records, header says %d", len(recs), count)
		}
		last := int64(999)
		for _, r := range recs {
			if r.Offset <= last || r.Offset > 1000+int64(delta) {
				t.Fatalf("offset %d after %d", r.Offset, last)
			}
			last = r.Offset
			if ct, err := ParseControl(r); err == nil {
				_ = ct.String()
			}
			_, _ = ParseEndTxnMarker(r)
		}
	})
}

func BenchmarkRecords(b *testing.B) {
	w := NewBuilder(None)
	for i := range 1000 {
		w.Append(Record{Timestamp: int64(i), Key: []byte("key"), Value: make([]byte, 100)})
	}
	for _, codec := range allCodecs {
		w.codec = codec
		batch, err := w.Build()
		if err != nil {
			b.Fatal(err)
		}
		b.Run(codec.String(), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(w.Len()))
			for b.Loop() {
				for _, err := range batch.Records(testLimit) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
