package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/term"
)

func (a *app) topicCommand() *cobra.Command {
	return a.noun("topic", "Create, list, describe, alter, trim and delete topics",
		append(a.withTopics(a.topicDescribeCommand(), a.topicAlterCommand(), a.topicDeleteCommand(), a.topicAddPartitionsCommand(), a.topicTrimCommand()), a.topicCreateCommand(), a.topicListCommand())...)
}

// failures prints one line for each item that failed and ends the command with code 1 if any did.
type failures struct {
	a *app
	n int
}

func (f *failures) add(format string, args ...any) {
	f.n++
	fmt.Fprintf(f.a.stderr, "varve: %s\n", fmt.Sprintf(format, args...))
}

func (f *failures) err() error {
	if f.n > 0 {
		return errSilent
	}
	return nil
}

func (a *app) topicCreateCommand() *cobra.Command {
	var (
		partitions          int32
		replicas            int16
		sets                []string
		tiered, dry, ifNone bool
	)
	cmd := &cobra.Command{
		Use: "create TOPIC...", Short: "Create topics", Args: cobra.MinimumNArgs(1),
		Example: "  varve topic create clicks -p 8 --tiered -c retention.ms=365d -c local.retention.ms=1d",
	}
	flags := cmd.Flags()
	flags.Int32VarP(&partitions, "partitions", "p", -1, "number of partitions; -1 is the broker's num.partitions")
	flags.Int16VarP(&replicas, "replicas", "r", -1, "replicas of each partition; -1 is the broker's default.replication.factor")
	flags.StringArrayVarP(&sets, "config", "c", nil, "topic configuration `KEY=VALUE`; sizes as 4MiB, durations as 24h")
	flags.BoolVar(&tiered, "tiered", false, "keep the long tail in the object store ("+keyTiered+"=true)")
	flags.BoolVar(&dry, "dry-run", false, "only check")
	flags.BoolVar(&ifNone, "if-not-exists", false, "a topic that exists is no failure")
	cmd.RunE = a.body(func(cmd *cobra.Command, names []string) error {
		configs, err := parseTopicConfigs(sets, tiered)
		if err != nil {
			return err
		}
		return a.createTopics(cmd.Context(), newTopics(names, partitions, replicas, configs, dry), ifNone)
	})
	return cmd
}

func newTopics(names []string, partitions int32, replicas int16, configs [][2]string, dry bool) *kmsg.CreateTopicsRequest {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.ValidateOnly = dry
	req.TimeoutMillis = int32(requestTimeout.Milliseconds())
	for _, name := range names {
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, replicas
		for _, kv := range configs {
			c := kmsg.NewCreateTopicsRequestTopicConfig()
			c.Name, c.Value = kv[0], kmsg.StringPtr(kv[1])
			t.Configs = append(t.Configs, c)
		}
		req.Topics = append(req.Topics, t)
	}
	return req
}

func (a *app) createTopics(ctx context.Context, req *kmsg.CreateTopicsRequest, ifNone bool) error {
	cl, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	raw, err := ask(ctx, cl, req)
	if err != nil {
		return err
	}
	failed := &failures{a: a}
	out := newTable("TOPIC", ">PARTITIONS", ">REPLICAS", "STATUS")
	items := []map[string]any{}
	for _, t := range raw.(*kmsg.CreateTopicsResponse).Topics {
		status := "created"
		switch {
		case t.ErrorCode == kerr.TopicAlreadyExists.Code && ifNone:
			status = "exists"
		case t.ErrorCode != 0:
			failed.add("create topic %q: %v", t.Topic, codeError(t.ErrorCode, t.ErrorMessage))
			continue
		case req.ValidateOnly:
			status = "valid"
		}
		out.add(t.Topic, numberOrDash(int64(t.NumPartitions)), numberOrDash(int64(t.ReplicationFactor)), status)
		items = append(items, map[string]any{"topic": t.Topic, "partitions": t.NumPartitions, "replicas": t.ReplicationFactor, "status": status})
	}
	if err := a.printItems("topic.create", "topics", out, items); err != nil {
		return err
	}
	return failed.err()
}

func numberOrDash(n int64) string {
	if n < 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

// printItems prints a list in the chosen format; an empty table prints nothing.
func (a *app) printItems(kind, field string, out *table, items []map[string]any) error {
	if a.format == formatJSON {
		return a.printJSON(kind, map[string]any{field: items})
	}
	if len(out.rows) == 0 {
		return nil
	}
	return out.write(a.stdout)
}

func (a *app) topicListCommand() *cobra.Command {
	var internal bool
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List topics", Args: cobra.NoArgs}
	cmd.Flags().BoolVar(&internal, "internal", false, "internal topics too")
	cmd.RunE = a.body(func(cmd *cobra.Command, _ []string) error {
		cl, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer cl.Close()
		return a.listTopics(cmd.Context(), cl, internal)
	})
	return cmd
}

func (a *app) listTopics(ctx context.Context, cl *kgo.Client, internal bool) error {
	all, err := topicMeta(ctx, cl)
	if err != nil {
		return err
	}
	var names []string
	for _, t := range all {
		names = append(names, *t.Topic)
	}
	configs := map[string][]kmsg.DescribeConfigsResponseResourceConfig{}
	if len(names) > 0 {
		if configs, err = describeConfigsOf(ctx, cl, kmsg.ConfigResourceTypeTopic, names, keyTiered); err != nil {
			return err
		}
	}
	out := newTable("TOPIC", ">PARTITIONS", ">REPLICAS", "TIERED")
	items := []map[string]any{}
	for _, t := range all {
		if t.IsInternal && !internal {
			continue
		}
		tiered := configValue(configs[*t.Topic], keyTiered) == "true"
		out.add(*t.Topic, len(t.Partitions), replicaCount(t), yesNo(tiered))
		items = append(items, map[string]any{
			"topic": *t.Topic, "partitions": len(t.Partitions), "replicas": replicaCount(t), "tiered": tiered, "internal": t.IsInternal,
		})
	}
	if len(items) == 0 && a.format == formatTable {
		fmt.Fprintln(a.stderr, "no topics; varve topic create NAME makes one")
	}
	return a.printItems("topic.list", "topics", out, items)
}

func configValue(configs []kmsg.DescribeConfigsResponseResourceConfig, name string) string {
	for _, c := range configs {
		if c.Name == name && c.Value != nil {
			return *c.Value
		}
	}
	return ""
}

func replicaCount(t kmsg.MetadataResponseTopic) int {
	if len(t.Partitions) == 0 {
		return 0
	}
	return len(t.Partitions[0].Replicas)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (a *app) topicDeleteCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete TOPIC...", Aliases: []string{"rm"}, Short: "Delete topics, their local data and their objects in the store", Args: cobra.MinimumNArgs(1),
		Long: "Delete topics with all their records, on local disk and in the object store.\nOn a terminal it asks first; --yes does not.",
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.RunE = a.body(func(cmd *cobra.Command, names []string) error {
		if !yes && !a.confirm("Delete "+strings.Join(names, ", ")+" with all records, on disk and in the store?") {
			return fmt.Errorf("nothing deleted")
		}
		return a.deleteTopics(cmd.Context(), names)
	})
	return cmd
}

// confirm asks on a terminal; a script has said what it wants by calling the command.
func (a *app) confirm(question string) bool {
	in, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return true
	}
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(in).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

func (a *app) deleteTopics(ctx context.Context, names []string) error {
	cl, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis = int32(requestTimeout.Milliseconds())
	for _, name := range names {
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
		req.TopicNames = append(req.TopicNames, name)
	}
	raw, err := ask(ctx, cl, req)
	if err != nil {
		return err
	}
	failed := &failures{a: a}
	out := newTable("TOPIC", "STATUS")
	items := []map[string]any{}
	for _, t := range raw.(*kmsg.DeleteTopicsResponse).Topics {
		name := ""
		if t.Topic != nil {
			name = *t.Topic
		}
		if t.ErrorCode != 0 {
			failed.add("delete topic %q: %v", name, codeError(t.ErrorCode, t.ErrorMessage))
			continue
		}
		out.add(name, "deleted")
		items = append(items, map[string]any{"topic": name, "status": "deleted"})
	}
	if err := a.printItems("topic.delete", "topics", out, items); err != nil {
		return err
	}
	return failed.err()
}
