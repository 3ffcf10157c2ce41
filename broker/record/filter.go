package record

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Cursor walks over the records of a batch without decoding more than their offset, time and key,
// and makes the batch that is left when only some of them stay. It is what compaction reads and
// writes with: Reset, then Next and Keep by turns, then Append. It keeps its memory from batch to
// batch, and is for one goroutine.
type Cursor struct {
	// Of the record that Next moved to; Key is a view, nil for null.
	Offset    int64
	Timestamp int64
	Key       []byte
	Tombstone bool // the value is null

	batch   Batch
	buf     []byte // what compressed records are decompressed into
	dec     decoder
	plain   []byte // all records, not compressed
	left    int32
	from    int // where the record at hand begins in plain
	to      int
	kept    []piece
	count   int32
	maxTime int64
}

// piece is a run of kept records in Cursor.plain.
type piece struct{ from, to int }

// Reset begins a batch whose CRC was checked. Compressed records are decompressed to at most limit
// bytes, else ErrTooLarge.
func (c *Cursor) Reset(b Batch, limit int64) error {
	if cap(c.buf) > maxPooledBuffer {
		c.buf = nil
	}
	*c = Cursor{batch: b, buf: c.buf, kept: c.kept[:0], left: b.Count(), maxTime: NoTimestamp}
	c.plain = b[HeaderLen:]
	if b.Attributes().Codec() != None && len(c.plain) > 0 {
		out, err := decompress(b.Attributes().Codec(), c.buf, c.plain, int(max(0, min(limit, math.MaxInt32))))
		if err != nil {
			return err
		}
		c.buf, c.plain = out, out
	}
	if int64(c.left)*minRecordLen > int64(len(c.plain)) {
		return corruptf(offCount, "%d records in %d bytes", c.left, len(c.plain))
	}
	c.dec = decoder{batch: b, rest: c.plain, size: len(c.plain), lastDelta: -1}
	return nil
}

// Next moves to the next record; false ends the batch, or is an error.
func (c *Cursor) Next() (bool, error) {
	d := &c.dec
	if c.left == 0 {
		if len(d.rest) > 0 {
			return false, d.corrupt("end: bytes follow")
		}
		return false, nil
	}
	c.left--
	c.from = len(c.plain) - len(d.rest)
	length, ok := d.varint()
	if !ok || length < 1 || length > int64(len(d.rest)) {
		return false, d.corrupt("record length")
	}
	others := d.rest[length:]
	d.rest, d.after = d.rest[1:length], len(others)
	delta, ok := d.varlong()
	if !ok {
		return false, d.corrupt("timestamp delta")
	}
	offset, ok := d.varint()
	if !ok || offset <= d.lastDelta || offset > int64(c.batch.LastOffsetDelta()) {
		return false, d.corrupt("offset delta")
	}
	d.lastDelta = offset
	if c.Key, ok = d.bytes(); !ok {
		return false, d.corrupt("key")
	}
	size, ok := d.varint()
	if !ok || size < -1 || size > int64(len(d.rest)) {
		return false, d.corrupt("value")
	}
	c.Offset, c.Timestamp, c.Tombstone = c.batch.BaseOffset()+offset, c.batch.BaseTimestamp()+delta, size == -1
	c.to = len(c.plain) - len(others)
	d.rest, d.after = others, 0
	return true, nil
}

// Keep says that the record stays.
func (c *Cursor) Keep() {
	c.count++
	if c.count == 1 || c.Timestamp > c.maxTime {
		c.maxTime = c.Timestamp
	}
	if n := len(c.kept); n > 0 && c.kept[n-1].to == c.from {
		c.kept[n-1].to = c.to
		return
	}
	c.kept = append(c.kept, piece{c.from, c.to})
}

// Kept is the number of records that stay.
func (c *Cursor) Kept() int { return int(c.count) }

// Append appends the batch with the kept records, at least one, to dst: base offset, last offset,
// sequences, epoch, codec and flags are those of the batch, records keep their offsets and times, and
// the max timestamp is that of what is left (with LogAppendTime it stays). horizon, unless
// negative, is set as the delete horizon (KIP-534): it becomes the base timestamp.
func (c *Cursor) Append(dst []byte, horizon int64) ([]byte, error) {
	b := c.batch
	if c.count == b.Count() && horizon < 0 {
		return append(dst, b...), nil
	}
	if c.count == 0 {
		return dst, fmt.Errorf("%w: no record of %v is left", ErrInvalidRecord, b)
	}
	start := len(dst)
	dst = append(dst, b[:HeaderLen]...)
	dst, err := c.appendRecords(dst, horizon)
	if err != nil {
		return dst[:start], err
	}
	if len(dst)-start > MaxBatchBytes {
		return dst[:start], fmt.Errorf("%w: %d bytes", ErrTooLarge, len(dst)-start)
	}
	be := binary.BigEndian
	out := Batch(dst[start:])
	be.PutUint32(out[offLength:], uint32(len(out)-logOverhead))
	be.PutUint32(out[offCount:], uint32(c.count))
	if !b.Attributes().LogAppendTime() {
		be.PutUint64(out[offMaxTimestamp:], uint64(c.maxTime))
	}
	if horizon >= 0 {
		be.PutUint16(out[offAttributes:], uint16(b.Attributes()|attrDeleteHorizon))
		be.PutUint64(out[offBaseTimestamp:], uint64(horizon))
	}
	out.setCRC()
	return dst, nil
}

// appendRecords appends the kept records. Offsets count from the same base, so their bytes stay as
// they are, unless another base timestamp changes the times in them.
func (c *Cursor) appendRecords(dst []byte, horizon int64) ([]byte, error) {
	codec := c.batch.Attributes().Codec()
	if horizon < 0 && codec == None {
		for _, p := range c.kept {
			dst = append(dst, c.plain[p.from:p.to]...)
		}
		return dst, nil
	}
	scratch := buffers.Get().(*[]byte)
	defer func() {
		if cap(*scratch) <= maxPooledBuffer {
			buffers.Put(scratch)
		}
	}()
	plain := (*scratch)[:0]
	for _, p := range c.kept {
		if horizon < 0 {
			plain = append(plain, c.plain[p.from:p.to]...)
			continue
		}
		for rest := c.plain[p.from:p.to]; len(rest) > 0; {
			length, n := binary.Varint(rest)
			body := rest[n : n+int(length)]
			rest = rest[n+int(length):]
			delta, n := binary.Varint(body[1:])
			moved := c.batch.BaseTimestamp() + delta - horizon
			plain = binary.AppendVarint(plain, int64(len(body)-n+varintLen(moved)))
			plain = append(plain, body[0])
			plain = binary.AppendVarint(plain, moved)
			plain = append(plain, body[1+n:]...)
		}
	}
	*scratch = plain
	return compress(codec, dst, plain)
}

// Empty is a batch without records: it stands for offsets whose records are gone, and where it has a
// producer, for that producer's last sequence.
type Empty struct {
	First, Last   int64 // offsets, Last inclusive
	LeaderEpoch   int32
	ProducerID    int64 // NoProducerID: epoch and sequence are -1
	ProducerEpoch int16
	BaseSequence  int32
}

// Append appends the batch to dst. It carries no timestamps and belongs to no transaction.
func (e Empty) Append(dst []byte) []byte {
	be := binary.BigEndian
	start := len(dst)
	dst = append(dst, make([]byte, HeaderLen)...)
	out := Batch(dst[start:])
	be.PutUint64(out[offBaseOffset:], uint64(e.First))
	be.PutUint32(out[offLength:], HeaderLen-logOverhead)
	be.PutUint32(out[offLeaderEpoch:], uint32(e.LeaderEpoch))
	out[offMagic] = magicV2
	be.PutUint32(out[offLastOffsetDelta:], uint32(e.Last-e.First))
	noTime := NoTimestamp
	be.PutUint64(out[offBaseTimestamp:], uint64(noTime))
	be.PutUint64(out[offMaxTimestamp:], uint64(noTime))
	be.PutUint64(out[offProducerID:], uint64(e.ProducerID))
	be.PutUint16(out[offProducerEpoch:], uint16(e.ProducerEpoch))
	be.PutUint32(out[offBaseSequence:], uint32(e.BaseSequence))
	out.setCRC()
	return dst
}

// SetLastOffset makes a batch take up the offsets up to last, without records for the new ones, and
// computes the CRC anew. It is for batches without a producer: sequences are counted by offsets.
func (b Batch) SetLastOffset(last int64) {
	binary.BigEndian.PutUint32(b[offLastOffsetDelta:], uint32(last-b.BaseOffset()))
	b.setCRC()
}
