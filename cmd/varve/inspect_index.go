package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"time"
)

// The layout of an index file, as broker/commitlog/FORMAT.md has it. It is read here from its
// description and not with commitlog's decoder, so that a fault of that one shows.
const (
	indexFooterBytes  = 112
	indexEntryBytes   = 16
	indexEpochBytes   = 12
	indexAbortedBytes = 24
	indexVersion      = 1
	maxIndexFile      = 256 << 20
)

// localIndex is the footer of an index file and what of its body is shown.
type localIndex struct {
	base, next, length                    int64
	baseTime, maxTime, maxTimeBase        int64
	created                               int64
	generation                            uint64
	entries, epochs, aborted, producerLen uint32
	kind, flags                           uint16
	history                               [][2]int64 // epoch, start
}

// inspectIndex checks an index file and prints what it says.
func (a *app) inspectIndex(f io.ReaderAt, size int64) error {
	if size > maxIndexFile {
		return fmt.Errorf("%d bytes are no index", size)
	}
	b, err := readTail(f, size, size)
	if err != nil {
		return err
	}
	x, err := decodeLocalIndex(b)
	if err != nil {
		return err
	}
	kind := map[uint16]string{1: "index of a sealed segment", 2: "start of a local log"}[x.kind]
	if kind == "" {
		return fmt.Errorf("index of kind %d is unknown to this program", x.kind)
	}
	if a.format == formatJSON {
		return a.printJSON("index", map[string]any{
			"index_kind": kind, "first": x.base, "next": x.next, "segment_bytes": x.length, "base_timestamp": x.baseTime, "max_timestamp": x.maxTime,
			"max_timestamp_batch": x.maxTimeBase, "created": x.created, "generation": x.generation, "entries": x.entries, "epochs": x.history,
			"aborted": x.aborted, "producer_bytes": x.producerLen, "flags": x.flags,
		})
	}
	return pairs(a.stdout, "kind", kind, "first", x.base, "next", x.next, "segment bytes", x.length, "base time", humanTime(x.baseTime),
		"max time", humanTime(x.maxTime), "batch of max time", x.maxTimeBase, "created", time.UnixMilli(x.created).UTC().Format(time.RFC3339),
		"generation", x.generation, "entries", x.entries, "epochs", fmt.Sprint(x.history), "aborted transactions", x.aborted,
		"producer snapshot", humanBytes(int64(x.producerLen)), "flags", x.flags)
}

func decodeLocalIndex(b []byte) (localIndex, error) {
	var x localIndex
	if len(b) < indexFooterBytes {
		return x, fmt.Errorf("%d bytes are fewer than a footer", len(b))
	}
	be := binary.BigEndian
	body, footer := b[:len(b)-indexFooterBytes], b[len(b)-indexFooterBytes:]
	if got := crc32.Checksum(footer[:100], castagnoli); got != be.Uint32(footer[100:]) {
		return x, fmt.Errorf("footer CRC32C is %08x, computed %08x", be.Uint32(footer[100:]), got)
	}
	if v := be.Uint16(footer[96:]); v != indexVersion {
		return x, fmt.Errorf("index version %d is unknown to this program", v)
	}
	for i, p := range []*int64{&x.base, &x.next, &x.length, &x.baseTime, &x.maxTime, &x.maxTimeBase, &x.created} {
		*p = int64(be.Uint64(footer[8*i:]))
	}
	x.generation = be.Uint64(footer[56:])
	for i, p := range []*uint32{&x.entries, &x.epochs, &x.aborted, &x.producerLen} {
		*p = be.Uint32(footer[64+4*i:])
	}
	x.kind, x.flags = be.Uint16(footer[84:]), be.Uint16(footer[86:])
	want := int64(x.entries)*indexEntryBytes + int64(x.epochs)*indexEpochBytes + int64(x.aborted)*indexAbortedBytes + int64(x.producerLen)
	if want != int64(len(body)) {
		return x, fmt.Errorf("body of %d bytes, the footer says %d", len(body), want)
	}
	if got := crc32.Checksum(body, castagnoli); got != be.Uint32(footer[80:]) {
		return x, fmt.Errorf("body CRC32C is %08x, computed %08x", be.Uint32(footer[80:]), got)
	}
	epochs := body[int64(x.entries)*indexEntryBytes:]
	for range x.epochs {
		x.history = append(x.history, [2]int64{int64(int32(be.Uint32(epochs))), int64(be.Uint64(epochs[4:]))})
		epochs = epochs[indexEpochBytes:]
	}
	return x, nil
}
