package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// The header of a v2 batch; all integers are big-endian. The CRC (CRC32C, Castagnoli) covers
// every byte from the attributes to the end of the batch, so base offset and leader epoch, which
// the leader assigns, lie outside it.
//
//	 0  int64   base offset
//	 8  int32   batch length: bytes after this field
//	12  int32   partition leader epoch
//	16  int8    magic, 2
//	17  uint32  CRC32C of [21, end)
//	21  int16   attributes
//	23  int32   last offset delta
//	27  int64   base timestamp, ms
//	35  int64   max timestamp, ms
//	43  int64   producer id, -1 none
//	51  int16   producer epoch
//	53  int32   base sequence
//	57  int32   record count
//	61          records, compressed as one piece when the codec says so
const (
	offBaseOffset      = 0
	offLength          = 8
	offLeaderEpoch     = 12
	offMagic           = 16
	offCRC             = 17
	offAttributes      = 21
	offLastOffsetDelta = 23
	offBaseTimestamp   = 27
	offMaxTimestamp    = 35
	offProducerID      = 43
	offProducerEpoch   = 51
	offBaseSequence    = 53
	offCount           = 57

	// HeaderLen is the size of a batch without its records.
	HeaderLen = 61
	// logOverhead is the base offset and the length word, which the length word does not count.
	logOverhead = 12

	magicV2 = 2
)

// MaxBatchBytes is the largest batch that Parse takes. It is the default of
// socket.request.max.bytes: a batch above it cannot arrive in any frame, so a length word above
// it is damage.
const MaxBatchBytes = 100 << 20

// NoTimestamp stands for "no timestamp" in a header or record; NoProducerID for a batch without
// idempotence, whose epoch and sequence are -1 too.
const (
	NoTimestamp  int64 = -1
	NoProducerID int64 = -1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is a view of exactly one batch, valid as long as the bytes under it are. Its accessors
// neither allocate nor check: they may be used on what Parse returned or ValidateProduce passed.
type Batch []byte

// PeekSize tells the total bytes of the batch that begins at b[0], from its first 12 bytes alone.
// With fewer it says ErrShort; a length outside [HeaderLen, MaxBatchBytes] is a *CorruptError.
func PeekSize(b []byte) (total int, err error) {
	if len(b) < logOverhead {
		return 0, ErrShort
	}
	n := int32(binary.BigEndian.Uint32(b[offLength:]))
	if n < HeaderLen-logOverhead || n > MaxBatchBytes-logOverhead {
		return 0, corruptf(offLength, "batch length %d is outside %d to %d", n, HeaderLen-logOverhead, MaxBatchBytes-logOverhead)
	}
	return int(n) + logOverhead, nil
}

// Parse views the first batch of b and leaves what follows it alone. It checks what the accessors
// and the arithmetic on offsets rely on, not the CRC and not the records:
//
//	HeaderLen <= length <= MaxBatchBytes, length <= len(b)
//	0 <= base offset <= last offset < 1<<63-1, 0 <= count <= last offset delta + 1
//
// A compacted batch may have fewer records than offsets, even none. ErrShort says that b ends
// before the batch does; any other error is a *CorruptError, which is ErrUnsupportedMagic for a
// well-known older format and ErrCorrupt for the rest.
func Parse(b []byte) (Batch, error) {
	batch, err := frame(b)
	if err != nil {
		return nil, err
	}
	base, delta, count := batch.BaseOffset(), batch.LastOffsetDelta(), batch.Count()
	switch {
	case base < 0 || delta < 0 || base > math.MaxInt64-1-int64(delta):
		return nil, corruptf(offBaseOffset, "base offset %d with last offset delta %d", base, delta)
	case count < 0 || int64(count) > int64(delta)+1:
		return nil, corruptf(offCount, "%d records with last offset delta %d", count, delta)
	}
	return batch, nil
}

// frame cuts the first batch out of b by magic and length.
func frame(b []byte) (Batch, error) {
	// The magic byte has the same place in every format, and older formats have shorter entries,
	// so it decides before the length is believed.
	if len(b) > offMagic && b[offMagic] != magicV2 {
		return nil, magicError(b)
	}
	total, err := PeekSize(b)
	if err != nil {
		return nil, err
	}
	if len(b) < total {
		return nil, ErrShort
	}
	return Batch(b[:total:total]), nil
}

// BaseOffset is the offset of the first record.
func (b Batch) BaseOffset() int64 { return int64(binary.BigEndian.Uint64(b[offBaseOffset:])) }

// LastOffsetDelta is LastOffset - BaseOffset. Compaction keeps it when it drops records.
func (b Batch) LastOffsetDelta() int32 {
	return int32(binary.BigEndian.Uint32(b[offLastOffsetDelta:]))
}

// LastOffset is the last offset that the batch takes up, inclusive.
func (b Batch) LastOffset() int64 { return b.BaseOffset() + int64(b.LastOffsetDelta()) }

// NextOffset is the offset after LastOffset.
func (b Batch) NextOffset() int64 { return b.LastOffset() + 1 }

// LeaderEpoch is the epoch of the leader that appended the batch.
func (b Batch) LeaderEpoch() int32 { return int32(binary.BigEndian.Uint32(b[offLeaderEpoch:])) }

// CRC is the stored checksum.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[offCRC:]) }

// Attributes are the flags of the batch.
func (b Batch) Attributes() Attributes {
	return Attributes(binary.BigEndian.Uint16(b[offAttributes:]))
}

// BaseTimestamp is what the records' timestamp deltas count from, in ms since 1970.
func (b Batch) BaseTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[offBaseTimestamp:])) }

// MaxTimestamp is the largest timestamp of a record, in ms since 1970; with LogAppendTime it is
// the timestamp of every record.
func (b Batch) MaxTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[offMaxTimestamp:])) }

// ProducerID is NoProducerID for a producer without idempotence.
func (b Batch) ProducerID() int64 { return int64(binary.BigEndian.Uint64(b[offProducerID:])) }

// ProducerEpoch is -1 without a producer id.
func (b Batch) ProducerEpoch() int16 { return int16(binary.BigEndian.Uint16(b[offProducerEpoch:])) }

// BaseSequence is the sequence number of the first record, -1 without one.
func (b Batch) BaseSequence() int32 { return int32(binary.BigEndian.Uint32(b[offBaseSequence:])) }

// LastSequence is the sequence number of the last record; after 1<<31-1 comes 0 (KIP-98). It is
// -1 where BaseSequence is.
func (b Batch) LastSequence() int32 {
	first := b.BaseSequence()
	if first < 0 {
		return -1
	}
	return int32((int64(first) + int64(b.LastOffsetDelta())) & math.MaxInt32)
}

// Count is the number of records that the header claims.
func (b Batch) Count() int32 { return int32(binary.BigEndian.Uint32(b[offCount:])) }

// Len is the total size in bytes.
func (b Batch) Len() int { return len(b) }

// ComputeCRC is the checksum that the bytes have now.
func (b Batch) ComputeCRC() uint32 { return crc32.Checksum(b[offAttributes:], castagnoli) }

// CheckCRC compares the stored checksum with the bytes; a difference is a *CorruptError.
func (b Batch) CheckCRC() error {
	if got, want := b.ComputeCRC(), b.CRC(); got != want {
		return corruptf(offCRC, "CRC32C is %08x, header says %08x", got, want)
	}
	return nil
}

// SetBaseOffset assigns the offset of the first record. The CRC does not cover it.
func (b Batch) SetBaseOffset(offset int64) {
	binary.BigEndian.PutUint64(b[offBaseOffset:], uint64(offset))
}

// SetLeaderEpoch assigns the leader epoch. The CRC does not cover it.
func (b Batch) SetLeaderEpoch(epoch int32) {
	binary.BigEndian.PutUint32(b[offLeaderEpoch:], uint32(epoch))
}

// SetLogAppendTime makes ms the time of every record: it sets the timestamp type and the max
// timestamp, leaves the base timestamp and the records as they are, and computes the CRC anew.
// Check the producer's CRC before, or damage gets a good checksum.
func (b Batch) SetLogAppendTime(ms int64) {
	binary.BigEndian.PutUint16(b[offAttributes:], uint16(b.Attributes()|attrLogAppendTime))
	binary.BigEndian.PutUint64(b[offMaxTimestamp:], uint64(ms))
	b.setCRC()
}

func (b Batch) setCRC() { binary.BigEndian.PutUint32(b[offCRC:], b.ComputeCRC()) }

// String is for logs and test failures.
func (b Batch) String() string {
	if len(b) < HeaderLen {
		return fmt.Sprintf("batch(%d bytes)", len(b))
	}
	return fmt.Sprintf("batch[%d..%d] epoch %d, %d records, %d bytes, %v, producer %d/%d seq %d",
		b.BaseOffset(), b.LastOffset(), b.LeaderEpoch(), b.Count(), len(b), b.Attributes().Codec(),
		b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
}
