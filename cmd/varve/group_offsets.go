package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// committedOffsets is every offset that a group has committed.
func committedOffsets(ctx context.Context, cl *kgo.Client, group string) (map[partitionID]int64, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = group // no topics: all of them
	raw, err := ask(ctx, cl, req)
	if err != nil {
		return nil, err
	}
	resp := raw.(*kmsg.OffsetFetchResponse)
	if err := codeError(resp.ErrorCode, nil); err != nil {
		return nil, fmt.Errorf("offsets of group %q: %w", group, err)
	}
	out := map[partitionID]int64{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := codeError(p.ErrorCode, nil); err != nil {
				return nil, fmt.Errorf("offset of group %q in %s/%d: %w", group, t.Topic, p.Partition, err)
			}
			if p.Offset >= 0 {
				out[partitionID{t.Topic, p.Partition}] = p.Offset
			}
		}
	}
	return out, nil
}

func (a *app) groupSeekCommand() *cobra.Command {
	var (
		to         string
		partitions []int32
		dry        bool
	)
	cmd := &cobra.Command{
		Use: "seek GROUP [TOPIC...]", Short: "Move the committed offsets of a group that has no members", Args: cobra.MinimumNArgs(1),
		Long: `Commit new offsets for a group in topics, or in all topics that it has offsets in. The group must
have no members: theirs would be overwritten by the next commit of a member. A group that does not
exist is made.

-o is start, end, N (an offset), -N (that many before the end), or @TIME (the first record at or
after); TIME is 2026-01-02T00:00Z, milliseconds since 1970, or -1h for an hour ago. Offsets outside
a partition move to its nearest end.`,
		Example: "  varve group seek billing -o @-1h --dry-run\n  varve group seek billing clicks -p 3 -o start",
	}
	flags := cmd.Flags()
	flags.StringVarP(&to, "offset", "o", "", "`OFFSET` to read from next: start, end, N, -N or @TIME")
	flags.Int32SliceVarP(&partitions, "partition", "p", nil, "only these partitions")
	flags.BoolVar(&dry, "dry-run", false, "only show what would change")
	if err := cmd.MarkFlagRequired("offset"); err != nil {
		panic(err) // the flag is defined above
	}
	cmd.RunE = a.body(func(cmd *cobra.Command, args []string) error {
		r, err := parseOffsets(to, time.Now())
		if err != nil || r.to.kind != pointNoBound {
			return usagef("-o %q is not one offset: write start, end, N, -N or @TIME", clip(to))
		}
		if partitions != nil && len(args) == 1 {
			return usagef("-p needs a topic: varve group seek GROUP TOPIC -p N")
		}
		return a.seek(cmd.Context(), args[0], consumeOptions{topics: args[1:], offsets: r, partitions: partitions}, dry)
	})
	return cmd
}

func (a *app) seek(ctx context.Context, group string, o consumeOptions, dry bool) error {
	cl, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	view, err := describeGroup(ctx, cl, group)
	if err != nil && !errors.Is(err, errNoGroup) {
		return err
	}
	if err == nil && len(view.members) > 0 {
		return groupInUse(group, len(view.members))
	}
	before, err := committedOffsets(ctx, cl, group)
	if err != nil {
		return err
	}
	ids, err := seekPartitions(ctx, cl, o, before)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return fmt.Errorf("group %q has no committed offsets; name the topics to seek in", group)
	}
	spans, err := resolveSpans(ctx, cl, ids, o)
	if err != nil {
		return err
	}
	failed := &failures{a: a}
	moved := map[partitionID]bool{}
	if !dry {
		if moved, err = commitAsAdmin(ctx, cl, group, ids, spans, failed); err != nil {
			return err
		}
	}
	out := newTable("TOPIC", ">PARTITION", ">FROM", ">TO", "STATUS")
	items := []map[string]any{}
	for _, id := range ids {
		status := "moved"
		if dry {
			status = "would move"
		} else if !moved[id] {
			continue
		}
		from, ok := before[id]
		if !ok {
			from = -1
		}
		out.add(id.topic, id.partition, numberOrDash(from), spans[id].next, status)
		items = append(items, map[string]any{"topic": id.topic, "partition": id.partition, "from": from, "to": spans[id].next, "status": status})
	}
	if err := a.printItems("group.seek", "partitions", out, items); err != nil {
		return err
	}
	return failed.err()
}

// seekPartitions is what the command line names, else those partitions with a committed offset whose
// topic is still there.
func seekPartitions(ctx context.Context, cl *kgo.Client, o consumeOptions, committed map[partitionID]int64) ([]partitionID, error) {
	if len(o.topics) > 0 {
		return selectPartitions(ctx, cl, o)
	}
	metas, err := topicMeta(ctx, cl)
	if err != nil {
		return nil, err
	}
	var ids []partitionID
	for _, id := range partitionsOf(metas) {
		if _, ok := committed[id]; ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func groupInUse(group string, members int) error {
	if members == 1 {
		return fmt.Errorf("group %q has a member; stop it first, then seek", group)
	}
	return fmt.Errorf("group %q has %d members; stop them first, then seek", group, members)
}

// commitAsAdmin commits without being a member, which a broker takes for a group without members only
// (generation -1), and gives the partitions that were committed.
func commitAsAdmin(ctx context.Context, cl *kgo.Client, group string, ids []partitionID, spans map[partitionID]*span, failed *failures) (map[partitionID]bool, error) {
	topicIDs, names, err := topicIDsOf(ctx, cl, ids)
	if err != nil {
		return nil, err
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	for _, id := range ids {
		if n := len(req.Topics); n == 0 || req.Topics[n-1].Topic != id.topic {
			t := kmsg.NewOffsetCommitRequestTopic()
			t.Topic, t.TopicID = id.topic, topicIDs[id.topic]
			req.Topics = append(req.Topics, t)
		}
		t := &req.Topics[len(req.Topics)-1]
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch = id.partition, spans[id].next, -1
		t.Partitions = append(t.Partitions, p)
	}
	raw, err := ask(ctx, cl, req)
	if err != nil {
		return nil, err
	}
	done := map[partitionID]bool{}
	for _, t := range raw.(*kmsg.OffsetCommitResponse).Topics {
		if t.Topic == "" {
			t.Topic = names[t.TopicID]
		}
		for _, p := range t.Partitions {
			switch p.ErrorCode {
			case 0:
				done[partitionID{t.Topic, p.Partition}] = true
			case kerr.UnknownMemberID.Code, kerr.IllegalGeneration.Code, kerr.RebalanceInProgress.Code, kerr.StaleMemberEpoch.Code:
				// Somebody joined after the group was described.
				failed.add("seek %s/%d: group %q has members now; stop them first", t.Topic, p.Partition, group)
			default:
				failed.add("seek %s/%d: %v", t.Topic, p.Partition, codeError(p.ErrorCode, nil))
			}
		}
	}
	return done, nil
}

// topicIDsOf gives the ids by which OffsetCommit names topics from version 10 on, both ways.
func topicIDsOf(ctx context.Context, cl *kgo.Client, ids []partitionID) (map[string][16]byte, map[[16]byte]string, error) {
	var topics []string
	for _, id := range ids {
		if !slices.Contains(topics, id.topic) {
			topics = append(topics, id.topic)
		}
	}
	metas, err := topicMeta(ctx, cl, topics...)
	if err != nil {
		return nil, nil, err
	}
	byName, byID := map[string][16]byte{}, map[[16]byte]string{}
	for _, m := range metas {
		byName[*m.Topic], byID[m.TopicID] = m.TopicID, *m.Topic
	}
	return byName, byID, nil
}
