package main

import (
	"bufio"
	"context"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kgo"
)

// consumeGroup reads as a member of a group. A record is committed after it was written out, so a
// consumer that dies repeats some and skips none.
func (a *app) consumeGroup(ctx context.Context, o *consumeOptions) error {
	reset, err := o.resetOffset()
	if err != nil {
		return err
	}
	cl, err := a.connect(ctx)
	if err != nil {
		return err
	}
	_, err = topicMeta(ctx, cl, o.topics...) // a wrong name would wait for ever
	cl.Close()
	if err != nil {
		return err
	}
	reader, err := a.connect(ctx, kgo.ConsumerGroup(o.group), kgo.ConsumeTopics(o.topics...), kgo.ConsumeResetOffset(reset),
		o.isolation(), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(), kgo.KeepRetryableFetchErrors())
	if err != nil {
		return err
	}
	defer reader.CloseAllowingRebalance()
	out := bufio.NewWriterSize(a.stdout, 64<<10)
	notes := &retryNotes{out: a.stderr}
	for written := int64(0); o.most == 0 || written < o.most; {
		// No more than is asked for: what is polled and not written belongs to the next run.
		most := int64(math.MaxInt32)
		if o.most > 0 {
			most = min(most, o.most-written)
		}
		fetches := reader.PollRecords(ctx, int(most))
		if ctx.Err() != nil {
			return nil // a person stops it; all that was written is committed
		}
		if err := fetchError(fetches, notes); err != nil {
			return err
		}
		n, err := o.writeAll(fetches, out)
		if err != nil {
			return fmt.Errorf("write record: %w", err)
		}
		written += n
		// Also after an interrupt: what was written must not come again.
		if err := commitRead(context.WithoutCancel(ctx), reader, fetches.Records()); err != nil {
			return fmt.Errorf("commit offsets of group %q: %w", o.group, err)
		}
		reader.AllowRebalance()
	}
	return nil
}

func commitRead(ctx context.Context, cl *kgo.Client, records []*kgo.Record) error {
	if len(records) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return cl.CommitRecords(ctx, records...)
}

func (o *consumeOptions) writeAll(fetches kgo.Fetches, out *bufio.Writer) (written int64, err error) {
	var line []byte
	for iter := fetches.RecordIter(); !iter.Done(); {
		r := iter.Next()
		if o.key != nil && (r.Key == nil || string(r.Key) != *o.key) {
			continue
		}
		if line, err = o.appendLine(line[:0], r); err != nil {
			return written, err
		}
		if _, err = out.Write(line); err != nil {
			return written, err
		}
		written++
	}
	return written, out.Flush()
}

// resetOffset is where a member begins in a partition that the group has no offset of.
func (o *consumeOptions) resetOffset() (kgo.Offset, error) {
	from := o.offsets.from
	switch {
	case o.partitions != nil:
		return kgo.Offset{}, usagef("--group shares partitions among its members; -p cannot choose them")
	case o.exitAtEnd:
		return kgo.Offset{}, usagef("--group has no end of its own partitions to stop at; use -n instead of -e")
	case o.offsets.to.kind != pointNoBound:
		return kgo.Offset{}, usagef("--group goes on from its committed offsets; -o cannot name a range")
	}
	switch from.kind {
	case pointStart:
		return kgo.NewOffset().AtStart(), nil
	case pointOffset:
		return kgo.NewOffset().At(from.value), nil
	case pointFromEnd:
		return kgo.NewOffset().AtEnd().Relative(-from.value), nil
	case pointTime:
		return kgo.NewOffset().AfterMilli(from.value), nil
	case pointEnd, pointNoBound:
	}
	return kgo.NewOffset().AtEnd(), nil
}
