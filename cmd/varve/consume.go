package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// consumeOptions is what the flags of consume say.
type consumeOptions struct {
	topics     []string
	offsets    offsetRange
	partitions []int32 // nil: all
	most       int64   // records; 0: no limit
	exitAtEnd  bool
	key        *string // only records with this key
	format     []piece // nil: JSON lines
	group      string  // read as a member of this group
	committed  bool    // no records of open and aborted transactions
}

func (a *app) consumeCommand() *cobra.Command {
	var (
		o               consumeOptions
		offsets, format string
		key             string
	)
	cmd := &cobra.Command{
		Use: "consume TOPIC...", Short: "Read records, hot and cold alike", Args: cobra.MinimumNArgs(1),
		Long: `Read records of topics from all partitions, wherever their bytes are.

Offsets (-o): start, end, N (an offset), -N (that many before the end, in each partition),
@TIME (first record at or after), or FROM:TO (TO is exclusive). TIME is 2026-01-02T00:00Z,
milliseconds since 1970, or -1h for an hour ago. A range with an end stops there by itself.

With --group the partitions are shared with the group's other members, reading goes on from the
committed offsets, and what was written out is committed: a run that dies repeats records and skips
none.`,
		Example: "  varve consume clicks -o start -n 3 -f '%p:%o %d %k=%v\\n'\n  varve consume clicks -o @-1h:@-30m\n  varve consume clicks -o -10 -e\n  varve consume clicks -o @-7d:@-6d -k user7 -f json",
	}
	flags := cmd.Flags()
	flags.StringVarP(&offsets, "offset", "o", "end", "`OFFSET` or range to read: start, end, N, -N, @TIME, FROM:TO")
	flags.Int64VarP(&o.most, "num", "n", 0, "stop after this many records; 0 is no limit")
	flags.Int32SliceVarP(&o.partitions, "partition", "p", nil, "only these partitions")
	flags.BoolVarP(&o.exitAtEnd, "exit", "e", false, "stop at the end that each partition has now")
	flags.StringVarP(&key, "key", "k", "", "only records with this `KEY`")
	flags.BoolVar(&o.committed, "committed", false, "leave out records of aborted transactions, and stop before open ones")
	flags.StringVarP(&o.group, "group", "g", "", "read as a member of this `GROUP` and commit what was written; -o counts where it has no offset")
	flags.StringVarP(&format, "record-format", "f", `%v\n`, formatHelp+"; json is one JSON object a line")
	cmd.RunE = a.body(func(cmd *cobra.Command, topics []string) error {
		var err error
		if o.offsets, err = parseOffsets(offsets, time.Now()); err != nil {
			return usageError{err}
		}
		if o.most < 0 {
			return usagef("-n %d is negative", o.most)
		}
		if cmd.Flags().Changed("key") {
			o.key = &key
		}
		if format != formatRecordJSON && (a.format != formatJSON || cmd.Flags().Changed("record-format")) {
			if o.format, err = parseFormat(format); err != nil {
				return usageError{err}
			}
		}
		o.topics = topics
		if o.group != "" {
			return a.consumeGroup(cmd.Context(), &o)
		}
		return a.consume(cmd.Context(), o)
	})
	return cmd
}

func (a *app) consume(ctx context.Context, o consumeOptions) error {
	cl, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	ids, err := selectPartitions(ctx, cl, o)
	if err != nil {
		return err
	}
	spans, err := resolveSpans(ctx, cl, ids, o)
	if err != nil {
		return err
	}
	reader, err := a.connect(ctx, append(consumeOpts(spans), o.isolation())...)
	if err != nil {
		return err
	}
	defer reader.Close()
	out := bufio.NewWriterSize(a.stdout, 64<<10)
	err = copyRecords(ctx, reader, spans, o, out, &retryNotes{out: a.stderr})
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	return err
}

func selectPartitions(ctx context.Context, cl *kgo.Client, o consumeOptions) ([]partitionID, error) {
	metas, err := topicMeta(ctx, cl, o.topics...)
	if err != nil {
		return nil, err
	}
	all := partitionsOf(metas)
	if o.partitions == nil {
		return all, nil
	}
	var ids []partitionID
	for _, topic := range o.topics {
		for _, want := range o.partitions {
			id := partitionID{topic, want}
			if !contains(all, id) {
				return nil, fmt.Errorf("topic %q has no partition %d", topic, want)
			}
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func contains(ids []partitionID, id partitionID) bool {
	for _, other := range ids {
		if other == id {
			return true
		}
	}
	return false
}

// span is what is read of one partition: [next, end), where end is math.MaxInt64 if there is none.
type span struct{ next, end int64 }

// resolveSpans turns the range of -o into offsets of each partition.
func resolveSpans(ctx context.Context, cl *kgo.Client, ids []partitionID, o consumeOptions) (map[partitionID]*span, error) {
	start, err := listOffsetsAt(ctx, cl, ids, askEarliest)
	if err != nil {
		return nil, err
	}
	level := int8(readUncommitted)
	if o.committed {
		level = readCommitted
	}
	end, err := listOffsetsSeen(ctx, cl, ids, askLatest, level)
	if err != nil {
		return nil, err
	}
	atTime := func(p point) (map[partitionID]offsetAt, error) {
		if p.kind != pointTime {
			return nil, nil
		}
		return listOffsetsAt(ctx, cl, ids, p.value)
	}
	from, err := atTime(o.offsets.from)
	if err != nil {
		return nil, err
	}
	to, err := atTime(o.offsets.to)
	if err != nil {
		return nil, err
	}
	spans := make(map[partitionID]*span, len(ids))
	for _, id := range ids {
		s := &span{
			next: o.offsets.from.resolve(start[id].offset, end[id].offset, from[id].offset),
			end:  o.offsets.to.resolve(start[id].offset, end[id].offset, to[id].offset),
		}
		if o.exitAtEnd {
			s.end = min(s.end, end[id].offset)
		}
		spans[id] = s
	}
	return spans, nil
}

// resolve gives the offset of a point in a partition [start, end); timed is the answer of a lookup
// by time, -1 if no record is that young. Points outside the log move to its nearest end.
func (p point) resolve(start, end, timed int64) int64 {
	offset := end
	switch p.kind {
	case pointEnd:
	case pointNoBound:
		return math.MaxInt64
	case pointStart:
		offset = start
	case pointOffset:
		offset = p.value
	case pointFromEnd:
		offset = end - p.value
	case pointTime:
		if timed >= 0 {
			offset = timed
		}
	}
	return max(start, min(offset, end))
}

func (o *consumeOptions) isolation() kgo.Opt {
	if o.committed {
		return kgo.FetchIsolationLevel(kgo.ReadCommitted())
	}
	return kgo.FetchIsolationLevel(kgo.ReadUncommitted())
}

func consumeOpts(spans map[partitionID]*span) []kgo.Opt {
	starts := map[string]map[int32]kgo.Offset{}
	for id, s := range spans {
		if s.next >= s.end {
			continue
		}
		if starts[id.topic] == nil {
			starts[id.topic] = map[int32]kgo.Offset{}
		}
		starts[id.topic][id.partition] = kgo.NewOffset().At(s.next)
	}
	return []kgo.Opt{
		kgo.ConsumePartitions(starts),
		// A position outside the log must be an error: a silent reset would skip or repeat records.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		// Transaction markers take offsets; they are needed to see that an end was reached.
		kgo.KeepControlRecords(),
		// A broker that cannot read now is asked again, and the person who waits is told why.
		kgo.KeepRetryableFetchErrors(),
	}
}

// copyRecords writes what is in the spans until every one is done, the limit is reached, or ctx
// ends, which is how a person stops a consumer and no failure.
func copyRecords(ctx context.Context, cl *kgo.Client, spans map[partitionID]*span, o consumeOptions, out *bufio.Writer, notes *retryNotes) error {
	open := 0
	for _, s := range spans {
		if s.next < s.end {
			open++
		}
	}
	var line []byte
	written := int64(0)
	for open > 0 {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := fetchError(fetches, notes); err != nil {
			return err
		}
		for iter := fetches.RecordIter(); !iter.Done(); {
			r := iter.Next()
			s := spans[partitionID{r.Topic, r.Partition}]
			if s.next >= s.end {
				continue // beyond the end of a partition that is done
			}
			s.next = r.Offset + 1
			if s.next >= s.end {
				open--
			}
			if r.Attrs.IsControl() || r.Offset >= s.end || o.key != nil && (r.Key == nil || string(r.Key) != *o.key) {
				continue
			}
			var err error
			if line, err = o.appendLine(line[:0], r); err == nil {
				_, err = out.Write(line)
			}
			if err != nil {
				return fmt.Errorf("write record: %w", err)
			}
			if written++; written == o.most {
				return nil
			}
		}
		if err := out.Flush(); err != nil {
			return fmt.Errorf("write record: %w", err)
		}
	}
	return nil
}

func (o *consumeOptions) appendLine(dst []byte, r *kgo.Record) ([]byte, error) {
	if o.format == nil {
		return appendRecordJSON(dst, r)
	}
	return appendRecord(dst, o.format, r), nil
}

// fetchError joins the final errors of a poll into one line for each partition; those that the
// client tries again go to notes.
func fetchError(fetches kgo.Fetches, notes *retryNotes) error {
	var lines []string
	fetches.EachError(func(topic string, partition int32, err error) {
		switch {
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded): // of the poll itself
		case kerr.IsRetriable(err) || kgo.IsRetryableBrokerErr(err):
			notes.add(fmt.Sprintf("read %s/%d: %v", topic, partition, err))
		default:
			lines = append(lines, fmt.Sprintf("read %s/%d: %v", topic, partition, err))
		}
	})
	if len(lines) == 0 {
		return nil
	}
	return errors.New(strings.Join(lines, "\n"))
}

// retryEvery is how often a person is told that a read is being tried again.
const retryEvery = 10 * time.Second

// retryNotes tells about reads that are tried again, seldom enough to stay readable.
type retryNotes struct {
	out  io.Writer // nil: only remember
	last string
	at   time.Time
}

func (n *retryNotes) add(note string) {
	n.last = note
	if n.out == nil || time.Since(n.at) < retryEvery {
		return
	}
	n.at = time.Now()
	fmt.Fprintf(n.out, "varve: %s: trying again\n", note)
}
