package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

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

// inspectSegment reads batches from the start of a segment to its logical end: zeros, the end of
// the file, or bytes that are no batch that follows. What lies after it may be the rest of a
// recycled file, which is not damage; a batch that follows and fails its CRC is.
func (a *app) inspectSegment(f io.ReaderAt, size int64, o inspectOptions) error {
	p := newBatchPrinter(a, o)
	end, why, err := scanSegment(f, size, p)
	finish := p.finish("segment", "first", p.first, "next", p.next, "batches", p.batches, "records", p.records,
		"bytes", end, "file bytes", size, "ends with", why)
	return errors.Join(err, finish)
}

func scanSegment(f io.ReaderAt, size int64, p *batchPrinter) (end int64, why string, err error) {
	var buf []byte
	head := make([]byte, record.HeaderLen)
	for pos := int64(0); ; {
		if pos == size {
			return pos, "the end of the file", nil
		}
		n, readErr := f.ReadAt(head, pos)
		if readErr != nil && !errors.Is(readErr, io.EOF) {
			return pos, "a read error", readErr
		}
		if len(bytes.Trim(head[:n], "\x00")) == 0 {
			return pos, "zeros", nil
		}
		total, sizeErr := record.PeekSize(head[:n])
		if sizeErr != nil || pos+int64(total) > size {
			return pos, "bytes that are no batch: a torn write, or an earlier use of the file", nil
		}
		if total > len(buf) {
			buf = make([]byte, total)
		}
		if _, err := f.ReadAt(buf[:total], pos); err != nil && !errors.Is(err, io.EOF) {
			return pos, "a read error", err
		}
		b, parseErr := record.Parse(buf[:total])
		if parseErr != nil || p.next >= 0 && b.BaseOffset() != p.next {
			return pos, "a batch that does not follow: an earlier use of the file", nil
		}
		if err := p.batch(pos, b); err != nil {
			return pos, "damage", err
		}
		pos += int64(total)
	}
}
