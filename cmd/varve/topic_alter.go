package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (a *app) topicAlterCommand() *cobra.Command {
	var (
		sets, unset []string
		partitions  int32
		tiered, dry bool
	)
	cmd := &cobra.Command{
		Use: "alter TOPIC...", Short: "Change the configuration of topics or add partitions", Args: cobra.MinimumNArgs(1),
		Example: "  varve topic alter clicks -c retention.ms=730d\n  varve topic alter clicks --unset retention.ms\n  varve topic alter clicks -p 16",
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&sets, "config", "c", nil, "set `KEY=VALUE`; sizes as 4MiB, durations as 24h")
	flags.StringArrayVar(&unset, "unset", nil, "return `KEY` to its default")
	flags.Int32VarP(&partitions, "partitions", "p", 0, "raise the number of partitions to this")
	flags.BoolVar(&tiered, "tiered", false, "keep the long tail in the object store ("+keyTiered+"=true)")
	flags.BoolVar(&dry, "dry-run", false, "only check")
	cmd.RunE = a.body(func(cmd *cobra.Command, names []string) error {
		configs, err := parseTopicConfigs(sets, tiered)
		if err != nil {
			return err
		}
		if len(configs)+len(unset) == 0 && !cmd.Flags().Changed("partitions") {
			return usagef("nothing to change: give -c KEY=VALUE, --unset KEY, --tiered or -p N")
		}
		cl, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer cl.Close()
		failed := &failures{a: a}
		changed := map[string][]string{}
		if len(configs)+len(unset) > 0 {
			if err := alterConfigs(cmd.Context(), cl, alterRequest(names, configs, unset, dry), failed, changed); err != nil {
				return err
			}
		}
		if cmd.Flags().Changed("partitions") {
			if err := addPartitions(cmd.Context(), cl, names, partitions, dry, failed, changed); err != nil {
				return err
			}
		}
		return a.printAltered(names, changed, dry, failed)
	})
	return cmd
}

func alterRequest(names []string, configs [][2]string, unset []string, dry bool) *kmsg.IncrementalAlterConfigsRequest {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.ValidateOnly = dry
	for _, name := range names {
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, name
		for _, kv := range configs {
			c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			c.Name, c.Op, c.Value = kv[0], kmsg.IncrementalAlterConfigOpSet, kmsg.StringPtr(kv[1])
			r.Configs = append(r.Configs, c)
		}
		for _, key := range unset {
			c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			c.Name, c.Op = key, kmsg.IncrementalAlterConfigOpDelete
			r.Configs = append(r.Configs, c)
		}
		req.Resources = append(req.Resources, r)
	}
	return req
}

func alterConfigs(ctx context.Context, cl *kgo.Client, req *kmsg.IncrementalAlterConfigsRequest, failed *failures, changed map[string][]string) error {
	raw, err := ask(ctx, cl, req)
	if err != nil {
		return err
	}
	for _, r := range raw.(*kmsg.IncrementalAlterConfigsResponse).Resources {
		if r.ErrorCode != 0 {
			failed.add("alter topic %q: %v", r.ResourceName, codeError(r.ErrorCode, r.ErrorMessage))
			continue
		}
		for _, c := range req.Resources[0].Configs {
			change := c.Name + " unset"
			if c.Value != nil {
				change = c.Name + "=" + *c.Value
			}
			changed[r.ResourceName] = append(changed[r.ResourceName], change)
		}
	}
	return nil
}

func addPartitions(ctx context.Context, cl *kgo.Client, names []string, count int32, dry bool, failed *failures, changed map[string][]string) error {
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.ValidateOnly = dry
	req.TimeoutMillis = int32(requestTimeout.Milliseconds())
	for _, name := range names {
		t := kmsg.NewCreatePartitionsRequestTopic()
		t.Topic, t.Count = name, count
		req.Topics = append(req.Topics, t)
	}
	raw, err := ask(ctx, cl, req)
	if err != nil {
		return err
	}
	for _, t := range raw.(*kmsg.CreatePartitionsResponse).Topics {
		if t.ErrorCode != 0 {
			failed.add("add partitions to %q: %v", t.Topic, codeError(t.ErrorCode, t.ErrorMessage))
			continue
		}
		changed[t.Topic] = append(changed[t.Topic], fmt.Sprintf("partitions=%d", count))
	}
	return nil
}

func (a *app) printAltered(names []string, changed map[string][]string, dry bool, failed *failures) error {
	status := "changed"
	if dry {
		status = "valid"
	}
	out := newTable("TOPIC", "STATUS", "CHANGE")
	items := []map[string]any{}
	for _, name := range names {
		if len(changed[name]) == 0 {
			continue
		}
		out.add(name, status, strings.Join(changed[name], " "))
		items = append(items, map[string]any{"topic": name, "status": status, "changes": changed[name]})
	}
	if err := a.printItems("topic.alter", "topics", out, items); err != nil {
		return err
	}
	return failed.err()
}
