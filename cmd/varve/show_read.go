package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// readStall is how long the reader waits for the next record before the show gives up.
const readStall = 30 * time.Second

// read consumes the topic from offset 0 with an ordinary client and compares every record with
// its file. The first difference ends the show.
func (s *show) read(ctx context.Context) error {
	began := time.Now()
	cl, err := s.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	ids := make([]partitionID, showPartitions)
	for i := range ids {
		ids[i] = partitionID{showTopic, int32(i)}
	}
	end, err := listOffsetsAt(ctx, cl, ids, askLatest)
	if err != nil {
		return err
	}
	spans := map[partitionID]*span{}
	for _, id := range ids {
		spans[id] = &span{0, end[id].offset}
	}
	reader, err := s.client(consumeOpts(spans)...)
	if err != nil {
		return err
	}
	defer reader.Close()
	check := newLineCheck(s.source)
	if err := s.compare(ctx, reader, spans, check); err != nil {
		return err
	}
	s.readTook = time.Since(began)
	s.printf("%s %s records, %s from offset 0 in %.1f s (%s): every one equals its line", actName("read"), humanCount(check.records),
		humanBytes(check.bytes), s.readTook.Seconds(), megabytes(check.bytes, s.readTook))
	return nil
}

func (s *show) compare(ctx context.Context, cl *kgo.Client, spans map[partitionID]*span, check *lineCheck) error {
	bar := newProgress(s.a.stdout, "read", s.poured.bytes, true)
	defer bar.clear()
	open := 0
	for _, span := range spans {
		if span.next < span.end {
			open++
		}
	}
	notes, moved := &retryNotes{}, time.Now()
	for open > 0 {
		once, cancel := context.WithTimeout(ctx, readStall)
		fetches := cl.PollFetches(once)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if fetches.NumRecords() > 0 {
			moved = time.Now()
		} else if time.Since(moved) > readStall {
			return fmt.Errorf("read: nothing came for %s, with %d of %d records read; last error: %s", readStall, check.records, s.poured.records, cmp.Or(notes.last, "none"))
		}
		if err := fetchError(fetches, notes); err != nil {
			return err
		}
		for iter := fetches.RecordIter(); !iter.Done(); {
			r := iter.Next()
			span := spans[partitionID{r.Topic, r.Partition}]
			if r.Offset != span.next {
				return fmt.Errorf("DIFFERENCE in %s/%d: offset %d follows, expected %d", r.Topic, r.Partition, r.Offset, span.next)
			}
			if err := check.record(r); err != nil {
				return fmt.Errorf("DIFFERENCE in %s/%d at offset %d: %w", r.Topic, r.Partition, r.Offset, err)
			}
			if span.next++; span.next == span.end {
				open--
			}
		}
		bar.set(check.bytes)
	}
	return check.finish(s.poured.records)
}

// lineCheck compares records with the lines of their files. A file's lines come in order, and the
// files of a partition one after the other, so only a few are open at a time.
type lineCheck struct {
	source  *sourceTree
	open    map[string]*openFile
	done    map[string]bool
	records int64
	bytes   int64
}

type openFile struct {
	rest []byte
	line int // lines read
}

func newLineCheck(source *sourceTree) *lineCheck {
	return &lineCheck{source: source, open: map[string]*openFile{}, done: map[string]bool{}}
}

func (c *lineCheck) record(r *kgo.Record) error {
	f, err := c.file(string(r.Key))
	if err != nil {
		return err
	}
	line, rest, ok := nextLine(f.rest)
	f.line++
	if !ok || !bytes.Equal(line, r.Value) {
		return fmt.Errorf("line %d of %s is %q, the record is %q", f.line, clip(string(r.Key)), clip(string(line)), clip(string(r.Value)))
	}
	c.records++
	c.bytes += int64(len(r.Key) + len(r.Value))
	if f.rest = rest; len(rest) == 0 {
		delete(c.open, string(r.Key))
		c.done[string(r.Key)] = true
	}
	return nil
}

func (c *lineCheck) file(key string) (*openFile, error) {
	if f := c.open[key]; f != nil {
		return f, nil
	}
	if c.done[key] {
		return nil, fmt.Errorf("a record too many of %s, whose lines were all read", clip(key))
	}
	if !c.source.known[key] {
		return nil, fmt.Errorf("key %q is no file of the source", clip(key))
	}
	text, err := c.source.read(key)
	if err != nil {
		return nil, fmt.Errorf("read source: %w", err)
	}
	f := &openFile{rest: text}
	c.open[key] = f
	return f, nil
}

// finish checks that nothing is missing at the end of files.
func (c *lineCheck) finish(poured int64) error {
	for file, f := range c.open {
		return fmt.Errorf("DIFFERENCE: %s ends after line %d, with %d bytes to come", file, f.line, len(f.rest))
	}
	if c.records != poured {
		return fmt.Errorf("DIFFERENCE: %d records were acknowledged, %d were read", poured, c.records)
	}
	return nil
}
