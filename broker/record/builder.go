package record

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Builder makes one batch: NewBuilder, setters and Append in any order, Build. Reset makes it
// ready for the next one and keeps its memory. It is for one goroutine.
type Builder struct {
	codec         Codec
	level         int
	attrs         Attributes
	baseOffset    int64
	leaderEpoch   int32
	producerID    int64
	producerEpoch int16
	baseSequence  int32

	// buf is the header's place and the encoded records, not compressed.
	buf                         []byte
	count                       int
	baseTimestamp, maxTimestamp int64 // of the records so far; NoTimestamp while there is none
	overflow                    bool  // records went past MaxBatchBytes and were not kept
}

// NewBuilder makes a Builder whose batch has base offset 0, leader epoch 0 and no producer.
func NewBuilder(codec Codec) *Builder {
	b := &Builder{codec: codec, level: DefaultLevel}
	b.Reset()
	return b
}

// Reset drops the records and every setting but codec and level. A batch that Build returned stays valid.
func (b *Builder) Reset() {
	buf := b.buf[:0]
	if cap(buf) < HeaderLen {
		buf = make([]byte, 0, 512)
	}
	*b = Builder{
		codec: b.codec, level: b.level, buf: buf[:HeaderLen],
		producerID: NoProducerID, producerEpoch: -1, baseSequence: -1,
		baseTimestamp: NoTimestamp, maxTimestamp: NoTimestamp,
	}
}

// SetLevel chooses how hard the codec works, by Kafka's levels of it.
func (b *Builder) SetLevel(level int) { b.level = level }

// SetProducer sets producer id, epoch and the sequence of the first record.
func (b *Builder) SetProducer(id int64, epoch int16, sequence int32) {
	b.producerID, b.producerEpoch, b.baseSequence = id, epoch, sequence
}

// SetTransactional marks the batch as part of its producer's transaction.
func (b *Builder) SetTransactional() { b.attrs |= attrTransactional }

// SetBaseOffset sets the offset of the first record.
func (b *Builder) SetBaseOffset(offset int64) { b.baseOffset = offset }

// SetLeaderEpoch sets the partition leader epoch.
func (b *Builder) SetLeaderEpoch(epoch int32) { b.leaderEpoch = epoch }

// Append adds a record, copying its bytes. Records get consecutive offsets from the base offset
// on; rec.Offset is ignored. What would go past MaxBatchBytes is an error of Build.
func (b *Builder) Append(rec Record) {
	if b.count == 0 {
		b.baseTimestamp, b.maxTimestamp = rec.Timestamp, rec.Timestamp
	}
	body := recordLen(rec, rec.Timestamp-b.baseTimestamp, int64(b.count))
	if b.overflow || b.count == math.MaxInt32 || body > MaxBatchBytes-len(b.buf)-binary.MaxVarintLen64 {
		b.overflow = true
		return
	}
	b.buf = binary.AppendVarint(b.buf, int64(body))
	b.buf = append(b.buf, 0) // attributes of a record: none exist
	b.buf = binary.AppendVarint(b.buf, rec.Timestamp-b.baseTimestamp)
	b.buf = binary.AppendVarint(b.buf, int64(b.count))
	b.buf = appendBytes(b.buf, rec.Key)
	b.buf = appendBytes(b.buf, rec.Value)
	b.buf = binary.AppendVarint(b.buf, int64(len(rec.Headers)))
	for _, h := range rec.Headers {
		b.buf = binary.AppendVarint(b.buf, int64(len(h.Key)))
		b.buf = append(b.buf, h.Key...)
		b.buf = appendBytes(b.buf, h.Value)
	}
	b.maxTimestamp = max(b.maxTimestamp, rec.Timestamp)
	b.count++
}

// Len is the size in bytes that the batch has before compression.
func (b *Builder) Len() int { return len(b.buf) }

// Count is the number of records so far.
func (b *Builder) Count() int { return b.count }

// Build returns the batch in memory of its own. It fails without records, above MaxBatchBytes
// (ErrTooLarge), and for a codec that does not exist.
func (b *Builder) Build() (Batch, error) {
	if b.overflow {
		return nil, fmt.Errorf("build batch: %w: over %d bytes", ErrTooLarge, MaxBatchBytes)
	}
	if b.count == 0 {
		return nil, fmt.Errorf("build batch: %w: no records", ErrInvalidRecord)
	}
	out, err := compressAt(b.codec, b.level, make([]byte, HeaderLen), b.buf[HeaderLen:])
	if err != nil {
		return nil, fmt.Errorf("build batch: %w", err)
	}
	if len(out) > MaxBatchBytes {
		return nil, fmt.Errorf("build batch: %w: %d bytes", ErrTooLarge, len(out))
	}
	return b.seal(out), nil
}

// seal writes the header into out, which has the records after the place for it.
func (b *Builder) seal(out []byte) Batch {
	be := binary.BigEndian
	be.PutUint64(out[offBaseOffset:], uint64(b.baseOffset))
	be.PutUint32(out[offLength:], uint32(len(out)-logOverhead))
	be.PutUint32(out[offLeaderEpoch:], uint32(b.leaderEpoch))
	out[offMagic] = magicV2
	be.PutUint16(out[offAttributes:], uint16(b.attrs|Attributes(b.codec)))
	be.PutUint32(out[offLastOffsetDelta:], uint32(b.count-1))
	be.PutUint64(out[offBaseTimestamp:], uint64(b.baseTimestamp))
	be.PutUint64(out[offMaxTimestamp:], uint64(b.maxTimestamp))
	be.PutUint64(out[offProducerID:], uint64(b.producerID))
	be.PutUint16(out[offProducerEpoch:], uint16(b.producerEpoch))
	be.PutUint32(out[offBaseSequence:], uint32(b.baseSequence))
	be.PutUint32(out[offCount:], uint32(b.count))
	batch := Batch(out)
	batch.setCRC()
	return batch
}

// recordLen is the size of a record after its length varint.
func recordLen(rec Record, timestampDelta, offsetDelta int64) int {
	n := 1 + varintLen(timestampDelta) + varintLen(offsetDelta) + bytesLen(rec.Key) + bytesLen(rec.Value) +
		varintLen(int64(len(rec.Headers)))
	for _, h := range rec.Headers {
		n += varintLen(int64(len(h.Key))) + len(h.Key) + bytesLen(h.Value)
	}
	return n
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}

func bytesLen(b []byte) int {
	if b == nil {
		return varintLen(-1)
	}
	return varintLen(int64(len(b))) + len(b)
}

// varintLen is the size of v as a zigzag varint, which is what binary.AppendVarint writes and
// what Kafka calls varint and varlong.
func varintLen(v int64) int {
	n := 1
	for u := uint64(v<<1) ^ uint64(v>>63); u >= 0x80; u >>= 7 {
		n++
	}
	return n
}
