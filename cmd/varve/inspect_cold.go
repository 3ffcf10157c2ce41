package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"strings"

	"varve/broker/commitlog"
	"varve/broker/record"
	"varve/tiering"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maxDocument bounds a JSON file; manifests are some MiB at most.
const maxDocument = 64 << 20

// inspectCold reads the index of a cold object, then every chunk: checksum, frame and batches.
func (a *app) inspectCold(f io.ReaderAt, size int64, o inspectOptions) error {
	const self = "cold object"
	x, err := tiering.ReadIndex(self, f, size)
	if err != nil {
		return err
	}
	p := newBatchPrinter(a, o)
	pos := int64(0)
	var damage error
	for raw, err := range tiering.RawChunks(self, f, x) {
		if err == nil {
			err = coldChunk(raw, pos, p)
			pos += int64(len(raw))
		}
		if err != nil {
			damage = err
			break
		}
	}
	producers := 0
	snapshot, err := tiering.ReadProducers(self, f, x)
	if err == nil {
		var list []commitlog.ProducerReport
		list, err = commitlog.InspectProducers(snapshot)
		producers = len(list)
	}
	if err != nil {
		damage = errors.Join(damage, fmt.Errorf("producer snapshot: %w", err))
	}
	if damage == nil && (p.first != x.First || p.next != x.Last+1 || p.records != x.Records) {
		damage = fmt.Errorf("the index says offsets %d to %d and %d records, the chunks hold %d to %d and %d", x.First, x.Last, x.Records, p.first, p.next-1, p.records)
	}
	finish := p.finish(self,
		"topic id", base64.RawURLEncoding.EncodeToString(x.TopicID[:]), "partition", x.Partition, "uploaded in epoch", x.LeaderEpoch,
		"first", x.First, "next", x.Last+1, "records", x.Records, "raw bytes", x.RawBytes, "stored bytes", size,
		"chunks", len(x.Chunks), "epochs", fmt.Sprintf("%v", x.Epochs), "aborted transactions", len(x.Aborted), "producers", producers,
		"base time", humanTime(x.BaseTimestamp), "max time", humanTime(x.MaxTimestamp))
	return errors.Join(damage, finish)
}

// coldChunk hands the batches of a chunk on; pos is where they lie in the segment.
func coldChunk(raw []byte, pos int64, p *batchPrinter) error {
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

// inspectDocument checks one of the JSON objects of a bucket and prints it.
func (a *app) inspectDocument(f io.ReaderAt, size int64) error {
	if size > maxDocument {
		return fmt.Errorf("%d bytes of JSON, at most %d", size, maxDocument)
	}
	text := make([]byte, size)
	if _, err := f.ReadAt(text, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	doc, err := tiering.DecodeDocument("document", text)
	if err != nil {
		return err
	}
	crc := crc32.Checksum(text, castagnoli)
	show := func(kind string, print func() error) error {
		if a.format == formatJSON {
			return a.printJSON(kind, map[string]any{"crc32c": crc, strings.ReplaceAll(kind, ".", "_"): json.RawMessage(text)})
		}
		return print()
	}
	switch d := doc.(type) {
	case *tiering.Manifest:
		return show("manifest", func() error { return a.printManifest(d, crc) })
	case *tiering.Page:
		return show("page", func() error { return a.printPage(d, crc) })
	case *tiering.TopicDescriptor:
		return show("topic.json", func() error {
			return pairs(a.stdout, "kind", "topic.json", "cluster", d.Cluster, "topic", d.Topic, "topic id", d.TopicID, "partitions", d.Partitions,
				"written", humanTime(d.UpdatedMS), "config", sortedConfig(d.Config))
		})
	case *tiering.Tombstone:
		return show("tombstone", func() error { return a.printTombstone(d) })
	}
	return fmt.Errorf("a document of type %T is not printed", doc)
}

func sortedConfig(config map[string]string) string {
	out := make([]string, 0, len(config))
	for _, k := range slices.Sorted(maps.Keys(config)) {
		out = append(out, k+"="+config[k])
	}
	return strings.Join(out, " ")
}

func (a *app) printTombstone(s *tiering.Tombstone) error {
	state := "objects are being deleted"
	switch {
	case s.DoneMS != 0:
		state = "done, nothing of the topic is left"
	case s.EmptyMS != 0:
		state = "deleted; the bucket is listed once more a day later"
	}
	return pairs(a.stdout, "kind", "tombstone of a deleted topic", "cluster", s.Cluster, "topic", s.Topic, "topic id", s.TopicID,
		"deleted", humanTime(s.DeletedMS), "purge", state)
}

func (a *app) printPage(p *tiering.Page, crc uint32) error {
	raw, stored, records := int64(0), int64(0), int64(0)
	for i := range p.Entries {
		e := &p.Entries[i]
		raw, stored, records = raw+e.RawBytes, stored+e.StoredBytes, records+e.Records
	}
	err := pairs(a.stdout, "kind", "page of a manifest", "crc32c", fmt.Sprintf("%08x", crc), "topic id", p.TopicID, "partition", p.Partition,
		"first", p.Entries[0].First, "next", p.Entries[len(p.Entries)-1].Last+1, "objects", len(p.Entries), "records", humanCount(records),
		"raw bytes", humanBytes(raw), "stored bytes", humanBytes(stored))
	if err != nil {
		return err
	}
	return a.printEntries(p.Entries)
}

func (a *app) printManifest(m *tiering.Manifest, crc uint32) error {
	err := pairs(a.stdout, "kind", "manifest", "name", m.Name, "replaces", m.Prev, "crc32c", fmt.Sprintf("%08x", crc),
		"cluster", m.Cluster, "topic", m.Topic, "topic id", m.TopicID, "partition", m.Partition, "epoch", m.LeaderEpoch, "sequence", m.Seq,
		"log start", m.LogStart, "tiered end", m.TieredEnd, "objects", m.Count, "records", humanCount(m.Records),
		"raw bytes", humanBytes(m.RawBytes), "stored bytes", humanBytes(m.StoredBytes), "pages", len(m.Pages), "waiting for deletion", len(m.Deleted))
	if err != nil || len(m.Entries) == 0 {
		return err
	}
	return a.printEntries(m.Entries)
}

func (a *app) printEntries(entries []tiering.Entry) error {
	out := newTable(">FIRST", ">LAST", ">RECORDS", ">BYTES", ">STORED", "FROM", "TO", "KEY")
	for _, e := range entries {
		out.add(e.First, e.Last, humanCount(e.Records), humanBytes(e.RawBytes), humanBytes(e.StoredBytes), humanTime(e.BaseTimestamp), humanTime(e.MaxTimestamp), e.Key)
	}
	fmt.Fprintln(a.stdout)
	return out.write(a.stdout)
}
