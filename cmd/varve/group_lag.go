package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"varve/broker"
)

// Where the next record of a partition is read from.
const (
	readsHot     = "hot"     // local disk
	readsCold    = "cold"    // object store
	readsNothing = "end"     // all was read
	readsDeleted = "deleted" // retention has passed the committed offset
)

// lagRow is one partition that a group has an offset in or reads. -1 is what is not known.
type lagRow struct {
	id                             partitionID
	committed, end, records, bytes int64
	behind                         time.Duration // since the next record was written
	reads                          string
	member                         *groupMember
}

func (a *app) groupLagCommand() *cobra.Command {
	return &cobra.Command{
		Use: "lag GROUP", Short: "Show how far a group is behind in records, bytes and time, and who reads cold", Args: cobra.ExactArgs(1),
		Long: `Show how far a group is behind the end of each partition.

LAG counts offsets. BEHIND is how long ago the next record to read was written, found by reading that
record; it is zero at the end. BYTES comes from the sizes of segments, taken evenly inside one, and is
an estimate; it is left out when the brokers' admin API cannot be asked. READS says where the next
record is: hot (local disk), cold (object store), end (nothing left), or deleted (retention was faster
than the group).`,
		RunE: a.body(func(cmd *cobra.Command, args []string) error { return a.lag(cmd.Context(), args[0]) }),
	}
}

func (a *app) lag(ctx context.Context, group string) error {
	cl, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	view, err := describeGroup(ctx, cl, group)
	if err != nil {
		return err
	}
	rows, err := lagRows(ctx, cl, view)
	if err != nil {
		return err
	}
	next := map[partitionID]int64{}
	for _, r := range rows {
		if r.reads == readsHot || r.reads == readsCold {
			next[r.id] = r.committed
		}
	}
	times, err := a.recordTimes(ctx, next)
	if err != nil {
		return err
	}
	now := time.Now()
	for _, r := range rows {
		if ms, ok := times[r.id]; ok {
			r.behind = max(0, now.Sub(time.UnixMilli(ms)))
		} else if r.reads == readsNothing {
			r.behind = 0
		}
	}
	if err := addLagBytes(ctx, cl, rows); err != nil {
		fmt.Fprintf(a.stderr, "varve: bytes are left out: %s\n", oneLine(err))
		return a.printLag(view, rows, false)
	}
	return a.printLag(view, rows, true)
}

// lagRows lists committed and assigned partitions with what ListOffsets tells of them.
func lagRows(ctx context.Context, cl *kgo.Client, view *groupView) ([]*lagRow, error) {
	committed, err := committedOffsets(ctx, cl, view.name)
	if err != nil {
		return nil, err
	}
	owners := map[partitionID]*groupMember{}
	wanted := map[partitionID]bool{}
	for id := range committed {
		wanted[id] = true
	}
	for i := range view.members {
		for _, id := range view.members[i].assigned {
			owners[id], wanted[id] = &view.members[i], true
		}
	}
	metas, err := topicMeta(ctx, cl) // all: a topic that is gone must not be an error here
	if err != nil {
		return nil, err
	}
	var ids []partitionID
	for _, id := range partitionsOf(metas) {
		if wanted[id] {
			ids = append(ids, id)
		}
	}
	var bounds [3]map[partitionID]offsetAt
	for i, ts := range []int64{askEarliest, askEarliestLocal, askLatest} {
		if bounds[i], err = listOffsetsAt(ctx, cl, ids, ts); err != nil {
			return nil, err
		}
	}
	var rows []*lagRow
	for _, id := range slices.SortedFunc(slices.Values(ids), comparePartitions) {
		r := &lagRow{id: id, committed: -1, end: bounds[2][id].offset, records: -1, bytes: -1, behind: -1, member: owners[id]}
		if offset, ok := committed[id]; ok {
			r.committed, r.records = offset, max(0, r.end-offset)
			r.reads = whereNext(offset, bounds[0][id].offset, bounds[1][id].offset, r.end)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// whereNext says where a consumer at offset reads next in a partition [start, end) whose local log
// begins at local.
func whereNext(offset, start, local, end int64) string {
	switch {
	case offset >= end:
		return readsNothing
	case offset < start:
		return readsDeleted
	case offset < local:
		return readsCold
	}
	return readsHot
}

// recordTimes reads the first record at or after an offset of each partition and gives its time. One
// that does not come in time is left out.
func (a *app) recordTimes(ctx context.Context, next map[partitionID]int64) (map[partitionID]int64, error) {
	times := map[partitionID]int64{}
	if len(next) == 0 {
		return times, nil
	}
	spans := make(map[partitionID]*span, len(next))
	for id, offset := range next {
		spans[id] = &span{next: offset, end: offset + 1}
	}
	// One batch of each partition is enough; what is larger than this the broker sends alone.
	const enough = 16 << 10
	reader, err := a.connect(ctx, append(consumeOpts(spans), kgo.FetchMaxPartitionBytes(enough))...)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	timed, cancel := context.WithTimeout(ctx, 3*requestTimeout) // cold reads may wait for the store
	defer cancel()
	for len(times) < len(next) && timed.Err() == nil {
		fetches := reader.PollFetches(timed)
		if timed.Err() == nil {
			if err := fetchError(fetches, &retryNotes{}); err != nil {
				return nil, err
			}
		}
		done := map[string][]int32{}
		for iter := fetches.RecordIter(); !iter.Done(); {
			r := iter.Next()
			id := partitionID{r.Topic, r.Partition}
			if _, ok := times[id]; !ok {
				times[id] = r.Timestamp.UnixMilli()
				done[r.Topic] = append(done[r.Topic], r.Partition)
			}
		}
		reader.PauseFetchPartitions(done)
	}
	return times, ctx.Err()
}

// addLagBytes asks the admin APIs for the segments of each topic.
func addLagBytes(ctx context.Context, cl *kgo.Client, rows []*lagRow) error {
	topics := map[string]bool{}
	for _, r := range rows {
		topics[r.id.topic] = true
	}
	if len(topics) == 0 {
		return nil
	}
	nodes, err := adminNodes(ctx, cl)
	if err != nil {
		return err
	}
	segments := map[partitionID][]broker.TierSegment{}
	for topic := range maps.Keys(topics) {
		answers, err := askEach[broker.TierSegments](ctx, nodes, http.MethodGet, topicPath(topic)+"/segments")
		if err != nil {
			return err
		}
		for _, answer := range answers {
			for _, s := range answer.Segments {
				id := partitionID{topic, s.Partition}
				segments[id] = append(segments[id], s)
			}
		}
	}
	for _, r := range rows {
		if r.committed >= 0 {
			r.bytes = bytesBetween(segments[r.id], r.committed, r.end)
		}
	}
	return nil
}

// bytesBetween estimates the bytes of offsets [from, end): a part of a segment counts by its share of
// the segment's offsets, and what is in both tiers counts once.
func bytesBetween(segments []broker.TierSegment, from, end int64) int64 {
	slices.SortFunc(segments, func(x, y broker.TierSegment) int { return cmp.Compare(x.First, y.First) })
	sum := float64(0)
	for _, s := range segments {
		low, high := max(from, s.First), min(end, s.Next)
		if low >= high {
			continue
		}
		sum += float64(s.Bytes) * float64(high-low) / float64(s.Next-s.First)
		from = high
	}
	return int64(sum)
}
