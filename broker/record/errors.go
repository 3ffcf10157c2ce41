package record

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// What callers branch on. The comments name the Kafka code that an API answers with.
var (
	// ErrShort says that the bytes end before the batch does: more of them may make it whole.
	ErrShort = errors.New("record batch is cut off")
	// ErrCorrupt says that the bytes are not what was written (CORRUPT_MESSAGE).
	ErrCorrupt = errors.New("record batch is corrupt")
	// ErrUnsupportedMagic says that the message format is 0 or 1 (UNSUPPORTED_FOR_MESSAGE_FORMAT).
	ErrUnsupportedMagic = errors.New("unsupported message format")
	// ErrInvalidRecord says that the batch is whole but no producer may send it (INVALID_RECORD).
	ErrInvalidRecord = errors.New("invalid record")
	// ErrInvalidTimestamp says that the times are outside the topic's bounds (INVALID_TIMESTAMP).
	ErrInvalidTimestamp = errors.New("invalid timestamp")
	// ErrTooLarge says that a batch is above max.message.bytes (MESSAGE_TOO_LARGE), or that its
	// records decompress to more than the reader's limit.
	ErrTooLarge = errors.New("record batch is too large")
)

// CorruptError tells where in a batch the first fault was seen. errors.Is matches ErrCorrupt, or
// ErrUnsupportedMagic where the fault is the magic byte.
type CorruptError struct {
	Pos    int    // bytes from the start of the batch; in decompressed records, from their start
	Reason string // what is wrong, lower case
	kind   error  // nil is ErrCorrupt
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%v: byte %d: %s", e.Unwrap(), e.Pos, e.Reason)
}

// Unwrap returns the sentinel.
func (e *CorruptError) Unwrap() error {
	if e.kind == nil {
		return ErrCorrupt
	}
	return e.kind
}

func corruptf(pos int, format string, args ...any) error {
	return &CorruptError{Pos: pos, Reason: fmt.Sprintf(format, args...)}
}

// magicError is for bytes whose magic is not 2. Formats 0 and 1 are real, if old, and their entries
// have at least 14 bytes after the length word; anything else is damage, the zeros after the last
// batch of a segment file too.
func magicError(b []byte) error {
	magic := int8(b[offMagic])
	reason := fmt.Sprintf("magic %d, want %d", magic, magicV2)
	if old := magic == 0 || magic == 1; old && binary.BigEndian.Uint32(b[offLength:]) >= 14 {
		return &CorruptError{Pos: offMagic, Reason: reason, kind: ErrUnsupportedMagic}
	}
	return &CorruptError{Pos: offMagic, Reason: reason}
}
