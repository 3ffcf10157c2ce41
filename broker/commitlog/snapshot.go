package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
)

// A producer snapshot, big-endian (FORMAT.md has an example):
//
//	uint8   version, 1
//	int64   offset: the state is that after the record at offset-1
//	uint32  number of producers, in rising order of id; each:
//	  int64 id, int16 epoch, int32 coordinator epoch, int64 last seen ms, int64 first offset of the open transaction or -1
//	  uint8 batches (0..5), oldest first; each: int32 last sequence, int32 last offset delta, int64 last offset, int64 max timestamp
//	uint32  CRC32C of all before
//
// The empty byte string stands for "nothing known".
const (
	snapshotVersion   = 1
	snapshotHead      = 1 + 8 + 4
	snapshotProducer  = 8 + 2 + 4 + 8 + 8 + 1
	snapshotBatch     = 4 + 4 + 8 + 8
	snapshotMinLength = snapshotHead + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errSnapshot = errors.New("producer snapshot is corrupt")

// ids are the known producer ids, rising.
func (t *producerTable) ids() []int64 { return slices.Sorted(maps.Keys(t.byID)) }

// encode writes the table as of offset. An empty table needs no bytes.
func (t *producerTable) encode(offset int64) []byte {
	if t == nil || len(t.byID) == 0 {
		return nil
	}
	be := binary.BigEndian
	b := make([]byte, 0, snapshotMinLength+len(t.byID)*(snapshotProducer+2*snapshotBatch))
	b = append(b, snapshotVersion)
	b = be.AppendUint64(b, uint64(offset))
	b = be.AppendUint32(b, uint32(len(t.byID)))
	for _, id := range t.ids() {
		p := t.byID[id]
		b = be.AppendUint64(b, uint64(id))
		b = be.AppendUint16(b, uint16(p.epoch))
		b = be.AppendUint32(b, uint32(p.coordEpoch))
		b = be.AppendUint64(b, uint64(p.lastSeen))
		b = be.AppendUint64(b, uint64(p.txnFirst))
		b = append(b, p.n)
		for _, x := range p.batches[:p.n] {
			b = be.AppendUint32(b, uint32(x.lastSeq))
			b = be.AppendUint32(b, uint32(x.delta))
			b = be.AppendUint64(b, uint64(x.lastOffset))
			b = be.AppendUint64(b, uint64(x.timestamp))
		}
	}
	return be.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeProducers reads a snapshot. It allocates in proportion to len(b) only.
func decodeProducers(b []byte) (t *producerTable, offset int64, err error) {
	t = &producerTable{}
	if len(b) == 0 {
		return t, 0, nil
	}
	be := binary.BigEndian
	if len(b) < snapshotMinLength {
		return nil, 0, fmt.Errorf("%d bytes: %w", len(b), errSnapshot)
	}
	body, sum := b[:len(b)-4], be.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, 0, fmt.Errorf("checksum: %w", errSnapshot)
	}
	if body[0] != snapshotVersion {
		return nil, 0, fmt.Errorf("version %d: %w", body[0], errSnapshot)
	}
	offset = int64(be.Uint64(body[1:]))
	count := int(be.Uint32(body[9:]))
	body = body[snapshotHead:]
	if count > len(body)/snapshotProducer {
		return nil, 0, fmt.Errorf("%d producers in %d bytes: %w", count, len(body), errSnapshot)
	}
	t.byID = make(map[int64]*producer, count)
	for range count {
		if body, err = t.decodeOne(body); err != nil {
			return nil, 0, err
		}
	}
	if len(body) != 0 {
		return nil, 0, fmt.Errorf("%d bytes left: %w", len(body), errSnapshot)
	}
	return t, offset, nil
}

func (t *producerTable) decodeOne(b []byte) (rest []byte, err error) {
	be := binary.BigEndian
	if len(b) < snapshotProducer {
		return nil, fmt.Errorf("cut off: %w", errSnapshot)
	}
	id := int64(be.Uint64(b))
	p := &producer{
		epoch:      int16(be.Uint16(b[8:])),
		coordEpoch: int32(be.Uint32(b[10:])),
		lastSeen:   int64(be.Uint64(b[14:])),
		txnFirst:   int64(be.Uint64(b[22:])),
		n:          b[30],
	}
	b = b[snapshotProducer:]
	if t.byID[id] != nil || id < 0 || p.n > producerWindow || len(b) < int(p.n)*snapshotBatch {
		return nil, fmt.Errorf("producer %d: %w", id, errSnapshot)
	}
	for i := range int(p.n) {
		x := producerBatch{
			lastSeq:    int32(be.Uint32(b)),
			delta:      int32(be.Uint32(b[4:])),
			lastOffset: int64(be.Uint64(b[8:])),
			timestamp:  int64(be.Uint64(b[16:])),
		}
		if x.lastSeq < 0 || x.delta < 0 {
			return nil, fmt.Errorf("producer %d: %w", id, errSnapshot)
		}
		p.batches[i] = x
		b = b[snapshotBatch:]
	}
	t.byID[id] = p
	if p.txnFirst >= 0 {
		p.txnSince = p.lastSeen
		if t.open == nil {
			t.open = make(map[int64]int64)
		}
		t.open[id] = p.txnFirst
	}
	return b, nil
}
