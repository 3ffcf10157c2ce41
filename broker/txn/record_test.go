package txn

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"varve/broker/coord"
)

func someStatus(rng *rand.Rand) status {
	s := status{
		state: State(rng.IntN(6)), producerID: rng.Int64(), prevID: rng.Int64N(3) - 1, nextID: rng.Int64N(3) - 1,
		epoch: int16(rng.IntN(1 << 15)), lastEpoch: int16(rng.IntN(3)) - 1, timeoutMS: rng.Int32(),
		startMS: rng.Int64(), updateMS: rng.Int64(), version: Version(rng.IntN(3)),
	}
	for t := range rng.IntN(4) {
		for p := range rng.IntN(5) + 1 {
			s.parts = append(s.parts, Partition{strings.Repeat("t", t+1), int32(p)})
		}
	}
	return s
}

func TestRecordsKeepTheWholeStatus(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		want := someStatus(rng)
		got, err := decodeValue(want.encode())
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v, want %+v", got, err, want)
		}
	}
}

// TestRecordBytesAreKafkas holds the bytes of a key and a value, so that a change of the format is seen.
func TestRecordBytesAreKafkas(t *testing.T) {
	s := status{
		state: ongoing, producerID: 7, prevID: 6, nextID: noID, epoch: 3, lastEpoch: 2, timeoutMS: 60000,
		parts: []Partition{{"t", 0}, {"t", 2}}, startMS: 1000, updateMS: 2000, version: V2,
	}
	const (
		wantKey   = "0000" + "0001" + "61"
		wantValue = "0001" + "0000000000000007" + "0003" + "0000ea60" + "01" + // version, producer, epoch, timeout, state
			"02" + "0274" + "03" + "00000000" + "00000002" + "00" + // one topic, two partitions
			"00000000000007d0" + "00000000000003e8" + // updated, started
			"03" + "00" + "08" + "0000000000000006" + "02" + "02" + "0002" + "a846" + "02" + "0002" // tags 0, 2, 9000
	)
	if got := hex.EncodeToString(encodeKey("a")); got != wantKey {
		t.Errorf("key %s, want %s", got, wantKey)
	}
	if got := hex.EncodeToString(s.encode()); got != wantValue {
		t.Errorf("value %s, want %s", got, wantValue)
	}
}

func TestKeysOfLaterVersionsAreSkipped(t *testing.T) {
	b := newBench(t)
	if err := b.m.Apply(coord.Record{Key: []byte{0, 9, 1, 2}, Value: []byte("x")}, coord.Info{}); err != nil || len(b.m.txns) != 0 {
		t.Fatalf("err %v, %d ids", err, len(b.m.txns))
	}
}

func FuzzRecord(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 5 {
		s := someStatus(rng)
		f.Add(encodeKey("id"), s.encode())
	}
	f.Add([]byte{0, 0}, []byte{0, 1})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		id, ok, err := decodeKey(key)
		if err == nil && ok && !bytes.HasPrefix(key, encodeKey(id)) {
			t.Fatalf("key %x reads as %q", key, id)
		}
		s, err := decodeValue(value)
		if err != nil {
			return
		}
		again, err := decodeValue(s.encode())
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Fatalf("%+v reads again as %+v, %v", s, again, err)
		}
		m := newBench(t).m
		if err := m.Apply(coord.Record{Key: encodeKey("a"), Value: value}, coord.Info{}); err != nil {
			t.Fatal(err)
		}
	})
}
