package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (a *app) groupDeleteCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete GROUP...", Aliases: []string{"rm"}, Short: "Delete groups that have no members, with their offsets", Args: cobra.MinimumNArgs(1),
		Long: "Delete groups with their committed offsets. A group with members is refused.\nOn a terminal it asks first; --yes does not.",
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.RunE = a.body(func(cmd *cobra.Command, names []string) error {
		if !yes && !a.confirm("Delete "+strings.Join(names, ", ")+" with all committed offsets?") {
			return fmt.Errorf("nothing deleted")
		}
		cl, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer cl.Close()
		req := kmsg.NewPtrDeleteGroupsRequest()
		req.Groups = names
		raw, err := ask(cmd.Context(), cl, req)
		if err != nil {
			return err
		}
		failed := &failures{a: a}
		out := newTable("GROUP", "STATUS")
		items := []map[string]any{}
		for _, g := range raw.(*kmsg.DeleteGroupsResponse).Groups {
			if g.ErrorCode != 0 {
				failed.add("delete group %q: %v", g.Group, codeError(g.ErrorCode, g.ErrorMessage))
				continue
			}
			out.add(g.Group, "deleted")
			items = append(items, map[string]any{"group": g.Group, "status": "deleted"})
		}
		if err := a.printItems("group.delete", "groups", out, items); err != nil {
			return err
		}
		return failed.err()
	})
	return cmd
}

func (a *app) groupOffsetDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "offset-delete GROUP TOPIC[/P]...", Short: "Delete the committed offsets of a group in topics that it does not read", Args: cobra.MinimumNArgs(2),
		RunE: a.body(func(cmd *cobra.Command, args []string) error {
			want := map[partitionID]bool{}
			for _, arg := range args[1:] {
				topic, partition, err := parseTopicPartition(arg)
				if err != nil {
					return err
				}
				want[partitionID{topic, partition}] = true
			}
			return a.deleteOffsets(cmd.Context(), args[0], want)
		}),
	}
}

// deleteOffsets deletes those committed offsets that want names; partition -1 names all of a topic.
func (a *app) deleteOffsets(ctx context.Context, group string, want map[partitionID]bool) error {
	cl, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	committed, err := committedOffsets(ctx, cl, group)
	if err != nil {
		return err
	}
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = group
	for _, id := range slices.SortedFunc(maps.Keys(committed), comparePartitions) {
		if !want[id] && !want[partitionID{id.topic, -1}] {
			continue
		}
		if n := len(req.Topics); n == 0 || req.Topics[n-1].Topic != id.topic {
			t := kmsg.NewOffsetDeleteRequestTopic()
			t.Topic = id.topic
			req.Topics = append(req.Topics, t)
		}
		t := &req.Topics[len(req.Topics)-1]
		t.Partitions = append(t.Partitions, kmsg.OffsetDeleteRequestTopicPartition{Partition: id.partition})
	}
	if len(req.Topics) == 0 {
		return fmt.Errorf("group %q has no committed offset there", group)
	}
	raw, err := ask(ctx, cl, req)
	if err != nil {
		return err
	}
	resp := raw.(*kmsg.OffsetDeleteResponse)
	if err := codeError(resp.ErrorCode, nil); err != nil {
		return fmt.Errorf("delete offsets of group %q: %w", group, err)
	}
	failed := &failures{a: a}
	out := newTable("TOPIC", ">PARTITION", ">OFFSET", "STATUS")
	items := []map[string]any{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			offset := committed[partitionID{t.Topic, p.Partition}]
			if p.ErrorCode != 0 {
				failed.add("delete offset of %s/%d: %v", t.Topic, p.Partition, codeError(p.ErrorCode, nil))
				continue
			}
			out.add(t.Topic, p.Partition, offset, "deleted")
			items = append(items, map[string]any{"topic": t.Topic, "partition": p.Partition, "offset": offset, "status": "deleted"})
		}
	}
	if err := a.printItems("group.offset-delete", "partitions", out, items); err != nil {
		return err
	}
	return failed.err()
}
