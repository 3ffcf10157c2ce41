package main

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"varve/broker/commitlog"
	"varve/broker/record"
)

// maxInspectBytes bounds what a batch may unpack to.
const maxInspectBytes = 1 << 30

// batchPrinter prints batches or their records, and sums them up.
type batchPrinter struct {
	a       *app
	o       inspectOptions
	table   *table
	items   []map[string]any
	out     *bufio.Writer
	batches int64
	records int64
	next    int64 // offset expected of the next batch, -1 before the first
	first   int64
	line    []byte
}

func newBatchPrinter(a *app, o inspectOptions) *batchPrinter {
	return &batchPrinter{
		a: a, o: o, next: -1, first: -1, out: bufio.NewWriterSize(a.stdout, 64<<10),
		table: newTable(">POS", ">BYTES", ">FIRST", ">LAST", ">RECORDS", ">EPOCH", "CODEC", "MAX TIME", ">PRODUCER", ">SEQUENCE", "FLAGS"),
	}
}

// batch checks and prints one batch at a position of the log.
func (p *batchPrinter) batch(pos int64, b record.Batch) error {
	if err := b.CheckCRC(); err != nil {
		return fmt.Errorf("batch at %d: %w", pos, err)
	}
	if p.next >= 0 && b.BaseOffset() != p.next {
		return fmt.Errorf("batch at %d begins at offset %d, expected %d", pos, b.BaseOffset(), p.next)
	}
	if p.first < 0 {
		p.first = b.BaseOffset()
	}
	p.next = b.NextOffset()
	p.batches++
	p.records += int64(b.Count())
	if p.o.records {
		return p.printRecords(pos, b)
	}
	flags := batchFlags(b.Attributes())
	if p.o.json {
		p.items = append(p.items, map[string]any{
			"position": pos, "bytes": b.Len(), "first": b.BaseOffset(), "last": b.LastOffset(), "records": b.Count(), "epoch": b.LeaderEpoch(),
			"codec": b.Attributes().Codec().String(), "base_timestamp": b.BaseTimestamp(), "max_timestamp": b.MaxTimestamp(),
			"producer_id": b.ProducerID(), "producer_epoch": b.ProducerEpoch(), "sequence": b.BaseSequence(), "flags": flags, "crc32c": b.CRC(),
		})
		return nil
	}
	producer, sequence := "-", "-"
	if b.ProducerID() >= 0 {
		producer, sequence = fmt.Sprintf("%d/%d", b.ProducerID(), b.ProducerEpoch()), fmt.Sprint(b.BaseSequence())
	}
	p.table.add(pos, b.Len(), b.BaseOffset(), b.LastOffset(), b.Count(), b.LeaderEpoch(), b.Attributes().Codec(), humanTime(b.MaxTimestamp()),
		producer, sequence, strings.Join(flags, ","))
	return nil
}

func batchFlags(attrs record.Attributes) []string {
	flags := []string{}
	if attrs.Transactional() {
		flags = append(flags, "transactional")
	}
	if attrs.Control() {
		flags = append(flags, "control")
	}
	if attrs.LogAppendTime() {
		flags = append(flags, "log-append-time")
	}
	return flags
}

func (p *batchPrinter) printRecords(pos int64, b record.Batch) error {
	if b.Attributes().Control() {
		return nil
	}
	for rec, err := range b.Records(maxInspectBytes) {
		if err != nil {
			return fmt.Errorf("batch at %d: %w", pos, err)
		}
		out := &kgo.Record{Offset: rec.Offset, Timestamp: time.UnixMilli(rec.Timestamp), Key: rec.Key, Value: rec.Value}
		for _, h := range rec.Headers {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		if p.o.json {
			p.line, err = appendRecordJSON(p.line[:0], out)
			if err != nil {
				return fmt.Errorf("print record: %w", err)
			}
		} else {
			p.line = appendRecord(p.line[:0], p.o.format, out)
		}
		if _, err := p.out.Write(p.line); err != nil {
			return fmt.Errorf("print record: %w", err)
		}
	}
	return nil
}

// finish prints what was gathered: summary lines, then the batches.
func (p *batchPrinter) finish(kind string, summary ...any) error {
	if p.o.records {
		return p.out.Flush()
	}
	if p.o.json {
		data := map[string]any{"batches": p.items}
		for i := 0; i+1 < len(summary); i += 2 {
			data[strings.ReplaceAll(fmt.Sprint(summary[i]), " ", "_")] = summary[i+1]
		}
		return p.a.printJSON(kind, data)
	}
	if err := pairs(p.a.stdout, append([]any{"kind", kind}, summary...)...); err != nil {
		return err
	}
	if len(p.table.rows) == 0 {
		return nil
	}
	fmt.Fprintln(p.a.stdout)
	return p.table.write(p.a.stdout)
}

// inspectSegment reads a segment up to the length that its index says, or, without an index, to its
// logical end: zeros, the end of the file, or bytes that are no batch that follows. What lies after
// that may be the rest of a recycled file, which is not damage.
func (a *app) inspectSegment(name string, o inspectOptions) error {
	p := newBatchPrinter(a, o)
	x, err := commitlog.InspectIndex(strings.TrimSuffix(name, ".log") + ".index")
	sealed := err == nil && x.Kind == commitlog.IndexFile
	var damage error
	stale := false
	end := int64(0)
	rep, err := commitlog.InspectSegment(name, func(r commitlog.BatchReport) bool {
		if stale = !sealed && p.next >= 0 && r.Batch.BaseOffset() != p.next; stale {
			return false
		}
		if r.CRC == nil && r.Problem != "" {
			damage = fmt.Errorf("batch at %d: %s", r.Pos, r.Problem)
		} else {
			damage = p.batch(r.Pos, r.Batch)
		}
		if damage == nil {
			end = r.Pos + int64(r.Batch.Len())
		}
		return damage == nil
	})
	if err != nil {
		return errors.Join(p.out.Flush(), err)
	}
	why := segmentEnd(rep, stale, damage != nil)
	if damage == nil && sealed && (end != rep.Logical || p.next != x.Segment.Next) {
		damage = fmt.Errorf("the index says %d bytes up to offset %d, the segment has %d up to %d", rep.Logical, x.Segment.Next, end, p.next)
	}
	finish := p.finish("segment", "first", p.first, "next", p.next, "batches", p.batches, "records", p.records,
		"bytes", end, "file bytes", rep.FileBytes, "sealed", sealed, "ends with", why)
	return errors.Join(damage, finish)
}

func segmentEnd(rep commitlog.SegmentReport, stale, damaged bool) string {
	switch {
	case damaged:
		return "damage"
	case stale:
		return "a batch that does not follow: an earlier use of the file"
	case rep.Tail == "":
		return "the end of the file"
	case rep.Tail == "zeros":
		return "zeros"
	}
	return rep.Tail + ": a torn write, or an earlier use of the file"
}

// inspectIndex checks an index or start file and prints what it says.
func (a *app) inspectIndex(name string) error {
	x, err := commitlog.InspectIndex(name)
	if err != nil {
		return err
	}
	epochs := make([][2]int64, 0, len(x.Epochs))
	for _, e := range x.Epochs {
		epochs = append(epochs, [2]int64{int64(e.Epoch), e.Start})
	}
	kind := "index of a sealed segment"
	if x.Kind == commitlog.StartFile {
		kind = "start of a local log"
	}
	s := &x.Segment
	if a.format == formatJSON {
		return a.printJSON("index", map[string]any{
			"index_kind": kind, "first": s.Base, "next": s.Next, "segment_bytes": s.Bytes, "base_timestamp": s.BaseTime, "max_timestamp": s.MaxTime,
			"created": s.Created.UnixMilli(), "generation": x.Generation, "void": x.Void, "entries": x.Entries, "epochs": epochs,
			"aborted": x.Aborted, "producers": x.Producers,
		})
	}
	err = pairs(a.stdout, "kind", kind, "first", s.Base, "next", s.Next, "segment bytes", s.Bytes, "base time", humanTime(s.BaseTime),
		"max time", humanTime(s.MaxTime), "created", s.Created.UTC().Format(time.RFC3339), "generation", x.Generation, "void", x.Void,
		"entries", len(x.Entries), "epochs", fmt.Sprint(epochs), "aborted transactions", len(x.Aborted), "producers", len(x.Producers))
	if err != nil || len(x.Producers) == 0 {
		return err
	}
	out := newTable(">PRODUCER", ">EPOCH", ">LAST SEQUENCE", "LAST SEEN", ">OPEN TRANSACTION FROM")
	for _, p := range x.Producers {
		out.add(p.ID, p.Epoch, p.LastSequence, humanTime(p.LastSeenMS), p.TxnFirst)
	}
	fmt.Fprintln(a.stdout)
	return out.write(a.stdout)
}
