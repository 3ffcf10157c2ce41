package record

import (
	"fmt"
	"strings"
)

// Attributes are the flag bits of a batch header: codec (0 to 2), timestamp type (3),
// transactional (4), control (5), base timestamp is a delete horizon (6, KIP-534). The rest is
// unused and ignored, as Kafka does.
type Attributes int16

const (
	attrCodecMask     Attributes = 0b111
	attrLogAppendTime Attributes = 1 << 3
	attrTransactional Attributes = 1 << 4
	attrControl       Attributes = 1 << 5
	attrDeleteHorizon Attributes = 1 << 6
)

// Codec is how the records are compressed. It may be a value that no codec has: see Codec.Valid.
func (a Attributes) Codec() Codec { return Codec(a & attrCodecMask) }

// LogAppendTime says that MaxTimestamp, set by the leader, is the time of every record.
func (a Attributes) LogAppendTime() bool { return a&attrLogAppendTime != 0 }

// Transactional says that the records count only if their transaction commits.
func (a Attributes) Transactional() bool { return a&attrTransactional != 0 }

// Control says that the batch holds a marker for the broker and clients, no user's record.
func (a Attributes) Control() bool { return a&attrControl != 0 }

// DeleteHorizon says that compaction has put the time from which tombstones may go into the base
// timestamp (KIP-534).
func (a Attributes) DeleteHorizon() bool { return a&attrDeleteHorizon != 0 }

// Codec is a compression of the records of a batch, numbered as on the wire.
type Codec int8

// The codecs of Kafka.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

var codecNames = [...]string{None: "none", Gzip: "gzip", Snappy: "snappy", LZ4: "lz4", Zstd: "zstd"}

// Valid says whether c is one of the five codecs.
func (c Codec) Valid() bool { return c >= None && c <= Zstd }

// String is the name that Kafka's configs use.
func (c Codec) String() string {
	if !c.Valid() {
		return fmt.Sprintf("codec(%d)", int8(c))
	}
	return codecNames[c]
}

// ParseCodec reads a name as Kafka's compression.type takes it; "uncompressed" is none. The value
// "producer" names no codec and is refused.
func ParseCodec(name string) (Codec, error) {
	if name == "uncompressed" {
		return None, nil
	}
	for c, known := range codecNames {
		if name == known {
			return Codec(c), nil
		}
	}
	return None, fmt.Errorf("parse codec %q: want one of %s", name, strings.Join(codecNames[:], ", "))
}
