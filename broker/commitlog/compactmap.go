package commitlog

import (
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"
	"unsafe"
)

// keyMap tells the newest offset of each key in a part of a log. It holds no keys but 16 bytes a
// key: 96 bits of a 128-bit keyed hash, whose other 32 bits choose the place, and the offset.
//
// Two keys that meet in it would make one of them lose its newest record, so they must not. The hash
// is SipHash-2-4 with a random key of each run, which nobody can aim at, and by chance two of n keys
// meet with probability n*n/2^97: for 10 million keys 1 in 10^15, far below what disks lose unseen.
type keyMap struct {
	slots  []keySlot
	used   int
	most   int    // used <= most < len(slots)
	k0, k1 uint64 // of the hash
	base   int64  // offsets are kept relative to it
	free   func() // of the slots' memory
}

type keySlot struct {
	hi  uint64
	lo  uint32
	off uint32 // offset - base + 1, 0 is an empty slot
}

const (
	keySlotBytes = int64(unsafe.Sizeof(keySlot{}))
	// keyMapLoad is how full the map gets, in percent: at 85 a missing key costs 23 probes of
	// neighbouring slots, six cache lines; at 90 it is 50, at 80 a sixth of the keys fewer fit.
	keyMapLoad = 85
	// minMapSlots keeps the smallest buffer useful, and the arithmetic safe.
	minMapSlots = 64
	// heapMapBytes is where a map begins to matter beside the rest of the heap.
	heapMapBytes = 1 << 20
)

// newKeyMap makes a map for at most keys keys in at most limit bytes, in old's memory if that suffices.
// The last one is to be released.
func newKeyMap(old *keyMap, limit, keys, base int64) *keyMap {
	want := int64(math.MaxInt32)
	if keys < want/2 {
		want = keys*100/keyMapLoad + 1
	}
	n := int(max(min(want, limit/keySlotBytes, math.MaxUint32), minMapSlots))
	m := &keyMap{k0: rand.Uint64(), k1: rand.Uint64(), base: base}
	if old != nil && cap(old.slots) >= n {
		m.slots, m.free = old.slots[:n], old.free
		clear(m.slots)
	} else {
		old.release()
		m.slots, m.free = makeSlots(n)
	}
	m.most = n * keyMapLoad / 100
	return m
}

// release gives the memory back; m may be nil.
func (m *keyMap) release() {
	if m != nil {
		m.free()
		m.slots = nil
	}
}

// keyHash is a key as the map knows it.
type keyHash struct{ hi, lo uint64 }

func (m *keyMap) hash(key []byte) keyHash {
	hi, lo := siphash128(m.k0, m.k1, key)
	return keyHash{hi, lo}
}

// touch reads the slots of several keys, which are far apart: the processor then waits for all of them
// at a time, where put and newest would wait for one after the other. The sum means nothing.
func (m *keyMap) touch(keys []keyHash) (sum uint32) {
	for _, k := range keys {
		sum += m.slots[m.place(k.lo)].off
	}
	return sum
}

// put notes that offset, which is above all before, has the newest record of key. It answers false,
// and changes nothing, if the map is full.
func (m *keyMap) put(key keyHash, offset int64) bool {
	rel := offset - m.base + 1
	if rel > math.MaxUint32 {
		return false
	}
	hi, lo := key.hi, key.lo
	for i := m.place(lo); ; i++ {
		if i == len(m.slots) {
			i = 0
		}
		s := &m.slots[i]
		if s.off == 0 {
			if m.used == m.most {
				return false
			}
			m.used++
			*s = keySlot{hi, uint32(lo), uint32(rel)}
			return true
		}
		if s.hi == hi && s.lo == uint32(lo) {
			s.off = uint32(rel)
			return true
		}
	}
}

// newest is the offset of the newest record of key, -1 if the map has none.
func (m *keyMap) newest(key keyHash) int64 {
	hi, lo := key.hi, key.lo
	for i := m.place(lo); ; i++ {
		if i == len(m.slots) {
			i = 0
		}
		s := &m.slots[i]
		if s.off == 0 {
			return -1
		}
		if s.hi == hi && s.lo == uint32(lo) {
			return m.base + int64(s.off) - 1
		}
	}
}

func (m *keyMap) place(lo uint64) int {
	return int((lo >> 32) * uint64(len(m.slots)) >> 32)
}

// siphash128 is SipHash-2-4 with 128 bits of output (Aumasson, Bernstein: SipHash, a fast
// short-input PRF; the wide output as in the reference implementation).
func siphash128(k0, k1 uint64, p []byte) (hi, lo uint64) {
	v0, v1 := k0^0x736f6d6570736575, k1^0x646f72616e646f6d^0xee
	v2, v3 := k0^0x6c7967656e657261, k1^0x7465646279746573
	tail := uint64(len(p)) << 56
	for len(p) >= 8 {
		m := binary.LittleEndian.Uint64(p)
		v3 ^= m
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0 ^= m
		p = p[8:]
	}
	for i, c := range p {
		tail |= uint64(c) << (8 * i)
	}
	v3 ^= tail
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0 ^= tail
	v2 ^= 0xee
	for range 4 {
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	}
	hi = v0 ^ v1 ^ v2 ^ v3
	v1 ^= 0xdd
	for range 4 {
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	}
	return hi, v0 ^ v1 ^ v2 ^ v3
}

func sipRound(v0, v1, v2, v3 uint64) (uint64, uint64, uint64, uint64) {
	v0 += v1
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v0 = bits.RotateLeft64(v0, 32)
	v2 += v3
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 += v3
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	v2 += v1
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	v2 = bits.RotateLeft64(v2, 32)
	return v0, v1, v2, v3
}
