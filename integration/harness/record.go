package harness

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// Record is what every client writes and reads. A nil key or value is null; Time is in
// milliseconds, NoTime where the client chose it.
type Record struct {
	Key, Value []byte
	Headers    []Header
	Offset     int64
	Time       int64
}

// Header is one header of a record; a nil value is null.
type Header struct {
	Key   string
	Value []byte
}

// NoTime in an expected record leaves the time open.
const NoTime = -1

// Expected is what a topic holds: the records of each partition from offset 0 on.
type Expected map[int32][]Record

// Diff tells the first difference between what was expected of a topic and what a client read.
func Diff(want, got Expected) error {
	for p, records := range want {
		if err := diffPartition(records, got[p]); err != nil {
			return fmt.Errorf("partition %d: %w", p, err)
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			return fmt.Errorf("partition %d: %d records, want none", p, len(got[p]))
		}
	}
	return nil
}

func diffPartition(want, got []Record) error {
	for i := range min(len(want), len(got)) {
		if err := diffRecord(want[i], got[i]); err != nil {
			return fmt.Errorf("record %d (%s): %w", i, brief(want[i].Value), err)
		}
	}
	if len(want) != len(got) {
		return fmt.Errorf("%d records, want %d", len(got), len(want))
	}
	return nil
}

func diffRecord(want, got Record) error {
	switch {
	case want.Offset != got.Offset:
		return fmt.Errorf("offset %d, want %d", got.Offset, want.Offset)
	case !same(want.Key, got.Key):
		return fmt.Errorf("key %s, want %s", brief(got.Key), brief(want.Key))
	case !same(want.Value, got.Value):
		return fmt.Errorf("value %s, want %s", brief(got.Value), brief(want.Value))
	case want.Time != NoTime && want.Time != got.Time:
		return fmt.Errorf("time %d, want %d", got.Time, want.Time)
	case len(want.Headers) != len(got.Headers):
		return fmt.Errorf("headers %q, want %q", got.Headers, want.Headers)
	}
	for i, h := range want.Headers {
		if g := got.Headers[i]; g.Key != h.Key || !same(g.Value, h.Value) {
			return fmt.Errorf("header %d is %q=%s, want %q=%s", i, g.Key, brief(g.Value), h.Key, brief(h.Value))
		}
	}
	return nil
}

// same tells null from empty.
func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func brief(b []byte) string {
	switch {
	case b == nil:
		return "null"
	case len(b) > 32:
		return fmt.Sprintf("%q... (%d bytes)", b[:32], len(b))
	}
	return fmt.Sprintf("%q", b)
}

// MaxRecord is the largest value of a record in Set, and MaxBatch the limit that topics and
// clients need for it.
const (
	MaxRecord = 10 << 20
	MaxBatch  = 12 << 20
)

// Set is the records that every client writes: values of 1 byte to 10 MiB, null and empty keys and
// values, headers of every kind. Offsets run from 0. Times rise and are an hour old, so that no
// broker clock could have made them.
func Set(label string) []Record {
	h := func(kv ...string) (out []Header) {
		for i := 0; i < len(kv); i += 2 {
			out = append(out, Header{kv[i], []byte(kv[i+1])})
		}
		return out
	}
	binary := make([]byte, 256)
	for i := range binary {
		binary[i] = byte(i)
	}
	records := []Record{
		{Key: []byte("one"), Value: []byte("x")},
		{Value: []byte("null key")},
		{Key: []byte("tombstone")},
		{Key: []byte("tombstone with headers"), Headers: h("why", "gone", "who", label)},
		{Key: []byte{}, Value: []byte("empty key")},
		{Key: []byte("empty value"), Value: []byte{}},
		{Key: binary, Value: slices.Clone(binary)},
		{Key: []byte("headers"), Value: []byte("v"), Headers: h("a", "1", "a", "2", "größe", "\x00\xff\xfe", "z", "last")},
		{Key: []byte("empty header"), Value: []byte("v"), Headers: []Header{{"empty", []byte{}}}},
		{Key: []byte("null header"), Value: []byte("v"), Headers: []Header{{"null", nil}, {"after", []byte("it")}}},
	}
	for i := range 60 { // small ones that share batches
		records = append(records, Record{Key: fmt.Appendf(nil, "k%d", i%7), Value: fmt.Appendf(nil, "%s line %d", label, i)})
	}
	for i, size := range []int{100, 1000, 16<<10 - 1, 64 << 10, 1 << 20, MaxRecord, 17} {
		records = append(records, Record{Key: fmt.Appendf(nil, "size%d", size), Value: Payload(uint64(i), size)})
	}
	start := time.Now().Add(-time.Hour).UnixMilli()
	for i := range records {
		records[i].Offset, records[i].Time = int64(i), start+int64(i)
	}
	return records
}

// Payload is size bytes that compress to about a half, the same for the same seed: random bytes
// and text by turns, so that no codec falls back to storing and none hides a lost byte.
func Payload(seed uint64, size int) []byte {
	out := make([]byte, 0, size+8)
	x := seed*2654435761 + 88172645463325252
	for len(out) < size {
		if len(out)/64%2 == 1 {
			out = append(out, "abcdefgh"...)
			continue
		}
		x ^= x << 13 // xorshift64
		x ^= x >> 7
		x ^= x << 17
		out = binary.LittleEndian.AppendUint64(out, x)
	}
	return out[:size:size]
}
