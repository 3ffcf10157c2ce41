package tiering

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// The trailer of a cold object; FORMAT.md shows one byte by byte. Integers are
// big-endian, as in the record batches before it; only the frame words are LZ4's.
//
//	trailer = skipMagic u32 LE | length u32 LE | producers | index | footer
//	index   = header | chunk* | epoch* | aborted*
//
// A reader needs the last IndexLen bytes (index and footer), which the manifest
// entry knows. The producer snapshot lies before them, so that a first touch does
// not fetch it.
const (
	formatVersion = 1
	footerMagic   = "VARVEIDX"

	indexHeadBytes  = 128
	indexChunkBytes = 52
	indexEpochBytes = 12
	indexAbortBytes = 24
	footerBytes     = 32

	encryptionNone = 0

	// Counts are checked against these and against the bytes at hand before
	// anything is allocated.
	maxIndexBytes = 64 << 20
	maxProducers  = 256 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Epoch says that a leader epoch begins at an offset.
type Epoch struct {
	Epoch int32 `json:"epoch"`
	Start int64 `json:"start"`
}

// Aborted is a transaction that was aborted: its first offset and that of its
// marker.
type Aborted struct {
	ProducerID  int64
	First, Last int64
}

// Chunk describes one frame of an object. Offsets are inclusive.
type Chunk struct {
	First, Last        int64
	MaxTimestamp       int64
	MaxTimestampOffset int64
	Pos                int64 // of the frame in the object
	Stored, Raw        uint32
	CRC                uint32 // CRC32C of the Stored bytes
}

// Index is what a cold object says about itself.
type Index struct {
	TopicID     [16]byte
	Partition   int32
	LeaderEpoch int32 // of the uploader

	First, Last        int64
	BaseTimestamp      int64
	MaxTimestamp       int64
	MaxTimestampOffset int64
	Records, Batches   int64
	RawBytes           int64 // of all chunks

	ProducersPos int64 // of the producer snapshot in the object
	ProducersLen uint32
	ProducersCRC uint32

	Chunks  []Chunk
	Epochs  []Epoch
	Aborted []Aborted
}

// appendIndex encodes x without its footer.
func appendIndex(b []byte, x *Index) []byte {
	be := binary.BigEndian
	b = be.AppendUint16(b, formatVersion)
	b = append(b, encryptionNone, 0)
	b = be.AppendUint32(b, uint32(x.Partition))
	b = append(b, x.TopicID[:]...)
	b = be.AppendUint32(b, uint32(x.LeaderEpoch))
	for _, v := range []int64{
		x.First, x.Last, x.BaseTimestamp, x.MaxTimestamp, x.MaxTimestampOffset,
		x.Records, x.Batches, x.RawBytes, x.ProducersPos,
	} {
		b = be.AppendUint64(b, uint64(v))
	}
	for _, v := range []uint32{
		x.ProducersLen, x.ProducersCRC, uint32(len(x.Chunks)), uint32(len(x.Epochs)), uint32(len(x.Aborted)), 0, 0,
	} {
		b = be.AppendUint32(b, v)
	}
	for i := range x.Chunks {
		c := &x.Chunks[i]
		for _, v := range [...]int64{c.First, c.Last, c.MaxTimestamp, c.MaxTimestampOffset, c.Pos} {
			b = be.AppendUint64(b, uint64(v))
		}
		b = be.AppendUint32(b, c.Stored)
		b = be.AppendUint32(b, c.Raw)
		b = be.AppendUint32(b, c.CRC)
	}
	for _, e := range x.Epochs {
		b = be.AppendUint32(b, uint32(e.Epoch))
		b = be.AppendUint64(b, uint64(e.Start))
	}
	for _, a := range x.Aborted {
		b = be.AppendUint64(b, uint64(a.ProducerID))
		b = be.AppendUint64(b, uint64(a.First))
		b = be.AppendUint64(b, uint64(a.Last))
	}
	return b
}

// appendFooter encodes the last bytes of an object:
//
//	index position u64 | index length u32 | index CRC32C u32 | version u16 | 0 u16 |
//	CRC32C of the 20 bytes before u32 | magic [8]
func appendFooter(b []byte, pos int64, index []byte) []byte {
	be, start := binary.BigEndian, len(b)
	b = be.AppendUint64(b, uint64(pos))
	b = be.AppendUint32(b, uint32(len(index)))
	b = be.AppendUint32(b, crc32.Checksum(index, castagnoli))
	b = be.AppendUint16(b, formatVersion)
	b = be.AppendUint16(b, 0)
	b = be.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	return append(b, footerMagic...)
}

// decodeFooter reads the last footerBytes of an object.
func decodeFooter(key string, size int64, b []byte) (pos int64, length int, crc uint32, err error) {
	at, be := size-footerBytes, binary.BigEndian
	if len(b) != footerBytes || string(b[24:]) != footerMagic {
		return 0, 0, 0, corruptf(key, at, "no footer")
	}
	if got := crc32.Checksum(b[:20], castagnoli); got != be.Uint32(b[20:]) {
		return 0, 0, 0, corruptf(key, at, "footer CRC32C %08x, computed %08x", be.Uint32(b[20:]), got)
	}
	if v := be.Uint16(b[16:]); v != formatVersion {
		return 0, 0, 0, corruptf(key, at, "format version %d is unknown to this program", v)
	}
	p, n := be.Uint64(b), be.Uint32(b[8:])
	if n < indexHeadBytes || n > maxIndexBytes || p > uint64(size) || p+uint64(n) != uint64(at) {
		return 0, 0, 0, corruptf(key, at, "index of %d bytes at %d in an object of %d", n, p, size)
	}
	return int64(p), int(n), be.Uint32(b[12:]), nil
}

// DecodeIndex reads the tail of an object of size bytes: index and footer, and
// nothing before them. It checks every field against the others and against size.
func DecodeIndex(key string, size int64, tail []byte) (*Index, error) {
	if int64(len(tail)) > size || len(tail) < indexHeadBytes+footerBytes {
		return nil, corruptf(key, size, "tail of %d bytes in an object of %d", len(tail), size)
	}
	pos, n, crc, err := decodeFooter(key, size, tail[len(tail)-footerBytes:])
	if err != nil {
		return nil, err
	}
	if n+footerBytes != len(tail) {
		return nil, corruptf(key, pos, "index of %d bytes, expected %d", n, len(tail)-footerBytes)
	}
	if got := crc32.Checksum(tail[:n], castagnoli); got != crc {
		return nil, corruptf(key, pos, "index CRC32C %08x, computed %08x", crc, got)
	}
	x, err := parseIndex(tail[:n])
	if err == nil {
		err = x.validate(pos)
	}
	if err != nil {
		return nil, corruptf(key, pos, "%v", err)
	}
	return x, nil
}

func parseIndex(b []byte) (*Index, error) {
	be := binary.BigEndian
	if v := be.Uint16(b); v != formatVersion {
		return nil, fmt.Errorf("index version %d is unknown to this program", v)
	}
	if b[2] != encryptionNone {
		return nil, fmt.Errorf("encryption %d is unknown to this program", b[2])
	}
	x := &Index{Partition: int32(be.Uint32(b[4:])), LeaderEpoch: int32(be.Uint32(b[24:]))}
	copy(x.TopicID[:], b[8:])
	for i, p := range []*int64{
		&x.First, &x.Last, &x.BaseTimestamp, &x.MaxTimestamp, &x.MaxTimestampOffset,
		&x.Records, &x.Batches, &x.RawBytes, &x.ProducersPos,
	} {
		*p = int64(be.Uint64(b[28+8*i:]))
	}
	x.ProducersLen, x.ProducersCRC = be.Uint32(b[100:]), be.Uint32(b[104:])
	chunks, epochs, aborted := be.Uint32(b[108:]), be.Uint32(b[112:]), be.Uint32(b[116:])
	rest := b[indexHeadBytes:]
	want := uint64(chunks)*indexChunkBytes + uint64(epochs)*indexEpochBytes + uint64(aborted)*indexAbortBytes
	if want != uint64(len(rest)) {
		return nil, fmt.Errorf("%d chunks, %d epochs and %d aborted transactions in %d bytes", chunks, epochs, aborted, len(rest))
	}
	x.Chunks = make([]Chunk, chunks)
	for i := range x.Chunks {
		c := &x.Chunks[i]
		for j, p := range [...]*int64{&c.First, &c.Last, &c.MaxTimestamp, &c.MaxTimestampOffset, &c.Pos} {
			*p = int64(be.Uint64(rest[8*j:]))
		}
		c.Stored, c.Raw, c.CRC = be.Uint32(rest[40:]), be.Uint32(rest[44:]), be.Uint32(rest[48:])
		rest = rest[indexChunkBytes:]
	}
	x.Epochs = make([]Epoch, epochs)
	for i := range x.Epochs {
		x.Epochs[i] = Epoch{int32(be.Uint32(rest)), int64(be.Uint64(rest[4:]))}
		rest = rest[indexEpochBytes:]
	}
	x.Aborted = make([]Aborted, aborted)
	for i := range x.Aborted {
		x.Aborted[i] = Aborted{int64(be.Uint64(rest)), int64(be.Uint64(rest[8:])), int64(be.Uint64(rest[16:]))}
		rest = rest[indexAbortBytes:]
	}
	return x, nil
}

// validate checks, for an index at position pos of its object:
//
//	0 <= First <= Last, chunks gapless in offsets and in bytes from 0 on,
//	the trailer right behind them, epochs rising, aborted ranges inside or before.
func (x *Index) validate(pos int64) error {
	if x.First < 0 || x.Last < x.First || len(x.Chunks) == 0 || len(x.Epochs) == 0 {
		return fmt.Errorf("range [%d, %d] with %d chunks and %d epochs", x.First, x.Last, len(x.Chunks), len(x.Epochs))
	}
	next, at, raw := x.First, int64(0), int64(0)
	for i := range x.Chunks {
		c := &x.Chunks[i]
		if c.First != next || c.Last < c.First || c.Last > x.Last || c.Pos != at {
			return fmt.Errorf("chunk %d holds [%d, %d] at %d, expected from %d at %d", i, c.First, c.Last, c.Pos, next, at)
		}
		if c.Raw == 0 || c.Raw > maxChunkRaw || c.Stored < uint32(frameOverhead) || c.Stored > maxStored(c.Raw) ||
			uint64(c.Raw) > uint64(c.Stored)*maxRatio {
			return fmt.Errorf("chunk %d of %d bytes unpacks to %d", i, c.Stored, c.Raw)
		}
		next, at, raw = c.Last+1, at+int64(c.Stored), raw+int64(c.Raw)
	}
	if next != x.Last+1 || raw != x.RawBytes {
		return fmt.Errorf("chunks end at %d with %d bytes, index says %d and %d", next, raw, x.Last+1, x.RawBytes)
	}
	if x.ProducersPos != at+skipHead || x.ProducersPos+int64(x.ProducersLen) != pos || x.ProducersLen > maxProducers {
		return fmt.Errorf("producer snapshot of %d bytes at %d between %d and %d", x.ProducersLen, x.ProducersPos, at, pos)
	}
	if x.Records < 0 || x.Batches < 1 {
		return fmt.Errorf("%d records in %d batches", x.Records, x.Batches)
	}
	if err := checkEpochs(x.Epochs, x.First, x.Last); err != nil {
		return err
	}
	for i, a := range x.Aborted {
		if a.First > a.Last || a.First > x.Last || a.Last < x.First {
			return fmt.Errorf("aborted transaction %d [%d, %d] is not in [%d, %d]", i, a.First, a.Last, x.First, x.Last)
		}
	}
	return nil
}

// maxStored is the longest frame for raw bytes: one block word per batch at worst,
// and a batch has more than 60 bytes.
func maxStored(raw uint32) uint32 { return raw + raw/4 + 64 }

// checkEpochs: the first epoch covers first, epochs and starts rise, none starts
// after last.
func checkEpochs(epochs []Epoch, first, last int64) error {
	for i, e := range epochs {
		switch {
		case e.Epoch < 0 || e.Start > last:
			return fmt.Errorf("epoch %d starts at %d, after %d", e.Epoch, e.Start, last)
		case i == 0 && e.Start > first:
			return fmt.Errorf("epoch %d starts at %d, after the first offset %d", e.Epoch, e.Start, first)
		case i > 0 && (e.Epoch <= epochs[i-1].Epoch || e.Start <= epochs[i-1].Start):
			return fmt.Errorf("epoch %d at %d follows epoch %d at %d", e.Epoch, e.Start, epochs[i-1].Epoch, epochs[i-1].Start)
		}
	}
	return nil
}
