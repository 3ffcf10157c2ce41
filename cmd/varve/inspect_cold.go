package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/pierrec/lz4/v4"

	"varve/broker/record"
	"varve/tiering"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	coldFooterBytes = 32
	coldIndexLenAt  = 8 // of the index length in the footer
	// maxManifestFile bounds a JSON file; manifests are some MiB at most.
	maxManifestFile = 64 << 20
)

// inspectCold reads the index of a cold object, then every chunk: checksum, frame and batches.
func (a *app) inspectCold(f io.ReaderAt, size int64, o inspectOptions) error {
	footer, err := readTail(f, size, coldFooterBytes)
	if err != nil {
		return err
	}
	tail, err := readTail(f, size, int64(binary.BigEndian.Uint32(footer[coldIndexLenAt:]))+coldFooterBytes)
	if err != nil {
		return err
	}
	x, err := tiering.DecodeIndex("index", size, tail)
	if err != nil {
		return err
	}
	p := newBatchPrinter(a, o)
	pos := int64(0)
	var damage error
	for i := range x.Chunks {
		if damage = coldChunk(f, &x.Chunks[i], pos, p); damage != nil {
			damage = fmt.Errorf("chunk %d at %d: %w", i, x.Chunks[i].Pos, damage)
			break
		}
		pos += int64(x.Chunks[i].Raw)
	}
	if damage == nil && (p.first != x.First || p.next != x.Last+1 || p.records != x.Records) {
		damage = fmt.Errorf("the index says offsets %d to %d and %d records, the chunks hold %d to %d and %d", x.First, x.Last, x.Records, p.first, p.next-1, p.records)
	}
	finish := p.finish("cold object",
		"topic id", base64.RawURLEncoding.EncodeToString(x.TopicID[:]), "partition", x.Partition, "uploaded in epoch", x.LeaderEpoch,
		"first", x.First, "next", x.Last+1, "records", x.Records, "raw bytes", x.RawBytes, "stored bytes", size,
		"chunks", len(x.Chunks), "epochs", fmt.Sprintf("%v", x.Epochs), "aborted transactions", len(x.Aborted),
		"base time", humanTime(x.BaseTimestamp), "max time", humanTime(x.MaxTimestamp))
	return errors.Join(damage, finish)
}

// coldChunk checks one frame and hands its batches on; pos is where they lie in the segment.
func coldChunk(f io.ReaderAt, c *tiering.Chunk, pos int64, p *batchPrinter) error {
	stored := make([]byte, c.Stored) // DecodeIndex has checked it against the size of the file
	if _, err := f.ReadAt(stored, c.Pos); err != nil {
		return err
	}
	if got := crc32.Checksum(stored, castagnoli); got != c.CRC {
		return fmt.Errorf("CRC32C is %08x, the index says %08x", got, c.CRC)
	}
	raw, err := io.ReadAll(io.LimitReader(lz4.NewReader(bytes.NewReader(stored)), int64(c.Raw)+1))
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	if len(raw) != int(c.Raw) {
		return fmt.Errorf("unpacks to %d bytes, the index says %d", len(raw), c.Raw)
	}
	for len(raw) > 0 {
		b, err := record.Parse(raw)
		if err != nil {
			return err
		}
		if err := p.batch(pos, b); err != nil {
			return err
		}
		pos += int64(b.Len())
		raw = raw[b.Len():]
	}
	return nil
}

// inspectManifest checks a manifest and prints its entries.
func (a *app) inspectManifest(f io.ReaderAt, size int64) error {
	if size > maxManifestFile {
		return fmt.Errorf("%d bytes of JSON are no manifest", size)
	}
	text, err := readTail(f, size, size)
	if err != nil {
		return err
	}
	m, err := tiering.DecodeManifest("manifest", text)
	if err != nil {
		return err
	}
	if a.format == formatJSON {
		return a.printJSON("manifest", map[string]any{"crc32c": crc32.Checksum(text, castagnoli), "manifest": json.RawMessage(text)})
	}
	err = pairs(a.stdout, "kind", "manifest", "name", m.Name, "replaces", m.Prev, "crc32c", fmt.Sprintf("%08x", crc32.Checksum(text, castagnoli)),
		"cluster", m.Cluster, "topic", m.Topic, "topic id", m.TopicID, "partition", m.Partition, "epoch", m.LeaderEpoch, "sequence", m.Seq,
		"log start", m.LogStart, "tiered end", m.TieredEnd, "objects", m.Count, "records", humanCount(m.Records),
		"raw bytes", humanBytes(m.RawBytes), "stored bytes", humanBytes(m.StoredBytes), "pages", len(m.Pages), "waiting for deletion", len(m.Deleted))
	if err != nil || len(m.Entries) == 0 {
		return err
	}
	out := newTable(">FIRST", ">LAST", ">RECORDS", ">BYTES", ">STORED", "FROM", "TO", "KEY")
	for _, e := range m.Entries {
		out.add(e.First, e.Last, humanCount(e.Records), humanBytes(e.RawBytes), humanBytes(e.StoredBytes), humanTime(e.BaseTimestamp), humanTime(e.MaxTimestamp), e.Key)
	}
	fmt.Fprintln(a.stdout)
	return out.write(a.stdout)
}
