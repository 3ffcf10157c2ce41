package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (a *app) topicAddPartitionsCommand() *cobra.Command {
	var (
		more, total int32
		dry         bool
	)
	cmd := &cobra.Command{
		Use: "add-partitions TOPIC...", Short: "Add partitions to topics", Args: cobra.MinimumNArgs(1),
		Long: `Add partitions to topics. Records that are there stay where they are, so a key may go to another
partition from then on.`,
		Example: "  varve topic add-partitions clicks -n 4\n  varve topic add-partitions clicks views --to 16",
	}
	flags := cmd.Flags()
	flags.Int32VarP(&more, "num", "n", 0, "how many to add to each topic")
	flags.Int32Var(&total, "to", 0, "how many each topic has then")
	flags.BoolVar(&dry, "dry-run", false, "only check")
	cmd.MarkFlagsMutuallyExclusive("num", "to")
	cmd.MarkFlagsOneRequired("num", "to")
	cmd.RunE = a.body(func(cmd *cobra.Command, names []string) error {
		if cmd.Flags().Changed("num") && more < 1 || cmd.Flags().Changed("to") && total < 1 {
			return usagef("the number of partitions must be at least 1")
		}
		cl, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer cl.Close()
		counts := map[int32][]string{total: names}
		if more > 0 {
			metas, err := topicMeta(cmd.Context(), cl, names...)
			if err != nil {
				return err
			}
			counts = map[int32][]string{}
			for _, m := range metas {
				n := int32(len(m.Partitions)) + more
				counts[n] = append(counts[n], *m.Topic)
			}
		}
		failed, changed := &failures{a: a}, map[string][]string{}
		for n, names := range counts {
			if err := addPartitions(cmd.Context(), cl, names, n, dry, failed, changed); err != nil {
				return err
			}
		}
		return a.printAltered(names, changed, dry, failed)
	})
	return cmd
}

func (a *app) topicTrimCommand() *cobra.Command {
	var (
		to         string
		partitions []int32
		dry, yes   bool
	)
	cmd := &cobra.Command{
		Use: "trim TOPIC", Short: "Delete the oldest records of a topic, on disk and in the store", Args: cobra.ExactArgs(1),
		Long: `Delete every record before an offset, in each partition. What is deleted cannot come back.
On a terminal it asks first; --yes does not.

-o is N (an offset), end, -N (that many before the end), or @TIME (the first record at or after);
TIME is 2026-01-02T00:00Z, milliseconds since 1970, or -7d for a week ago.`,
		Example: "  varve topic trim clicks -o @-30d\n  varve topic trim clicks -p 3 -o 1500000",
	}
	flags := cmd.Flags()
	flags.StringVarP(&to, "offset", "o", "", "first `OFFSET` to keep: N, end, -N or @TIME")
	flags.Int32SliceVarP(&partitions, "partition", "p", nil, "only these partitions")
	flags.BoolVar(&dry, "dry-run", false, "only show what would go")
	flags.BoolVarP(&yes, "yes", "y", false, "do not ask")
	if err := cmd.MarkFlagRequired("offset"); err != nil {
		panic(err) // the flag is defined above
	}
	cmd.RunE = a.body(func(cmd *cobra.Command, args []string) error {
		r, err := parseOffsets(to, time.Now())
		if err != nil || r.to.kind != pointNoBound {
			return usagef("-o %q is not one offset: write N, end, -N or @TIME", clip(to))
		}
		return a.trim(cmd.Context(), consumeOptions{topics: args, offsets: r, partitions: partitions}, dry, yes)
	})
	return cmd
}

func (a *app) trim(ctx context.Context, o consumeOptions, dry, yes bool) error {
	cl, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	ids, err := selectPartitions(ctx, cl, o)
	if err != nil {
		return err
	}
	start, err := listOffsetsAt(ctx, cl, ids, askEarliest)
	if err != nil {
		return err
	}
	keep, err := resolveSpans(ctx, cl, ids, o)
	if err != nil {
		return err
	}
	records := int64(0)
	for _, id := range ids {
		records += keep[id].next - start[id].offset
	}
	if !dry && !yes && !a.confirm(fmt.Sprintf("Delete %s records of %s for ever?", humanCount(records), o.topics[0])) {
		return fmt.Errorf("nothing deleted")
	}
	failed := &failures{a: a}
	low := map[partitionID]int64{}
	if !dry {
		if low, err = deleteRecords(ctx, cl, ids, keep, failed); err != nil {
			return err
		}
	}
	out := newTable("TOPIC", ">PARTITION", ">FROM", ">TO", ">OFFSETS", "STATUS")
	items := []map[string]any{}
	for _, id := range ids {
		status, to := "trimmed", low[id]
		if dry {
			status, to = "would go", keep[id].next
		} else if _, ok := low[id]; !ok {
			continue // failed
		}
		from := start[id].offset
		out.add(id.topic, id.partition, from, to, to-from, status)
		items = append(items, map[string]any{"topic": id.topic, "partition": id.partition, "from": from, "to": to, "status": status})
	}
	if err := a.printItems("topic.trim", "partitions", out, items); err != nil {
		return err
	}
	return failed.err()
}

// deleteRecords moves the start of each partition and gives the starts that stand then.
func deleteRecords(ctx context.Context, cl *kgo.Client, ids []partitionID, keep map[partitionID]*span, failed *failures) (map[partitionID]int64, error) {
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = int32(requestTimeout.Milliseconds())
	for _, id := range ids {
		if n := len(req.Topics); n == 0 || req.Topics[n-1].Topic != id.topic {
			t := kmsg.NewDeleteRecordsRequestTopic()
			t.Topic = id.topic
			req.Topics = append(req.Topics, t)
		}
		t := &req.Topics[len(req.Topics)-1]
		t.Partitions = append(t.Partitions, kmsg.DeleteRecordsRequestTopicPartition{Partition: id.partition, Offset: keep[id].next})
	}
	low := map[partitionID]int64{}
	for _, shard := range cl.RequestSharded(ctx, req) { // each leader trims its own
		if shard.Err != nil {
			return nil, fmt.Errorf("DeleteRecords: %w", shard.Err)
		}
		for _, t := range shard.Resp.(*kmsg.DeleteRecordsResponse).Topics {
			for _, p := range t.Partitions {
				if p.ErrorCode != 0 {
					failed.add("trim %s/%d: %v", t.Topic, p.Partition, codeError(p.ErrorCode, nil))
					continue
				}
				low[partitionID{t.Topic, p.Partition}] = p.LowWatermark
			}
		}
	}
	return low, nil
}
