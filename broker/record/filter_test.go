package record

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"
)

// cloneRecord copies what is a view.
func cloneRecord(r Record) Record {
	r.Key, r.Value, r.Headers = bytes.Clone(r.Key), bytes.Clone(r.Value), slices.Clone(r.Headers)
	for i := range r.Headers {
		r.Headers[i].Value = bytes.Clone(r.Headers[i].Value)
	}
	return r
}

func recordsOf(t *testing.T, b Batch) []Record {
	t.Helper()
	if _, err := Parse(b); err != nil {
		t.Fatal(err)
	}
	if err := b.CheckCRC(); err != nil {
		t.Fatal(err)
	}
	var out []Record
	for r, err := range b.Records(1 << 24) {
		if err != nil {
			t.Fatalf("records of %v: %v", b, err)
		}
		out = append(out, cloneRecord(r))
	}
	return out
}

// filtered applies a choice to a batch.
func filtered(t *testing.T, b Batch, horizon int64, keep func(i int) bool) Batch {
	t.Helper()
	var c Cursor
	if err := c.Reset(b, 1<<24); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		more, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
		if keep(i) {
			c.Keep()
		}
	}
	out, err := c.Append([]byte("before"), horizon)
	if err != nil {
		t.Fatal(err)
	}
	return out[6:]
}

// TestFilteredBatchKeepsOffsetsTimesAndProducer for every codec, with and without a delete horizon.
func TestFilteredBatchKeepsOffsetsTimesAndProducer(t *testing.T) {
	for codec := None; codec <= Zstd; codec++ {
		for _, horizon := range []int64{-1, 0, 1_700_000_000_000, math.MaxInt64} {
			b := NewBuilder(codec)
			b.SetProducer(7, 3, 40)
			b.SetTransactional()
			b.SetBaseOffset(1000)
			b.SetLeaderEpoch(9)
			for i := range 50 {
				r := Record{Timestamp: 1_600_000_000_000 + int64(i*37%50), Key: fmt.Appendf(nil, "k%d", i), Value: bytes.Repeat([]byte{byte(i)}, i*9)}
				switch i % 7 {
				case 0:
					r.Value = nil
				case 1:
					r.Key = nil
				case 2:
					r.Headers = []Header{{"a", nil}, {"b", []byte("x")}}
				}
				b.Append(r)
			}
			batch, err := b.Build()
			if err != nil {
				t.Fatal(err)
			}
			keep := func(i int) bool { return i%3 != 1 && i < 45 }
			var want []Record
			latest := int64(-1)
			for i, r := range recordsOf(t, batch) {
				if keep(i) {
					want = append(want, r)
					latest = max(latest, r.Timestamp)
				}
			}
			got := filtered(t, batch, horizon, keep)
			if fmt.Sprint(recordsOf(t, got)) != fmt.Sprint(want) {
				t.Fatalf("%v, horizon %d: %v, want %v", codec, horizon, recordsOf(t, got), want)
			}
			if got.BaseOffset() != 1000 || got.LastOffset() != 1049 || got.LeaderEpoch() != 9 || got.ProducerID() != 7 || got.ProducerEpoch() != 3 ||
				got.BaseSequence() != 40 || got.LastSequence() != 89 || got.MaxTimestamp() != latest || got.Attributes().Codec() != codec ||
				!got.Attributes().Transactional() || got.Attributes().DeleteHorizon() != (horizon >= 0) || horizon >= 0 && got.BaseTimestamp() != horizon {
				t.Fatalf("%v: %v max %d, was %v", codec, got, got.MaxTimestamp(), batch)
			}
			again := filtered(t, got, -1, func(i int) bool { return i%2 == 0 }) // a batch with horizon is filtered like any
			for i, r := range recordsOf(t, again) {
				if fmt.Sprint(r) != fmt.Sprint(want[2*i]) {
					t.Fatalf("%v: %v, want %v", codec, r, want[2*i])
				}
			}
		}
	}
}

func TestFilterThatKeepsAllKeepsTheBytes(t *testing.T) {
	b := NewBuilder(LZ4)
	b.Append(Record{Key: []byte("k"), Value: []byte("v")})
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	if got := filtered(t, batch, -1, func(int) bool { return true }); !bytes.Equal(got, batch) {
		t.Fatalf("%x, was %x", got, batch)
	}
}

func TestFilterKeepsLogAppendTime(t *testing.T) {
	b := NewBuilder(None)
	for i := range 4 {
		b.Append(Record{Timestamp: int64(i), Key: []byte{byte(i)}})
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	batch.SetLogAppendTime(5000)
	got := filtered(t, batch, 99, func(i int) bool { return i == 1 })
	if r := recordsOf(t, got); len(r) != 1 || r[0].Timestamp != 5000 || got.MaxTimestamp() != 5000 || r[0].Offset != 1 {
		t.Fatalf("%v of %v", r, got)
	}
}

func TestEmptyBatchTakesUpOffsetsAndSequences(t *testing.T) {
	b := Batch(Empty{First: 100, Last: 109, LeaderEpoch: 4, ProducerID: 7, ProducerEpoch: 2, BaseSequence: 30}.Append(nil))
	if len(recordsOf(t, b)) != 0 || b.NextOffset() != 110 || b.LastSequence() != 39 || b.LeaderEpoch() != 4 || b.Attributes() != 0 || b.MaxTimestamp() != NoTimestamp {
		t.Fatalf("%v", b)
	}
	b = Empty{First: 100, Last: 109, ProducerID: NoProducerID, ProducerEpoch: -1, BaseSequence: -1}.Append(nil)
	b.SetLastOffset(100 + math.MaxInt32)
	if len(recordsOf(t, b)) != 0 || b.NextOffset() != 101+math.MaxInt32 || b.LastSequence() != -1 {
		t.Fatalf("%v", b)
	}
}

// FuzzCursor: no panic; where Records decodes a batch the cursor sees the same records, and what it
// keeps decodes as those.
func FuzzCursor(f *testing.F) {
	for codec := None; codec <= Zstd; codec++ {
		b := NewBuilder(codec)
		for i := range 5 {
			b.Append(Record{Timestamp: int64(i), Key: []byte{byte(i)}, Value: []byte("value"), Headers: []Header{{"h", nil}}})
		}
		batch, err := b.Build()
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(batch), uint64(0b10110), int64(-1))
		f.Add([]byte(batch), uint64(0b01), int64(77))
	}
	f.Fuzz(func(t *testing.T, raw []byte, keep uint64, horizon int64) {
		b, err := Parse(raw)
		if err != nil {
			return
		}
		const limit = 1 << 16
		var want []Record
		valid := true
		for r, err := range b.Records(limit) {
			if err != nil {
				valid = false
				break
			}
			want = append(want, cloneRecord(r))
		}
		var c Cursor
		if err := c.Reset(b, limit); err != nil {
			if valid {
				t.Fatalf("records decode, the cursor says %v", err)
			}
			return
		}
		var kept []Record
		for i := 0; ; i++ {
			more, err := c.Next()
			if err != nil {
				if valid {
					t.Fatalf("records decode, the cursor says %v", err)
				}
				return
			}
			if !more {
				break
			}
			if i < len(want) && (c.Offset != want[i].Offset || !bytes.Equal(c.Key, want[i].Key) || c.Tombstone != (want[i].Value == nil)) {
				t.Fatalf("record %d is %d %q, want %+v", i, c.Offset, c.Key, want[i])
			}
			if keep>>(i%64)&1 == 1 {
				c.Keep()
				if i < len(want) {
					kept = append(kept, want[i])
				}
			}
		}
		if !valid || c.Kept() == 0 {
			return
		}
		out, err := c.Append(nil, horizon)
		if err != nil {
			t.Fatalf("keep %d: %v", c.Kept(), err)
		}
		i := 0
		for r, err := range Batch(out).Records(4 * limit) {
			if err != nil || fmt.Sprint(r) != fmt.Sprint(kept[i]) {
				t.Fatalf("record %d is %+v (%v), want %+v", i, r, err, kept[i])
			}
			i++
		}
		if i != len(kept) {
			t.Fatalf("%d records, want %d", i, len(kept))
		}
	})
}
