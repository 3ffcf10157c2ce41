package record

import (
	"encoding/binary"
	"iter"
	"math"
)

// Records iterates over the records of the batch in order. Compressed ones are decompressed to at
// most limit bytes, else ErrTooLarge; limit does nothing to records that are not compressed.
//
// A Record's slices, Headers too, are views that are valid until the next step. The iteration
// stops at its first error, which it yields with a zero Record: a *CorruptError if a length,
// the record count or an offset does not fit. Offsets rise strictly and stay within the batch.
// The CRC is not checked. A batch without records (compaction leaves them) yields nothing.
func (b Batch) Records(limit int64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if len(b) < HeaderLen {
			yield(Record{}, ErrShort)
			return
		}
		payload := []byte(b[HeaderLen:])
		if b.Attributes().Codec() != None && len(payload) > 0 {
			buf := buffers.Get().(*[]byte)
			defer func() {
				if cap(*buf) <= maxPooledBuffer {
					buffers.Put(buf)
				}
			}()
			out, err := decompress(b.Attributes().Codec(), *buf, payload, int(max(0, min(limit, math.MaxInt32))))
			if err != nil {
				yield(Record{}, err)
				return
			}
			*buf, payload = out, out
		}
		d := decoder{batch: b, rest: payload, size: len(payload), lastDelta: -1}
		d.run(yield)
	}
}

// decoder walks over the decompressed records of a batch. The next byte is at
// size - after - len(rest).
type decoder struct {
	batch     Batch
	rest      []byte   // not read yet: of the record at work, or of the batch between records
	after     int      // bytes of the batch behind rest, 0 between records
	size      int      // of all records
	lastDelta int64    // offset delta of the record before, -1 before the first
	headers   []Header // scratch, reused
}

func (d *decoder) run(yield func(Record, error) bool) {
	count := int64(d.batch.Count())
	if count < 0 || count*minRecordLen > int64(d.size) {
		yield(Record{}, corruptf(offCount, "%d records in %d bytes", count, d.size))
		return
	}
	for range count {
		rec, err := d.next()
		if err != nil {
			yield(Record{}, err)
			return
		}
		if !yield(rec, nil) {
			return
		}
	}
	if len(d.rest) > 0 {
		yield(Record{}, d.corrupt("end: bytes follow"))
	}
}

// next decodes one record:
//
//	varint length of what follows | int8 attributes | varlong timestamp delta | varint offset delta
//	varint key length (-1 null) | key | varint value length (-1 null) | value
//	varint header count | (varint key length | key | varint value length (-1 null) | value)*
func (d *decoder) next() (Record, error) {
	length, ok := d.varint()
	if !ok || length < 0 || length > int64(len(d.rest)) {
		return Record{}, d.corrupt("record length")
	}
	others := d.rest[length:]
	d.rest, d.after = d.rest[:length], len(others)
	if length == 0 {
		return Record{}, d.corrupt("empty record")
	}
	d.rest = d.rest[1:] // attributes: none exist

	timestampDelta, ok := d.varlong()
	if !ok {
		return Record{}, d.corrupt("timestamp delta")
	}
	delta, ok := d.varint()
	if !ok || delta <= d.lastDelta || delta > int64(d.batch.LastOffsetDelta()) {
		return Record{}, d.corrupt("offset delta")
	}
	d.lastDelta = delta
	rec := Record{Offset: d.batch.BaseOffset() + delta, Timestamp: d.batch.BaseTimestamp() + timestampDelta}
	if d.batch.Attributes().LogAppendTime() {
		rec.Timestamp = d.batch.MaxTimestamp()
	}
	if rec.Key, ok = d.bytes(); !ok {
		return Record{}, d.corrupt("key")
	}
	if rec.Value, ok = d.bytes(); !ok {
		return Record{}, d.corrupt("value")
	}
	if rec.Headers, ok = d.readHeaders(); !ok {
		return Record{}, d.corrupt("headers")
	}
	if len(d.rest) > 0 {
		return Record{}, d.corrupt("record end: bytes follow the headers")
	}
	d.rest, d.after = others, 0
	return rec, nil
}

// readHeaders returns nil for none.
func (d *decoder) readHeaders() ([]Header, bool) {
	n, ok := d.varint()
	// A header has at least two bytes, its lengths.
	if !ok || n < 0 || 2*n > int64(len(d.rest)) {
		return nil, false
	}
	if n == 0 {
		return nil, true
	}
	d.headers = d.headers[:0]
	for range n {
		key, ok := d.bytes()
		if !ok || key == nil {
			return nil, false
		}
		value, ok := d.bytes()
		if !ok {
			return nil, false
		}
		d.headers = append(d.headers, Header{Key: string(key), Value: value})
	}
	return d.headers, true
}

// bytes reads a length and that many bytes; -1 is nil.
func (d *decoder) bytes() ([]byte, bool) {
	n, ok := d.varint()
	if !ok || n < -1 || n > int64(len(d.rest)) {
		return nil, false
	}
	if n == -1 {
		return nil, true
	}
	out := d.rest[:n:n]
	d.rest = d.rest[n:]
	return out, true
}

// varint reads a zigzag varint that must fit 32 bits.
func (d *decoder) varint() (int64, bool) {
	v, ok := d.varlong()
	return v, ok && v >= math.MinInt32 && v <= math.MaxInt32
}

// varlong reads a zigzag varint of 64 bits.
func (d *decoder) varlong() (int64, bool) {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		return 0, false
	}
	d.rest = d.rest[n:]
	return v, true
}

// corrupt tells of a fault at the next byte.
func (d *decoder) corrupt(what string) error {
	return corruptf(d.size-d.after-len(d.rest), "bad %s after the record with offset delta %d", what, d.lastDelta)
}
