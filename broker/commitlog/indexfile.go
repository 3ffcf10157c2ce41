package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"varve/broker/internal/vfs"
)

// An index file describes one sealed segment; a start file, of the same layout, says where a
// local log begins. All integers are big-endian, nothing is aligned, FORMAT.md has an example.
//
//	entries    n x { uint32 offset-base, uint32 position, int64 max timestamp before }
//	epochs     n x { int32 epoch, int64 first offset }     whole known history up to next
//	aborted    n x { int64 producer id, int64 first offset, int64 marker offset }
//	producers  snapshot as of next (snapshot.go), may be empty
//	footer     112 bytes, last in the file:
//	    0 int64 base           8 int64 next            16 int64 length of the segment in bytes
//	   24 int64 base timestamp 32 int64 max timestamp  40 int64 base offset of the batch that has it
//	   48 int64 created, ms    56 uint64 generation    64 uint32 entries   68 uint32 epochs
//	   72 uint32 aborted       76 uint32 producer bytes 80 uint32 CRC32C of everything before the footer
//	   84 uint16 kind          86 uint16 flags         88 int64 delete horizon, 0 without flagCleaned
//	   96 uint16 version, 1    98 uint16 reserved, 0
//	  100 uint32 CRC32C of footer bytes [0,100)       104 8 bytes magic "VARVEidx"
//
// A reader refuses an unknown version; flags and reserved words that it does not know are
// refused too, because indexes can be rebuilt.
const (
	indexFooterLen = 112
	indexVersion   = 1
	indexMagic     = "VARVEidx"
	entryLen       = 16
	epochLen       = 12
	abortedLen     = 24

	kindSegment uint16 = 1 // .index of a sealed segment
	kindStart   uint16 = 2 // start file: base = next = first local offset, length 0

	flagVoid    uint16 = 1 // start file only: a reset is under way, every segment here is void
	flagCleaned uint16 = 2 // index only: the segment was compacted against all of the log up to its end
)

// maxIndexBytes bounds what is read of an index file: ten times the entries of the largest segment
// (see indexDensity), and with them epochs, aborted transactions and producers.
const maxIndexBytes = 256 << 20

var errIndex = errors.New("index file is corrupt")

// indexFooter is the part of an index that opening a log needs.
type indexFooter struct {
	segmentMeta
	kind       uint16
	flags      uint16
	generation uint64
	entries    uint32
	epochs     uint32
	aborted    uint32
	producers  uint32
	bodyCRC    uint32
	horizon    int64 // with flagCleaned: see cleanMark
}

func (f *indexFooter) bodyLen() int64 {
	return int64(f.entries)*entryLen + int64(f.epochs)*epochLen + int64(f.aborted)*abortedLen + int64(f.producers)
}

// indexFile is a whole index or start file.
type indexFile struct {
	indexFooter
	index     []indexEntry
	history   epochHistory
	abortedBy []AbortedTxn
	snapshot  []byte
	lost      error // why the snapshot is not that of the whole log; such a file is never written
}

func (x *indexFile) encode() []byte {
	be := binary.BigEndian
	x.entries, x.epochs = uint32(len(x.index)), uint32(len(x.history))
	x.aborted, x.producers = uint32(len(x.abortedBy)), uint32(len(x.snapshot))
	b := make([]byte, 0, x.bodyLen()+indexFooterLen)
	for _, e := range x.index {
		b = be.AppendUint32(b, e.rel)
		b = be.AppendUint32(b, e.pos)
		b = be.AppendUint64(b, uint64(e.maxBefore))
	}
	for _, e := range x.history {
		b = be.AppendUint32(b, uint32(e.Epoch))
		b = be.AppendUint64(b, uint64(e.Start))
	}
	for _, a := range x.abortedBy {
		b = be.AppendUint64(b, uint64(a.ProducerID))
		b = be.AppendUint64(b, uint64(a.First))
		b = be.AppendUint64(b, uint64(a.Last))
	}
	b = append(b, x.snapshot...)
	x.bodyCRC = crc32.Checksum(b, castagnoli)
	return x.appendFooter(b)
}

func (f *indexFooter) appendFooter(b []byte) []byte {
	be := binary.BigEndian
	start := len(b)
	for _, v := range []int64{f.base, f.next, f.size, f.baseTime, f.maxTime, f.maxTimeBase, f.createdMS, int64(f.generation)} {
		b = be.AppendUint64(b, uint64(v))
	}
	for _, v := range []uint32{f.entries, f.epochs, f.aborted, f.producers, f.bodyCRC} {
		b = be.AppendUint32(b, v)
	}
	b = be.AppendUint16(b, f.kind)
	b = be.AppendUint16(b, f.flags)
	b = be.AppendUint64(b, uint64(f.horizon))
	b = be.AppendUint16(b, indexVersion)
	b = append(b, 0, 0)
	b = be.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	return append(b, indexMagic...)
}

// decodeFooter reads the last indexFooterLen bytes of a file of size bytes.
func decodeFooter(b []byte, size int64) (f indexFooter, err error) {
	be := binary.BigEndian
	switch {
	case len(b) != indexFooterLen || string(b[104:]) != indexMagic:
		return f, fmt.Errorf("no footer: %w", errIndex)
	case crc32.Checksum(b[:100], castagnoli) != be.Uint32(b[100:]):
		return f, fmt.Errorf("footer checksum: %w", errIndex)
	case be.Uint16(b[96:]) != indexVersion:
		return f, fmt.Errorf("version %d: %w", be.Uint16(b[96:]), errIndex)
	case be.Uint16(b[98:]) != 0:
		return f, fmt.Errorf("reserved words: %w", errIndex)
	}
	at := func(i int) int64 { return int64(be.Uint64(b[i:])) }
	f.segmentMeta = segmentMeta{base: at(0), next: at(8), size: at(16), baseTime: at(24), maxTime: at(32), maxTimeBase: at(40), createdMS: at(48)}
	f.generation = be.Uint64(b[56:])
	f.entries, f.epochs, f.aborted = be.Uint32(b[64:]), be.Uint32(b[68:]), be.Uint32(b[72:])
	f.producers, f.bodyCRC = be.Uint32(b[76:]), be.Uint32(b[80:])
	f.kind, f.flags, f.horizon = be.Uint16(b[84:]), be.Uint16(b[86:]), at(88)
	f.abortedCount = f.aborted
	if size > maxIndexBytes || f.bodyLen()+indexFooterLen != size {
		return f, fmt.Errorf("%d bytes where the footer says %d: %w", size, f.bodyLen()+indexFooterLen, errIndex)
	}
	return f, f.check()
}

// check tells whether the numbers of the footer can be true.
func (f *indexFooter) check() error {
	ok := f.base >= 0 && f.next >= f.base && f.next-f.base <= math.MaxUint32 && f.size >= 0 &&
		f.horizon >= 0 && (f.horizon == 0 || f.flags&flagCleaned != 0)
	switch f.kind {
	case kindSegment:
		ok = ok && f.flags&^flagCleaned == 0 && f.next > f.base && f.size > 0 && f.size <= math.MaxUint32
	case kindStart:
		ok = ok && f.flags&^flagVoid == 0 && f.next == f.base && f.size == 0 && f.entries == 0 && f.aborted == 0
	default:
		ok = false
	}
	if !ok {
		return fmt.Errorf("footer of [%d, %d) with %d bytes, kind %d, flags %d: %w", f.base, f.next, f.size, f.kind, f.flags, errIndex)
	}
	return nil
}

// decodeIndex reads a whole index or start file. It allocates in proportion to len(b) only.
func decodeIndex(b []byte) (*indexFile, error) {
	if len(b) < indexFooterLen {
		return nil, fmt.Errorf("%d bytes: %w", len(b), errIndex)
	}
	body := b[:len(b)-indexFooterLen]
	footer, err := decodeFooter(b[len(body):], int64(len(b)))
	if err != nil {
		return nil, err
	}
	if crc32.Checksum(body, castagnoli) != footer.bodyCRC {
		return nil, fmt.Errorf("checksum: %w", errIndex)
	}
	x := &indexFile{indexFooter: footer}
	be := binary.BigEndian
	x.index = make([]indexEntry, footer.entries)
	for i := range x.index {
		x.index[i] = indexEntry{be.Uint32(body), be.Uint32(body[4:]), int64(be.Uint64(body[8:]))}
		body = body[entryLen:]
	}
	x.history = make(epochHistory, footer.epochs)
	for i := range x.history {
		x.history[i] = EpochStart{int32(be.Uint32(body)), int64(be.Uint64(body[4:]))}
		body = body[epochLen:]
	}
	x.abortedBy = make([]AbortedTxn, footer.aborted)
	for i := range x.abortedBy {
		x.abortedBy[i] = AbortedTxn{int64(be.Uint64(body)), int64(be.Uint64(body[8:])), int64(be.Uint64(body[16:]))}
		body = body[abortedLen:]
	}
	if len(body) > 0 {
		x.snapshot = body
	}
	if !x.history.valid() || !validEntries(x.index, footer.next-footer.base, max(footer.size, 1)) {
		return nil, fmt.Errorf("entries out of order: %w", errIndex)
	}
	return x, nil
}

// readIndexFile reads and checks a whole file.
func readIndexFile(fsys vfs.FS, name string) (*indexFile, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size of index %s: %w", name, err)
	}
	if size > maxIndexBytes {
		return nil, fmt.Errorf("index %s of %d bytes: %w", name, size, errIndex)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read index %s: %w", name, err)
	}
	x, err := decodeIndex(b)
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", name, err)
	}
	return x, nil
}

// readFooter reads the footer alone: what opening a log costs for each sealed segment.
func readFooter(fsys vfs.FS, name string) (indexFooter, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return indexFooter{}, fmt.Errorf("open index: %w", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return indexFooter{}, fmt.Errorf("size of index %s: %w", name, err)
	}
	if size < indexFooterLen {
		return indexFooter{}, fmt.Errorf("index %s of %d bytes: %w", name, size, errIndex)
	}
	var b [indexFooterLen]byte
	if _, err := f.ReadAt(b[:], size-indexFooterLen); err != nil && !errors.Is(err, io.EOF) {
		return indexFooter{}, fmt.Errorf("read index %s: %w", name, err)
	}
	footer, err := decodeFooter(b[:], size)
	if err != nil {
		return footer, fmt.Errorf("index %s: %w", name, err)
	}
	return footer, nil
}

// writeFileSynced makes name hold exactly b, durably: a temporary file, fdatasync, rename,
// directory sync. On an error the old content stays. before is called ahead of the rename.
func writeFileSynced(fsys vfs.FS, dir, name string, b []byte, before func()) error {
	tmp := name + tempSuffix
	if err := fsys.Remove(tmp); err != nil && !isNotExist(err) {
		return fmt.Errorf("remove old temporary: %w", err)
	}
	f, err := fsys.Create(tmp)
	if err != nil {
		return fmt.Errorf("create temporary: %w", err)
	}
	err = f.Allocate(0, int64(len(b)))
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err == nil {
		err = asSyncError(f.Sync())
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = fsys.Remove(tmp) // what matters is err; a leftover is removed at the next open
		return fmt.Errorf("write %s: %w", tmp, err)
	}
	if before != nil {
		before()
	}
	if err := fsys.Rename(tmp, name); err != nil {
		return fmt.Errorf("rename %s: %w", tmp, err)
	}
	if err := asSyncError(fsys.SyncDir(dir)); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
