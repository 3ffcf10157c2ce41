package record

import "encoding/binary"

// ControlType is what a control record says: int16 version, int16 type, in its key (KIP-98).
type ControlType int16

// The control records that a topic's log may hold. Kafka numbers more of them for its own raft
// log; one that is not listed is skipped by readers, not an error.
const (
	ControlAbort  ControlType = 0
	ControlCommit ControlType = 1
)

func (t ControlType) String() string {
	switch t {
	case ControlAbort:
		return "abort"
	case ControlCommit:
		return "commit"
	}
	return "unknown"
}

// NewEndTxnMarker makes the batch that ends a producer's transaction in one partition: one
// control record whose value is int16 version 0 and the int32 epoch of the transaction
// coordinator. ts is in ms since 1970. Base offset and leader epoch are 0, for the log to set.
func NewEndTxnMarker(commit bool, producerID int64, producerEpoch int16, coordinatorEpoch int32, ts int64) Batch {
	kind := ControlAbort
	if commit {
		kind = ControlCommit
	}
	key := binary.BigEndian.AppendUint16(make([]byte, 2, 4), uint16(kind))
	value := binary.BigEndian.AppendUint32(make([]byte, 2, 6), uint32(coordinatorEpoch))

	b := NewBuilder(None)
	b.SetProducer(producerID, producerEpoch, -1) // a marker takes no sequence number
	b.attrs |= attrTransactional | attrControl
	b.Append(Record{Timestamp: ts, Key: key, Value: value})
	return b.seal(b.buf)
}

// ParseControl reads the type of a record from a control batch. A key below 4 bytes or a negative
// version is a *CorruptError. Later versions may only add fields.
func ParseControl(rec Record) (ControlType, error) {
	if len(rec.Key) < 4 {
		return 0, corruptf(0, "control key of %d bytes at offset %d", len(rec.Key), rec.Offset)
	}
	if version := int16(binary.BigEndian.Uint16(rec.Key)); version < 0 {
		return 0, corruptf(0, "control key version %d at offset %d", version, rec.Offset)
	}
	return ControlType(binary.BigEndian.Uint16(rec.Key[2:])), nil
}

// ParseEndTxnMarker reads the coordinator epoch of a commit or abort marker.
func ParseEndTxnMarker(rec Record) (coordinatorEpoch int32, err error) {
	if len(rec.Value) < 6 {
		return 0, corruptf(0, "end marker of %d bytes at offset %d", len(rec.Value), rec.Offset)
	}
	if version := int16(binary.BigEndian.Uint16(rec.Value)); version < 0 {
		return 0, corruptf(0, "end marker version %d at offset %d", version, rec.Offset)
	}
	return int32(binary.BigEndian.Uint32(rec.Value[2:])), nil
}
