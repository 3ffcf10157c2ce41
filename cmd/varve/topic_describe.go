package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (a *app) topicDescribeCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{Use: "describe TOPIC...", Short: "Show partitions, offsets and configuration of topics", Args: cobra.MinimumNArgs(1)}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "configuration keys at their defaults too")
	cmd.RunE = a.body(func(cmd *cobra.Command, names []string) error {
		cl, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer cl.Close()
		topics, err := describeTopics(cmd.Context(), cl, names)
		if err != nil {
			return err
		}
		return a.printTopics(topics, all)
	})
	return cmd
}

// topicView is everything that `topic describe` shows of a topic.
type topicView struct {
	meta    kmsg.MetadataResponseTopic
	configs []kmsg.DescribeConfigsResponseResourceConfig
	start   map[partitionID]offsetAt
	end     map[partitionID]offsetAt
}

func describeTopics(ctx context.Context, cl *kgo.Client, names []string) ([]topicView, error) {
	metas, err := topicMeta(ctx, cl, names...)
	if err != nil {
		return nil, err
	}
	configs, err := describeConfigsOf(ctx, cl, kmsg.ConfigResourceTypeTopic, names)
	if err != nil {
		return nil, err
	}
	ids := partitionsOf(metas)
	start, err := listOffsetsAt(ctx, cl, ids, askEarliest)
	if err != nil {
		return nil, err
	}
	end, err := listOffsetsAt(ctx, cl, ids, askLatest)
	if err != nil {
		return nil, err
	}
	var views []topicView
	for _, m := range metas {
		views = append(views, topicView{m, configs[*m.Topic], start, end})
	}
	return views, nil
}

// partitionsOf lists every partition of the topics.
func partitionsOf(metas []kmsg.MetadataResponseTopic) []partitionID {
	var ids []partitionID
	for _, m := range metas {
		for _, p := range m.Partitions {
			ids = append(ids, partitionID{*m.Topic, p.Partition})
		}
	}
	return ids
}

func topicIDText(id [16]byte) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func (a *app) printTopics(topics []topicView, all bool) error {
	if a.format == formatJSON {
		items := []map[string]any{}
		for _, t := range topics {
			items = append(items, t.json(all))
		}
		return a.printJSON("topic.describe", map[string]any{"topics": items})
	}
	for i, t := range topics {
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		if err := a.printTopic(t, all); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printTopic(t topicView, all bool) error {
	err := pairs(a.stdout, "topic", *t.meta.Topic, "id", topicIDText(t.meta.TopicID), "partitions", len(t.meta.Partitions),
		"replicas", replicaCount(t.meta), "tiered", yesNo(configValue(t.configs, keyTiered) == "true"))
	if err != nil {
		return err
	}
	fmt.Fprintln(a.stdout)
	out := newTable(">PARTITION", ">LEADER", ">EPOCH", "REPLICAS", "IN SYNC", ">LOG START", ">HIGH WATERMARK", ">OFFSETS")
	for _, p := range t.meta.Partitions {
		id := partitionID{*t.meta.Topic, p.Partition}
		start, end := t.start[id].offset, t.end[id].offset
		out.add(p.Partition, p.Leader, p.LeaderEpoch, idList(p.Replicas), idList(p.ISR), start, end, end-start)
	}
	if err := out.write(a.stdout); err != nil {
		return err
	}
	config := newTable("CONFIG", "VALUE", "SET BY")
	for _, c := range t.configs {
		if value, source := configText(c); all || source != "default" {
			config.add(c.Name, humanValue(c.Name, value), source)
		}
	}
	if len(config.rows) == 0 {
		return nil
	}
	fmt.Fprintln(a.stdout)
	return config.write(a.stdout)
}

// configText is a value as text and in a word what set it.
func configText(c kmsg.DescribeConfigsResponseResourceConfig) (value, source string) {
	switch {
	case c.IsSensitive:
		value = "(hidden)"
	case c.Value != nil:
		value = *c.Value
	}
	switch c.Source {
	case kmsg.ConfigSourceDynamicTopicConfig:
		source = "topic"
	case kmsg.ConfigSourceDynamicBrokerConfig, kmsg.ConfigSourceDynamicDefaultBrokerConfig:
		source = "broker, at run time"
	case kmsg.ConfigSourceStaticBrokerConfig:
		source = "broker"
	case kmsg.ConfigSourceDefaultConfig:
		source = "default"
	default:
		source = strings.ToLower(c.Source.String())
	}
	return value, source
}

func idList(ids []int32) string {
	parts := make([]string, len(ids))
	for i, id := range ids {
		parts[i] = strconv.Itoa(int(id))
	}
	return strings.Join(parts, ",")
}

func (t topicView) json(all bool) map[string]any {
	configs := []map[string]any{}
	for _, c := range t.configs {
		if value, source := configText(c); all || source != "default" {
			configs = append(configs, map[string]any{"key": c.Name, "value": value, "source": source})
		}
	}
	partitions := []map[string]any{}
	for _, p := range t.meta.Partitions {
		id := partitionID{*t.meta.Topic, p.Partition}
		partitions = append(partitions, map[string]any{
			"partition": p.Partition, "leader": p.Leader, "leader_epoch": p.LeaderEpoch, "replicas": p.Replicas, "isr": p.ISR,
			"log_start": t.start[id].offset, "high_watermark": t.end[id].offset,
		})
	}
	return map[string]any{
		"topic": *t.meta.Topic, "topic_id": topicIDText(t.meta.TopicID), "internal": t.meta.IsInternal,
		"tiered": configValue(t.configs, keyTiered) == "true", "partitions": partitions, "configs": configs,
	}
}
