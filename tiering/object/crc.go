package object

// combineCRCs is the CRC32C of a whole of total bytes from those of its pieces,
// which all have size bytes but the last.
func combineCRCs(crcs []uint32, size, total int64) uint32 {
	if len(crcs) == 0 {
		return 0
	}
	crc := crcs[0]
	for i, c := range crcs[1:] {
		n := min(size, total-int64(i+1)*size)
		crc = combineCRC(crc, c, n)
	}
	return crc
}

// combineCRC is the CRC32C of a||b from those of a and b, where b has n bytes: a's
// CRC is carried through n zero bytes by squaring the matrix of one zero bit (the
// method of zlib's crc32_combine).
func combineCRC(a, b uint32, n int64) uint32 {
	if n <= 0 {
		return a
	}
	var odd, even gf2
	odd[0] = 0x82f63b78 // the polynomial, reflected
	for i := 1; i < 32; i++ {
		odd[i] = 1 << (i - 1)
	}
	odd.squareTo(&even) // two zero bits
	even.squareTo(&odd) // four
	for src, dst := &odd, &even; n > 0; n >>= 1 {
		src.squareTo(dst) // one zero byte the first time
		if n&1 != 0 {
			a = dst.times(a)
		}
		src, dst = dst, src
	}
	return a ^ b
}

// gf2 is a 32x32 matrix of bits, by columns.
type gf2 [32]uint32

func (m *gf2) times(v uint32) uint32 {
	var sum uint32
	for i := 0; v != 0; i, v = i+1, v>>1 {
		if v&1 != 0 {
			sum ^= m[i]
		}
	}
	return sum
}

func (m *gf2) squareTo(dst *gf2) {
	for i := range m {
		dst[i] = m.times(m[i])
	}
}
