package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (a *app) groupCommand() *cobra.Command {
	cmds := []*cobra.Command{a.groupDescribeCommand(), a.groupLagCommand(), a.groupSeekCommand(), a.groupDeleteCommand(), a.groupOffsetDeleteCommand()}
	for _, cmd := range cmds {
		cmd.ValidArgsFunction = a.completeGroups
	}
	return a.noun("group", "List and describe consumer groups, show their lag, move and delete their offsets", append(cmds, a.groupListCommand())...)
}

func (a *app) groupListCommand() *cobra.Command {
	var states []string
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List consumer groups", Args: cobra.NoArgs}
	cmd.Flags().StringSliceVar(&states, "state", nil, "only groups in these states: Empty, Stable, ...")
	cmd.RunE = a.body(func(cmd *cobra.Command, _ []string) error {
		cl, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer cl.Close()
		groups, err := listGroups(cmd.Context(), cl, states)
		if err != nil {
			return err
		}
		out := newTable("GROUP", "TYPE", "STATE", "PROTOCOL")
		items := []map[string]any{}
		for _, g := range groups {
			out.add(g.Group, dash(g.GroupType), dash(g.GroupState), dash(g.ProtocolType))
			items = append(items, map[string]any{"group": g.Group, "type": g.GroupType, "state": g.GroupState, "protocol_type": g.ProtocolType})
		}
		if len(items) == 0 {
			fmt.Fprintln(a.stderr, "no groups")
		}
		return a.printItems("group.list", "groups", out, items)
	})
	return cmd
}

func listGroups(ctx context.Context, cl *kgo.Client, states []string) ([]kmsg.ListGroupsResponseGroup, error) {
	req := kmsg.NewPtrListGroupsRequest()
	req.StatesFilter = states
	raw, err := ask(ctx, cl, req) // kgo asks every broker and joins the answers
	if err != nil {
		return nil, err
	}
	resp := raw.(*kmsg.ListGroupsResponse)
	if err := codeError(resp.ErrorCode, nil); err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	slices.SortFunc(resp.Groups, func(x, y kmsg.ListGroupsResponseGroup) int { return strings.Compare(x.Group, y.Group) })
	return resp.Groups, nil
}

// groupView is a group of either protocol.
type groupView struct {
	name, kind, state, protocol string
	members                     []groupMember
}

type groupMember struct {
	id, instance, client, host string
	assigned                   []partitionID
}

// name is the shortest text that a person knows a member by.
func (m *groupMember) name() string {
	if m.instance != "" {
		return m.instance
	}
	return m.id
}

// errNoGroup is a group that no coordinator knows.
var errNoGroup = errors.New("no such group")

// describeGroup asks by the classic protocol's request first: a broker that serves no other does not
// know the second one.
func describeGroup(ctx context.Context, cl *kgo.Client, name string) (*groupView, error) {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{name}
	raw, err := ask(ctx, cl, req)
	if err != nil {
		return nil, err
	}
	groups := raw.(*kmsg.DescribeGroupsResponse).Groups
	if len(groups) != 1 {
		return nil, fmt.Errorf("describe group %q: the answer holds %d groups", name, len(groups))
	}
	g := groups[0]
	if g.ErrorCode == kerr.GroupIDNotFound.Code || g.ErrorCode == 0 && g.State == "Dead" {
		return describeNewGroup(ctx, cl, name)
	}
	if err := codeError(g.ErrorCode, g.ErrorMessage); err != nil {
		return nil, fmt.Errorf("describe group %q: %w", name, err)
	}
	view := &groupView{name: name, kind: "classic", state: g.State, protocol: g.Protocol}
	for _, m := range g.Members {
		member := groupMember{id: m.MemberID, client: m.ClientID, host: m.ClientHost}
		if m.InstanceID != nil {
			member.instance = *m.InstanceID
		}
		var assignment kmsg.ConsumerMemberAssignment
		if g.ProtocolType == "consumer" && assignment.ReadFrom(m.MemberAssignment) == nil {
			for _, t := range assignment.Topics {
				for _, p := range t.Partitions {
					member.assigned = append(member.assigned, partitionID{t.Topic, p})
				}
			}
		}
		view.members = append(view.members, member)
	}
	return view.sorted(), nil
}

// describeNewGroup asks for a group of the KIP-848 protocol.
func describeNewGroup(ctx context.Context, cl *kgo.Client, name string) (*groupView, error) {
	req := kmsg.NewPtrConsumerGroupDescribeRequest()
	req.Groups = []string{name}
	raw, err := ask(ctx, cl, req)
	if err != nil { // a broker without that protocol
		return nil, fmt.Errorf("group %q: %w", name, errNoGroup)
	}
	groups := raw.(*kmsg.ConsumerGroupDescribeResponse).Groups
	if len(groups) != 1 || groups[0].ErrorCode == kerr.GroupIDNotFound.Code {
		return nil, fmt.Errorf("group %q: %w", name, errNoGroup)
	}
	g := groups[0]
	if err := codeError(g.ErrorCode, g.ErrorMessage); err != nil {
		return nil, fmt.Errorf("describe group %q: %w", name, err)
	}
	view := &groupView{name: name, kind: "consumer", state: g.State, protocol: g.AssignorName}
	for _, m := range g.Members {
		member := groupMember{id: m.MemberID, client: m.ClientID, host: m.ClientHost}
		if m.InstanceID != nil {
			member.instance = *m.InstanceID
		}
		for _, t := range m.Assignment.TopicPartitions {
			for _, p := range t.Partitions {
				member.assigned = append(member.assigned, partitionID{t.Topic, p})
			}
		}
		view.members = append(view.members, member)
	}
	return view.sorted(), nil
}

func (g *groupView) sorted() *groupView {
	slices.SortFunc(g.members, func(x, y groupMember) int { return strings.Compare(x.id, y.id) })
	for i := range g.members {
		slices.SortFunc(g.members[i].assigned, comparePartitions)
	}
	return g
}

func comparePartitions(x, y partitionID) int {
	if c := strings.Compare(x.topic, y.topic); c != 0 {
		return c
	}
	return int(x.partition) - int(y.partition)
}

func (a *app) groupDescribeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "describe GROUP...", Short: "Show the state, members and assignments of groups", Args: cobra.MinimumNArgs(1),
		RunE: a.body(func(cmd *cobra.Command, names []string) error {
			cl, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			var views []*groupView
			for _, name := range names {
				view, err := describeGroup(cmd.Context(), cl, name)
				if err != nil {
					return err
				}
				views = append(views, view)
			}
			return a.printGroups(views)
		}),
	}
}

func (a *app) printGroups(views []*groupView) error {
	items := []map[string]any{}
	for i, v := range views {
		if a.format == formatJSON {
			items = append(items, v.json())
			continue
		}
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		if err := pairs(a.stdout, "group", v.name, "type", v.kind, "state", v.state, "assignor", dash(v.protocol), "members", len(v.members)); err != nil {
			return err
		}
		if len(v.members) == 0 {
			continue
		}
		fmt.Fprintln(a.stdout)
		out := newTable("MEMBER", "INSTANCE", "CLIENT", "HOST", "ASSIGNED")
		for _, m := range v.members {
			out.add(m.id, dash(m.instance), dash(m.client), dash(m.host), dash(assignedText(m.assigned)))
		}
		if err := out.write(a.stdout); err != nil {
			return err
		}
	}
	if a.format == formatJSON {
		return a.printJSON("group.describe", map[string]any{"groups": items})
	}
	return nil
}

// assignedText is "clicks:0,1 views:3"; ids are in order of topic and partition.
func assignedText(ids []partitionID) string {
	var b strings.Builder
	for i, id := range ids {
		switch {
		case i > 0 && ids[i-1].topic == id.topic:
			fmt.Fprintf(&b, ",%d", id.partition)
		case i > 0:
			fmt.Fprintf(&b, " %s:%d", id.topic, id.partition)
		default:
			fmt.Fprintf(&b, "%s:%d", id.topic, id.partition)
		}
	}
	return b.String()
}

func (g *groupView) json() map[string]any {
	members := []map[string]any{}
	for _, m := range g.members {
		assigned := []map[string]any{}
		for _, id := range m.assigned {
			assigned = append(assigned, map[string]any{"topic": id.topic, "partition": id.partition})
		}
		members = append(members, map[string]any{"member": m.id, "instance": m.instance, "client": m.client, "host": m.host, "assigned": assigned})
	}
	return map[string]any{"group": g.name, "type": g.kind, "state": g.state, "assignor": g.protocol, "members": members}
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
