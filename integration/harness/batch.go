package harness

import (
	"encoding/binary"
	"hash/crc32"
	"time"
)

// Places of fields in a record batch v2, which tests damage one by one.
const (
	BatchLength         = 8
	BatchMagic          = 16
	BatchCRC            = 17
	BatchAttributes     = 21
	BatchLastDelta      = 23
	BatchFirstTimestamp = 27
	BatchMaxTimestamp   = 35
	BatchProducerID     = 43
	BatchProducerEpoch  = 51
	BatchSequence       = 53
	BatchCount          = 57
	BatchHeader         = 61
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is a valid record batch v2 without producer id, compression, keys and headers.
func Batch(values ...[]byte) []byte {
	b := make([]byte, BatchHeader, BatchHeader+len(values)*(24+len(values[0])))
	for i, v := range values {
		body := []byte{0, 0} // attributes, timestamp delta
		body = binary.AppendVarint(body, int64(i))
		body = binary.AppendVarint(body, -1) // null key
		body = binary.AppendVarint(body, int64(len(v)))
		b = binary.AppendVarint(b, int64(len(body)+len(v)+1))
		b = append(b, body...)
		b = append(b, v...)
		b = append(b, 0) // headers
	}
	now := uint64(time.Now().UnixMilli())
	be := binary.BigEndian
	be.PutUint32(b[BatchLength:], uint32(len(b)-12))
	be.PutUint32(b[12:], 0xffffffff) // leader epoch, the broker's to say
	b[BatchMagic] = 2
	be.PutUint32(b[BatchLastDelta:], uint32(len(values)-1))
	be.PutUint64(b[BatchFirstTimestamp:], now)
	be.PutUint64(b[BatchMaxTimestamp:], now)
	for i := BatchProducerID; i < BatchCount; i++ {
		b[i] = 0xff // no producer id, epoch, sequence
	}
	be.PutUint32(b[BatchCount:], uint32(len(values)))
	SealBatch(b)
	return b
}

// SealBatch makes the checksum of a batch true again.
func SealBatch(b []byte) {
	binary.BigEndian.PutUint32(b[BatchCRC:], crc32.Checksum(b[BatchAttributes:], castagnoli))
}

// CRC32C is the checksum of manifests and objects.
func CRC32C(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
