package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/hashicorp/raft"
)

// An entry's value, integers little-endian:
//
//	 0  1  version, 1
//	 1  1  raft log type
//	 2  8  term
//	10  8  appended at, Unix nanoseconds, 0 for none
//	18  4  length of the extensions
//	22  .. extensions, then data to the end of the value
//	end 4  CRC32C of the index (8 bytes) and of everything before
//
// The checksum is ours because Badger checks none when it reads from a memtable. It covers the
// index so that a value under another key is found out too.
const (
	entryVersion  = 1
	entryHeader   = 22
	entryOverhead = entryHeader + 4
)

var errCorrupt = errors.New("entry is corrupt")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func entryCRC(index uint64, b []byte) uint32 {
	var key [8]byte
	binary.LittleEndian.PutUint64(key[:], index)
	return crc32.Update(crc32.Checksum(key[:], castagnoli), castagnoli, b)
}

func encodeEntry(l *raft.Log) []byte {
	b := make([]byte, 0, entryOverhead+len(l.Extensions)+len(l.Data))
	b = append(b, entryVersion, byte(l.Type))
	b = binary.LittleEndian.AppendUint64(b, l.Term)
	var at int64
	if !l.AppendedAt.IsZero() {
		at = l.AppendedAt.UnixNano()
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(at))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(l.Extensions)))
	b = append(append(b, l.Extensions...), l.Data...)
	return binary.LittleEndian.AppendUint32(b, entryCRC(l.Index, b))
}

// decodeEntry copies what it keeps of b.
func decodeEntry(index uint64, b []byte, out *raft.Log) error {
	if len(b) < entryOverhead {
		return fmt.Errorf("%d bytes: %w", len(b), errCorrupt)
	}
	body := b[:len(b)-4]
	if have, want := entryCRC(index, body), binary.LittleEndian.Uint32(b[len(b)-4:]); have != want {
		return fmt.Errorf("CRC %08x, stored %08x: %w", have, want, errCorrupt)
	}
	if body[0] != entryVersion {
		return fmt.Errorf("entry version %d, this program knows %d", body[0], entryVersion)
	}
	ext := int64(binary.LittleEndian.Uint32(body[18:]))
	if ext > int64(len(body)-entryHeader) {
		return fmt.Errorf("extensions of %d bytes in %d: %w", ext, len(body), errCorrupt)
	}
	*out = raft.Log{Index: index, Term: binary.LittleEndian.Uint64(body[2:]), Type: raft.LogType(body[1])}
	if at := int64(binary.LittleEndian.Uint64(body[10:])); at != 0 {
		out.AppendedAt = time.Unix(0, at)
	}
	rest := body[entryHeader:]
	if ext > 0 {
		out.Extensions = append([]byte(nil), rest[:ext]...)
	}
	if int64(len(rest)) > ext {
		out.Data = append([]byte(nil), rest[ext:]...)
	}
	return nil
}
