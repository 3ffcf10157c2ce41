package api

import (
	"encoding/binary"
	"errors"
)

// errShort means that a request ends before its own fields do, or that a length in it is absurd.
var errShort = errors.New("request is shorter than its fields say")

// reader walks a request body without allocation. It is sticky on err: a parser checks once, at
// its end. Everything it returns is a view of the body.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) err() error {
	if r.bad {
		return errShort
	}
	return nil
}

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) int8() int8 {
	if b := r.take(1); b != nil {
		return int8(b[0])
	}
	return 0
}

func (r *reader) int16() int16 {
	if b := r.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) int32() int32 {
	if b := r.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (r *reader) int64() int64 {
	if b := r.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (r *reader) uvarint() uint32 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || v > 1<<32-1 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return uint32(v)
}

func (r *reader) uuid() (id [16]byte) {
	copy(id[:], r.take(16))
	return id
}

// length reads the length of a string, bytes or array field; -1 is null. Compact lengths are one
// more than the length, as an unsigned varint (KIP-482).
func (r *reader) length(flexible bool, wide bool) int {
	switch {
	case flexible:
		return int(r.uvarint()) - 1
	case wide:
		return int(r.int32())
	}
	return int(r.int16())
}

// str reads a string; null reads as nil.
func (r *reader) str(flexible bool) []byte {
	n := r.length(flexible, false)
	if n < 0 {
		return nil
	}
	return r.take(n)
}

// bytes reads nullable bytes; nil is null.
func (r *reader) bytes(flexible bool) []byte {
	n := r.length(flexible, true)
	if n < 0 {
		return nil
	}
	return r.take(n)
}

// array reads an array length and refuses one that the rest of the body cannot hold; null reads as 0.
func (r *reader) array(flexible bool, minElement int) int {
	n := r.length(flexible, true)
	if n < 0 {
		return 0
	}
	if n > len(r.b)/minElement {
		r.bad = true
		return 0
	}
	return n
}

// tags skips a tag section.
func (r *reader) tags(flexible bool) {
	if !flexible {
		return
	}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		r.uvarint()
		r.take(int(r.uvarint()))
	}
}

// writer appends response fields.
type writer struct{ b []byte }

func (w *writer) int16(v int16) { w.b = binary.BigEndian.AppendUint16(w.b, uint16(v)) }
func (w *writer) int32(v int32) { w.b = binary.BigEndian.AppendUint32(w.b, uint32(v)) }
func (w *writer) int64(v int64) { w.b = binary.BigEndian.AppendUint64(w.b, uint64(v)) }

func (w *writer) uvarint(v uint32) { w.b = binary.AppendUvarint(w.b, uint64(v)) }

// array writes an array length; n -1 is null.
func (w *writer) array(n int, flexible bool) {
	if flexible {
		w.uvarint(uint32(n + 1))
		return
	}
	w.int32(int32(n))
}

func (w *writer) str(s []byte, flexible bool) {
	if flexible {
		w.uvarint(uint32(len(s) + 1))
	} else {
		w.int16(int16(len(s)))
	}
	w.b = append(w.b, s...)
}

// nullableStr writes "" as null.
func (w *writer) nullableStr(s string, flexible bool) {
	switch {
	case s != "":
		w.str([]byte(s), flexible)
	case flexible:
		w.uvarint(0)
	default:
		w.int16(-1)
	}
}

// noTags ends a flexible structure.
func (w *writer) noTags(flexible bool) {
	if flexible {
		w.b = append(w.b, 0)
	}
}
