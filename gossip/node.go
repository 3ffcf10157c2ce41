package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxNodeRecord bounds an encoded Node: memberlist carries no more beside a member.
const MaxNodeRecord = 512

// nodeVersion is the first byte of a record. Fields are only ever appended, and a reader skips what
// it does not know, so the version rises only if old readers must not read on.
const nodeVersion = 1

// Errors of the record. A member whose record is refused is not a member.
var (
	ErrRecordTooLarge = errors.New("node record is too large")
	ErrRecordVersion  = errors.New("node record has an unknown version")
	ErrRecordCorrupt  = errors.New("node record is corrupt")
)

// Node is what a broker tells the others about itself. Addresses are host:port as others dial them;
// "" means that the broker has no such listener.
type Node struct {
	ID       int32 // above 0
	Epoch    int64 // broker epoch of this incarnation: tells a new life from an old one
	Rack     string
	Kafka    string
	Admin    string
	Internal string
}

// Encode gives the record:
//
//	offset  size  field
//	0       1     version (1)
//	1       4     id, int32 big endian, above 0
//	5       8     epoch, int64 big endian
//	13      1+n   rack: length byte, UTF-8 bytes
//	..      1+n   kafka address, admin address, internal address: the same way
//	..      ..    fields of later releases, skipped by this one
//
// No checksum: memberlist has one over each packet, or a key.
func (n Node) Encode() ([]byte, error) {
	if n.ID <= 0 {
		return nil, fmt.Errorf("encode node %d: %w: id must be above 0", n.ID, ErrRecordCorrupt)
	}
	b := make([]byte, 0, 64)
	b = append(b, nodeVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(n.ID))
	b = binary.BigEndian.AppendUint64(b, uint64(n.Epoch))
	for _, s := range []string{n.Rack, n.Kafka, n.Admin, n.Internal} {
		if len(s) > 255 {
			return nil, fmt.Errorf("encode node %d: %w: a text of %d bytes, the limit is 255", n.ID, ErrRecordTooLarge, len(s))
		}
		b = append(b, byte(len(s)))
		b = append(b, s...)
	}
	if len(b) > MaxNodeRecord {
		return nil, fmt.Errorf("encode node %d: %w: %d bytes, the limit is %d", n.ID, ErrRecordTooLarge, len(b), MaxNodeRecord)
	}
	return b, nil
}

// DecodeNode reads a record that a peer sent.
func DecodeNode(b []byte) (Node, error) {
	if len(b) > MaxNodeRecord {
		return Node{}, fmt.Errorf("%w: %d bytes, the limit is %d", ErrRecordTooLarge, len(b), MaxNodeRecord)
	}
	if len(b) > 0 && b[0] != nodeVersion {
		return Node{}, fmt.Errorf("%w: %d, this broker knows %d", ErrRecordVersion, b[0], nodeVersion)
	}
	const fixed = 1 + 4 + 8
	if len(b) < fixed {
		return Node{}, fmt.Errorf("%w: %d bytes", ErrRecordCorrupt, len(b))
	}
	n := Node{ID: int32(binary.BigEndian.Uint32(b[1:])), Epoch: int64(binary.BigEndian.Uint64(b[5:]))}
	if n.ID <= 0 {
		return Node{}, fmt.Errorf("%w: id %d", ErrRecordCorrupt, n.ID)
	}
	b = b[fixed:]
	for _, field := range []*string{&n.Rack, &n.Kafka, &n.Admin, &n.Internal} {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return Node{}, fmt.Errorf("%w: cut off", ErrRecordCorrupt)
		}
		end := 1 + int(b[0])
		*field, b = string(b[1:end]), b[end:]
	}
	return n, nil
}
