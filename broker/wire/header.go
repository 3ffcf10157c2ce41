package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Two api keys have headers of their own.
const (
	keyControlledShutdown = 7  // version 0 has request header v0: no client id
	keyAPIVersions        = 18 // response header v0 in every version, so that any client can read it (KIP-511)
)

// errHeader is what a frame gets whose request header does not parse.
var errHeader = errors.New("malformed request header")

// unservedError is a request for an api or version that this broker does not serve.
type unservedError struct{ key, version int16 }

func (e *unservedError) Error() string {
	return fmt.Sprintf("api key %d version %d is not served", e.key, e.version)
}

// header is a request header, v0, v1 or v2 (KIP-482):
//
//	v0  api key int16, version int16, correlation id int32
//	v1  v0, client id nullable string (int16 length, -1 is null)
//	v2  v1, tagged fields
//
// The client id stays in the old encoding in v2, so that a broker can read it before it knows the
// version. clientID and body are views of the frame.
type header struct {
	key, version  int16
	correlationID int32
	clientID      []byte
	body          []byte
	flexibleReply bool
}

// parseHeader decodes the header of one frame. It allocates nothing but the error.
func parseHeader(frame []byte, served func(key, version int16) (flexible, ok bool)) (header, error) {
	if len(frame) < minFrame {
		return header{}, errHeader
	}
	h := header{
		key:           int16(binary.BigEndian.Uint16(frame)),
		version:       int16(binary.BigEndian.Uint16(frame[2:])),
		correlationID: int32(binary.BigEndian.Uint32(frame[4:])),
	}
	flexible, known := served(h.key, h.version)
	if !known && h.key != keyAPIVersions {
		return h, &unservedError{h.key, h.version}
	}
	h.flexibleReply = flexible && h.key != keyAPIVersions
	rest := frame[minFrame:]
	if h.key == keyControlledShutdown && h.version == 0 {
		h.body = rest
		return h, nil
	}
	id, rest, ok := cutClientID(rest)
	h.clientID = id
	if !known {
		// A version of ApiVersions that we do not know may have a header that we do not know. It
		// is answered with UNSUPPORTED_VERSION in version 0, which needs the correlation id only.
		return h, nil
	}
	if flexible && ok {
		rest, ok = skipTags(rest)
	}
	if !ok {
		return h, errHeader
	}
	h.body = rest
	return h, nil
}

// cutClientID splits a nullable string off b.
func cutClientID(b []byte) (id, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(int16(binary.BigEndian.Uint16(b)))
	b = b[2:]
	if n == -1 {
		return nil, b, true
	}
	if n < 0 || n > len(b) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// skipTags steps over tagged fields: a count, then tag, size and bytes of each. No request header
// has any that a broker must understand. Each takes at least two bytes, which bounds the loop.
func skipTags(b []byte) ([]byte, bool) {
	count, b, ok := cutUvarint(b)
	for ; ok && count > 0; count-- {
		if _, b, ok = cutUvarint(b); !ok {
			break
		}
		var size uint32
		if size, b, ok = cutUvarint(b); !ok {
			break
		}
		if int64(size) > int64(len(b)) {
			return nil, false
		}
		b = b[size:]
	}
	return b, ok
}

// cutUvarint reads an unsigned varint of at most 32 bits, as the protocol has them.
func cutUvarint(b []byte) (uint32, []byte, bool) {
	v, n := binary.Uvarint(b[:min(len(b), 5)])
	if n <= 0 || v > 1<<32-1 {
		return 0, nil, false
	}
	return uint32(v), b[n:], true
}

// putReplyHeader writes the length word and the response header (v0, or v1 with empty tagged
// fields) in front of a body of n bytes.
func putReplyHeader(dst *[9]byte, correlationID int32, flexible bool, n int) []byte {
	size := 8
	if flexible {
		size = 9
		dst[8] = 0
	}
	binary.BigEndian.PutUint32(dst[:], uint32(size-4+n))
	binary.BigEndian.PutUint32(dst[4:], uint32(correlationID))
	return dst[:size]
}
