package commitlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"reflect"
	"testing"
)

// TestSipHashIsTheReference: vectors of the reference implementation (vectors_sip128), key and input
// 00 01 02 ...
func TestSipHashIsTheReference(t *testing.T) {
	in := make([]byte, 64)
	for i := range in {
		in[i] = byte(i)
	}
	k0, k1 := binary.LittleEndian.Uint64(in), binary.LittleEndian.Uint64(in[8:])
	for n, want := range map[int]string{
		0:  "a3817f04ba25a8e66df67214c7550293",
		1:  "da87c1d86b99af44347659119b22fc45",
		8:  "3b62a9ba6258f5610f83e264f31497b4",
		15: "5493e99933b0a8117e08ec0f97cfc3d9",
		63: "5150d1772f50834a503e069a973fbd7c",
	} {
		hi, lo := siphash128(k0, k1, in[:n])
		got := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, hi), lo)
		if fmt.Sprintf("%x", got) != want {
			t.Errorf("%d bytes: %x, want %s", n, got, want)
		}
	}
}

func TestKeyMapTellsTheNewestOffsetUntilItIsFull(t *testing.T) {
	m := newKeyMap(nil, 4096*keySlotBytes, 1<<40, 1000)
	want := map[string]int64{}
	rng := newRand(1)
	at := int64(1000)
	for ; ; at++ {
		key := fmt.Sprintf("key %d", rng.IntN(5000))
		if !m.put(m.hash([]byte(key)), at) {
			if _, known := want[key]; known {
				t.Fatal("a full map refuses a key that it has")
			}
			break
		}
		want[key] = at
	}
	if m.used != len(want) || m.used != 4096*keyMapLoad/100 {
		t.Fatalf("%d of %d keys in %d slots", m.used, len(want), len(m.slots))
	}
	for key, off := range want {
		if got := m.newest(m.hash([]byte(key))); got != off {
			t.Fatalf("%s: %d, want %d", key, got, off)
		}
	}
	for i := range 1000 {
		if got := m.newest(m.hash(fmt.Appendf(nil, "other %d", i))); got != -1 {
			t.Fatalf("a key that was never put has offset %d", got)
		}
	}
	if m.put(m.hash([]byte("far")), m.base+1<<32) {
		t.Fatal("an offset that does not fit was taken")
	}
}

// TestKeyMapKeepsToItsMemory: the slots never exceed the limit, and a small log takes little.
func TestKeyMapKeepsToItsMemory(t *testing.T) {
	if m := newKeyMap(nil, 1<<20, 1<<40, 0); int64(len(m.slots))*keySlotBytes > 1<<20 {
		t.Errorf("%d slots in 1 MiB", len(m.slots))
	}
	if m := newKeyMap(nil, 1<<30, 100, 0); len(m.slots) > 200 || m.most < 100 {
		t.Errorf("%d slots, at most %d used, for 100 keys", len(m.slots), m.most)
	}
}

// FuzzSwap feeds the decoder of swap files: no panic, no allocation beyond the input, and what decodes
// encodes to the same bytes.
func FuzzSwap(f *testing.F) {
	f.Add(sampleSwap().encode())
	f.Add((&swapFile{base: 0, next: 1}).encode())
	f.Add([]byte(swapMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		for range 2 {
			if s, err := decodeSwap(b); err == nil {
				if !bytes.Equal(s.encode(), b) {
					t.Fatalf("%+v encodes to other bytes", s)
				}
				again, err := decodeSwap(s.encode())
				if err != nil || !reflect.DeepEqual(again, s) {
					t.Fatalf("%+v, %v", again, err)
				}
			}
			if len(b) < 4 {
				return
			}
			b = binary.BigEndian.AppendUint32(bytes.Clone(b[:len(b)-4]), crc32.Checksum(b[:len(b)-4], castagnoli))
		}
	})
}
