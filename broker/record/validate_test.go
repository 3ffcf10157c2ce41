package record

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var anyTime = Limits{MaxBytes: 64 << 20, Now: 1_700_000_000_000, TimestampBeforeMaxMS: math.MaxInt64, TimestampAfterMaxMS: math.MaxInt64}

// producerBatch is valid until change has seen it; length and CRC are right afterwards.
func producerBatch(change func(*kmsg.RecordBatch)) []byte {
	recs := sample()
	kb := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, LastOffsetDelta: int32(len(recs) - 1), NumRecords: int32(len(recs)),
		FirstTimestamp: recs[0].Timestamp, MaxTimestamp: recs[1].Timestamp,
		ProducerID: 5, ProducerEpoch: 0, FirstSequence: 11,
		Records: kmsgRecords(0, recs[0].Timestamp, recs),
	}
	if change != nil {
		change(&kb)
	}
	return kmsgBatch(kb)
}

func TestValidateProduceTakesEveryCodec(t *testing.T) {
	recs := sample()
	for _, codec := range allCodecs {
		used, payload := kmsgCompress(t, codec, kmsgRecords(0, 0, recs))
		if used != codec {
			t.Fatalf("franz-go used %v for %v", used, codec)
		}
		if err := ValidateProduce(kmsgRaw(codec, len(recs), payload), anyTime); err != nil {
			t.Errorf("%v: %v", codec, err)
		}
		if err := ValidateProduce(build(t, codec, recs), anyTime); err != nil {
			t.Errorf("%v, own builder: %v", codec, err)
		}
	}
}

func TestValidateProduceRefusesHeaderFields(t *testing.T) {
	type kb = kmsg.RecordBatch
	for _, c := range []struct {
		text   string
		change func(*kb)
	}{
		{"control batch", func(b *kb) { b.Attributes = 0x20 }},
		{"delete horizon", func(b *kb) { b.Attributes = 0x40 }},
		{"unknown codec 5", func(b *kb) { b.Attributes = 5 }},
		{"unknown codec 7", func(b *kb) { b.Attributes = 7 }},
		{"0 records", func(b *kb) { b.NumRecords, b.LastOffsetDelta = 0, -1 }},
		{"-4 records", func(b *kb) { b.NumRecords = -4 }},
		{"last offset delta 4", func(b *kb) { b.LastOffsetDelta = 4 }},
		{"last offset delta 2", func(b *kb) { b.LastOffsetDelta = 2 }},
		{"last offset delta -1", func(b *kb) { b.LastOffsetDelta = -1 }},
		{"1000 records in", func(b *kb) { b.NumRecords, b.LastOffsetDelta = 1000, 999 }},
		{"in no bytes", func(b *kb) { b.Attributes, b.Records = 4, nil }},
		{"producer id -2", func(b *kb) { b.ProducerID = -2 }},
		{"without a producer id", func(b *kb) { b.ProducerID, b.Attributes = -1, 0x10 }},
		{"with epoch -1", func(b *kb) { b.ProducerEpoch = -1 }},
		{"with base sequence -1", func(b *kb) { b.FirstSequence = -1 }},
	} {
		err := ValidateProduce(producerBatch(c.change), anyTime)
		if !errors.Is(err, ErrInvalidRecord) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("want %q, got %v", c.text, err)
		}
	}
	// What the leader assigns is not the client's to get wrong.
	if err := ValidateProduce(producerBatch(func(b *kb) { b.FirstOffset, b.PartitionLeaderEpoch = -9, -9 }), anyTime); err != nil {
		t.Error(err)
	}
}

func TestValidateProduceRefusesTheFrame(t *testing.T) {
	good := producerBatch(nil)
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	old := bytes.Clone(good)
	old[16] = 1
	small := anyTime
	small.MaxBytes = len(good) - 1
	for _, c := range []struct {
		name string
		b    []byte
		lim  Limits
		want error
	}{
		{"nothing", nil, anyTime, ErrCorrupt},
		{"cut off", good[:len(good)-1], anyTime, ErrCorrupt},
		{"two batches", append(bytes.Clone(good), good...), anyTime, ErrInvalidRecord},
		{"one byte more", append(bytes.Clone(good), 0), anyTime, ErrInvalidRecord},
		{"flipped bit", flipped, anyTime, ErrCorrupt},
		{"old format", old, anyTime, ErrUnsupportedMagic},
		{"too large", good, small, ErrTooLarge},
		{"too large before a bad CRC", flipped, small, ErrTooLarge},
	} {
		err := ValidateProduce(c.b, c.lim)
		for _, kind := range []error{ErrCorrupt, ErrInvalidRecord, ErrUnsupportedMagic, ErrTooLarge, ErrInvalidTimestamp, ErrShort} {
			if errors.Is(err, kind) != (kind == c.want) { //nolint:errorlint // the table holds the sentinels
				t.Errorf("%s: %v, want %v only", c.name, err, c.want)
			}
		}
	}
}

func TestTimestampsAreHeldToThePolicy(t *testing.T) {
	const now = 1_700_000_000_000
	for _, c := range []struct {
		base, latest, before, after int64
		ok                          bool
	}{
		{now, now, 0, 0, true},
		{now - 1, now, 0, 0, false},
		{now, now + 1, 0, 0, false},
		{now - 10, now + 20, 10, 20, true},
		{now - 11, now + 20, 10, 20, false},
		{now - 10, now + 21, 10, 20, false},
		{NoTimestamp, NoTimestamp, 0, 0, true},
		{0, math.MaxInt64, math.MaxInt64, math.MaxInt64, true},
		{0, 0, math.MaxInt64, 0, true},
		{math.MinInt64, 0, math.MaxInt64, 0, false},
	} {
		raw := producerBatch(func(b *kmsg.RecordBatch) { b.FirstTimestamp, b.MaxTimestamp = c.base, c.latest })
		lim := Limits{MaxBytes: 1 << 20, Now: now, TimestampBeforeMaxMS: c.before, TimestampAfterMaxMS: c.after}
		err := ValidateProduce(raw, lim)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrInvalidTimestamp) {
			t.Errorf("%+v: %v", c, err)
		}
		lim.LogAppendTime = true
		if err := ValidateProduce(raw, lim); err != nil {
			t.Errorf("%+v with LogAppendTime: %v", c, err)
		}
	}
	raw := producerBatch(func(b *kmsg.RecordBatch) { b.Attributes = 0x08 })
	if err := ValidateProduce(raw, anyTime); !errors.Is(err, ErrInvalidTimestamp) {
		t.Errorf("a producer may set LogAppendTime: %v", err)
	}
}

func FuzzValidateProduce(f *testing.F) {
	for _, codec := range allCodecs {
		f.Add([]byte(build(f, codec, sample())), true)
	}
	f.Add(producerBatch(nil), false)
	f.Add(unhex(f, goldenHex), true)
	f.Fuzz(func(t *testing.T, data []byte, fixCRC bool) {
		if fixCRC && len(data) >= HeaderLen {
			data = bytes.Clone(data)
			Batch(data).setCRC()
		}
		lim := Limits{MaxBytes: 1 << 20, Now: 1_700_000_000_000, TimestampBeforeMaxMS: math.MaxInt64, TimestampAfterMaxMS: 3_600_000}
		before := bytes.Clone(data)
		err := ValidateProduce(data, lim)
		if !bytes.Equal(before, data) {
			t.Fatal("validation changed the batch")
		}
		if err != nil {
			kinds := 0
			for _, kind := range []error{ErrCorrupt, ErrInvalidRecord, ErrUnsupportedMagic, ErrTooLarge, ErrInvalidTimestamp} {
				if errors.Is(err, kind) {
					kinds++
				}
			}
			if kinds != 1 {
				t.Fatalf("%v is of %d kinds", err, kinds)
			}
			return
		}
		b := Batch(data)
		b.SetBaseOffset(1 << 40)
		b.SetLeaderEpoch(1)
		if p, err := Parse(data); err != nil || len(p) != len(data) {
			t.Fatalf("Parse refuses what produce took: %v", err)
		}
	})
}

func BenchmarkValidateProduce(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			w := NewBuilder(None)
			for value := make([]byte, 1000); w.Len() < size-1024; {
				w.Append(Record{Timestamp: 1_700_000_000_000, Value: value})
			}
			batch, err := w.Build()
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for b.Loop() {
				if err := ValidateProduce(batch, anyTime); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
