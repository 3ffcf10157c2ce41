package record

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// goldenHex is one batch, byte by byte: offset 258, epoch 7, one record "k" = "value" with the
// header h = nil, producer 9 epoch 2 sequence 5, transactional. Written by hand; the CRC by a bitwise CRC32C.
const goldenHex = "" +
	"0000000000000102" + // base offset 258
	"00000041" + // 65 bytes follow
	"00000007" + // leader epoch
	"02" + // magic
	"22cd86ca" + // CRC32C of the rest
	"0010" + // transactional
	"00000000" + // last offset delta
	"0000018bcfe56800" + "0000018bcfe56800" + // 1700000000000
	"0000000000000009" + "0002" + "00000005" + // producer
	"00000001" + // one record
	"1e" + "00" + "00" + "00" + // 15 bytes, attributes, deltas
	"02" + "6b" + // key "k"
	"0a" + "76616c7565" + // value "value"
	"02" + "02" + "68" + "01" // one header, "h", null

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoldenBatchIsReadAndWritten(t *testing.T) {
	golden := unhex(t, goldenHex)
	b, err := Parse(append(bytes.Clone(golden), 0xff, 0xff))
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(b.BaseOffset(), b.LastOffset(), b.NextOffset(), b.LastOffsetDelta(), b.LeaderEpoch(), b.BaseTimestamp(),
		b.MaxTimestamp(), b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(), b.LastSequence(), b.Count(), b.Len(),
		b.Attributes().Codec(), b.Attributes().Transactional(), b.Attributes().Control(), b.Attributes().LogAppendTime())
	if want := "258 258 259 0 7 1700000000000 1700000000000 9 2 5 5 1 77 none true false false"; got != want {
		t.Errorf("header is\n %s, want\n %s", got, want)
	}
	if err := b.CheckCRC(); err != nil {
		t.Error(err)
	}
	want := Record{
		Offset: 258, Timestamp: 1_700_000_000_000, Key: []byte("k"), Value: []byte("value"),
		Headers: []Header{{Key: "h"}},
	}
	recs, err := collect(b, 0)
	if diff := cmp.Diff([]Record{want}, recs); diff != "" || err != nil {
		t.Errorf("records: %v %s", err, diff)
	}

	w := NewBuilder(None)
	w.SetBaseOffset(258)
	w.SetLeaderEpoch(7)
	w.SetProducer(9, 2, 5)
	w.SetTransactional()
	w.Append(want)
	built, err := w.Build()
	if err != nil || !bytes.Equal(built, golden) {
		t.Errorf("built %x, %v, want %x", []byte(built), err, golden)
	}
}

func TestAccessorsAgreeWithFranzGo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := kmsg.RecordBatch{
			FirstOffset:          rapid.Int64Range(0, 1<<60).Draw(t, "offset"),
			PartitionLeaderEpoch: rapid.Int32().Draw(t, "epoch"),
			Attributes:           rapid.Int16().Draw(t, "attributes"),
			LastOffsetDelta:      rapid.Int32Range(0, math.MaxInt32).Draw(t, "delta"),
			FirstTimestamp:       rapid.Int64().Draw(t, "base time"),
			MaxTimestamp:         rapid.Int64().Draw(t, "max time"),
			ProducerID:           rapid.Int64().Draw(t, "producer"),
			ProducerEpoch:        rapid.Int16().Draw(t, "producer epoch"),
			FirstSequence:        rapid.Int32().Draw(t, "sequence"),
			NumRecords:           rapid.Int32Range(0, 1).Draw(t, "count"),
			Records:              rapid.SliceOf(rapid.Byte()).Draw(t, "records"),
		}
		raw := kmsgBatch(want)
		b, err := Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		got := kmsg.RecordBatch{
			FirstOffset: b.BaseOffset(), Length: int32(b.Len() - 12), PartitionLeaderEpoch: b.LeaderEpoch(), Magic: 2,
			CRC: int32(b.CRC()), Attributes: int16(b.Attributes()), LastOffsetDelta: b.LastOffsetDelta(),
			FirstTimestamp: b.BaseTimestamp(), MaxTimestamp: b.MaxTimestamp(), ProducerID: b.ProducerID(),
			ProducerEpoch: b.ProducerEpoch(), FirstSequence: b.BaseSequence(), NumRecords: b.Count(), Records: b[HeaderLen:],
		}
		if !bytes.Equal(got.AppendTo(nil), raw) {
			t.Fatalf("read %x, want %x", got.AppendTo(nil), raw)
		}
		if err := b.CheckCRC(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSettersKeepTheCRCRight(t *testing.T) {
	b := build(t, Zstd, sample())
	crc := b.CRC()
	b.SetBaseOffset(1 << 40)
	b.SetLeaderEpoch(77)
	if b.BaseOffset() != 1<<40 || b.LeaderEpoch() != 77 || b.CRC() != crc || b.CheckCRC() != nil {
		t.Errorf("after SetBaseOffset and SetLeaderEpoch: %v, CRC %08x, was %08x", b, b.CRC(), crc)
	}
	base := b.BaseTimestamp()
	b.SetLogAppendTime(1_800_000_000_000)
	if err := b.CheckCRC(); err != nil {
		t.Error(err)
	}
	if !b.Attributes().LogAppendTime() || b.Attributes().Codec() != Zstd || b.BaseTimestamp() != base {
		t.Errorf("attributes %b, base time %d", b.Attributes(), b.BaseTimestamp())
	}
	recs, err := collect(b, 1<<20)
	if err != nil || len(recs) != 4 {
		t.Fatal(len(recs), err)
	}
	for i, r := range recs {
		if r.Timestamp != 1_800_000_000_000 || r.Offset != 1<<40+int64(i) {
			t.Errorf("record %d has offset %d, time %d", i, r.Offset, r.Timestamp)
		}
	}
}

func TestCheckCRCSeesEveryFlippedByte(t *testing.T) {
	good := build(t, None, sample())
	for i := offCRC; i < len(good); i++ {
		bad := Batch(bytes.Clone(good))
		bad[i] ^= 0x10
		if err := bad.CheckCRC(); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
	}
}

func TestSequenceWrapsToZero(t *testing.T) {
	b := NewBuilder(None)
	b.SetProducer(1, 0, math.MaxInt32)
	b.Append(Record{})
	b.Append(Record{})
	batch, err := b.Build()
	if err != nil || batch.LastSequence() != 0 {
		t.Error(batch.LastSequence(), err)
	}
	if none := build(t, None, sample()); none.LastSequence() != -1 {
		t.Error("without a sequence the last is", none.LastSequence())
	}
}

func TestParseNamesTheFault(t *testing.T) {
	good := func() []byte { return bytes.Clone(build(t, None, sample())) }
	put32 := func(at int, v int32) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint32(b[at:], uint32(v)); return b }
	}
	put64 := func(at int, v int64) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint64(b[at:], uint64(v)); return b }
	}
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		want   error
		text   string
	}{
		{"nothing", func([]byte) []byte { return nil }, ErrShort, ""},
		{"eleven bytes", func(b []byte) []byte { return b[:11] }, ErrShort, ""},
		{"one byte less", func(b []byte) []byte { return b[:len(b)-1] }, ErrShort, ""},
		{"zeros", func([]byte) []byte { return make([]byte, 4096) }, ErrCorrupt, "magic 0"},
		{"twelve zeros", func([]byte) []byte { return make([]byte, 12) }, ErrCorrupt, "batch length 0"},
		{"magic 1", func(b []byte) []byte { b[16] = 1; return b }, ErrUnsupportedMagic, "magic 1"},
		{"magic 3", func(b []byte) []byte { b[16] = 3; return b }, ErrCorrupt, "magic 3"},
		{"length below the header", put32(8, 48), ErrCorrupt, "batch length 48"},
		{"negative length", put32(8, -1), ErrCorrupt, "batch length -1"},
		{"huge length", put32(8, math.MaxInt32), ErrCorrupt, "batch length"},
		{"negative offset", put64(0, -1), ErrCorrupt, "base offset -1"},
		{"offset overflow", put64(0, math.MaxInt64-3), ErrCorrupt, "base offset"},
		{"negative delta", put32(23, -1), ErrCorrupt, "delta -1"},
		{"more records than offsets", put32(57, 5), ErrCorrupt, "5 records"},
		{"negative count", put32(57, -1), ErrCorrupt, "-1 records"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse(c.change(good()))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %v with %q", err, c.want, c.text)
			}
			if _, typed := errors.AsType[*CorruptError](err); typed == errors.Is(err, ErrShort) {
				t.Errorf("%v: is a CorruptError: %v", err, typed)
			}
		})
	}
}

func TestParseTakesWhatCompactionLeaves(t *testing.T) {
	raw := kmsgBatch(kmsg.RecordBatch{
		FirstOffset: 10, LastOffsetDelta: 9, ProducerID: 4, FirstSequence: 3, NumRecords: 0,
	})
	b, err := Parse(raw)
	if err != nil || b.LastOffset() != 19 {
		t.Fatal(b, err)
	}
	if recs, err := collect(b, 0); len(recs) != 0 || err != nil {
		t.Error(recs, err)
	}
}

func TestViewsDoNotAllocate(t *testing.T) {
	raw := []byte(build(t, LZ4, sample()))
	lim := anyTime
	var sum int64
	allocs := testing.AllocsPerRun(100, func() {
		b, err := Parse(raw)
		if err != nil || b.CheckCRC() != nil || ValidateProduce(b, lim) != nil {
			panic("a good batch was refused")
		}
		b.SetBaseOffset(3)
		b.SetLeaderEpoch(4)
		b.SetLogAppendTime(5)
		sum += b.LastOffset() + b.NextOffset() + int64(b.LeaderEpoch()) + int64(b.CRC()) + b.BaseTimestamp() + b.MaxTimestamp() +
			b.ProducerID() + int64(b.ProducerEpoch()) + int64(b.LastSequence()) + int64(b.Count()) + int64(b.Attributes().Codec())
		Batch(raw)[22] &^= byte(attrLogAppendTime)
		b.setCRC()
	})
	if allocs != 0 {
		t.Errorf("%v allocations, sum %d", allocs, sum)
	}
}

func FuzzParse(f *testing.F) {
	for _, codec := range allCodecs {
		f.Add([]byte(build(f, codec, sample())))
	}
	f.Add(unhex(f, goldenHex))
	f.Add(make([]byte, 200))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := Parse(data)
		if size, sizeErr := PeekSize(data); err == nil && (sizeErr != nil || size != len(b)) {
			t.Fatalf("Parse took %d bytes, PeekSize says %d, %v", len(b), size, sizeErr)
		}
		if err != nil {
			_, corrupt := errors.AsType[*CorruptError](err)
			if corrupt == errors.Is(err, ErrShort) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if !bytes.Equal(b, data[:len(b)]) || b.LastOffset() < b.BaseOffset() || b.NextOffset() <= 0 || b.Count() < 0 {
			t.Fatalf("accepted %v", b)
		}
		_ = b.CheckCRC()
		_ = b.String()
	})
}
