package main

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"varve/broker"
)

func (a *app) tierDescribeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "describe TOPIC", Short: "Show offsets, dates and bytes of each partition over both tiers", Args: cobra.ExactArgs(1),
		RunE: a.body(func(cmd *cobra.Command, args []string) error {
			nodes, err := a.tierNodes(cmd.Context())
			if err != nil {
				return err
			}
			answers, err := askEach[broker.TierTopic](cmd.Context(), nodes, http.MethodGet, topicPath(args[0]))
			if err != nil {
				return err
			}
			topic := joinTopic(answers)
			if a.format == formatJSON {
				return a.printJSON("tier.describe", map[string]any{"topic": topic})
			}
			return a.printTierTopic(topic, time.Now())
		}),
	}
}

// joinTopic puts the partitions that different brokers lead into one answer.
func joinTopic(answers []broker.TierTopic) broker.TierTopic {
	topic := answers[0]
	for _, t := range answers[1:] {
		topic.Partitions = append(topic.Partitions, t.Partitions...)
	}
	slices.SortFunc(topic.Partitions, func(x, y broker.TierPartition) int { return cmp.Compare(x.Partition, y.Partition) })
	return topic
}

func (a *app) printTierTopic(t broker.TierTopic, now time.Time) error {
	err := pairs(a.stdout, "topic", t.Topic, "id", t.TopicID, "tiered", yesNo(t.Tiered),
		"kept in all", keptText(t.RetentionMS, t.RetentionMax), "kept on disk", keptText(t.LocalMS, t.LocalBytes))
	if err != nil {
		return err
	}
	fmt.Fprintln(a.stdout)
	offsets := newTable(">PARTITION", ">LOG START", "DATE", ">LOCAL START", "DATE", ">TIERED END", "DATE", ">HIGH WATERMARK", "DATE")
	bytes := newTable(">PARTITION", ">ONLY DISK", ">BOTH", ">ONLY STORE", ">STORED", ">OBJECTS", ">TO UPLOAD", "OLDEST ONLY ON DISK", "STATE")
	for _, p := range t.Partitions {
		offsets.add(p.Partition, p.LogStart.Offset, humanTime(p.LogStart.Time), p.LocalStart.Offset, humanTime(p.LocalStart.Time),
			p.TieredEnd.Offset, humanTime(p.TieredEnd.Time), p.HighWatermark.Offset, humanTime(p.HighWatermark.Time))
		state := p.State
		if p.Error != "" {
			state += ": " + p.Error
		}
		bytes.add(p.Partition, humanBytes(p.Bytes.HotOnly), humanBytes(p.Bytes.Both), humanBytes(p.Bytes.ColdOnly), humanBytes(p.Bytes.Stored),
			humanCount(p.Objects), humanBytes(p.Pending.UploadBytes), ageOf(p.Pending.OldestLocalOnly, now), state)
	}
	if err := offsets.write(a.stdout); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout)
	return bytes.write(a.stdout)
}

// keptText says how long and how much a retention keeps.
func keptText(ms, size int64) string {
	byTime, bySize := "", ""
	if ms >= 0 {
		byTime = humanAge(time.Duration(min(ms, int64(time.Duration(1<<62)/time.Millisecond))) * time.Millisecond)
	}
	if size >= 0 {
		bySize = humanBytes(size) + " a partition"
	}
	switch {
	case byTime != "" && bySize != "":
		return byTime + " or " + bySize + ", whichever is less"
	case byTime+bySize != "":
		return byTime + bySize
	default:
		return "for ever"
	}
}

func (a *app) tierExplainCommand() *cobra.Command {
	return &cobra.Command{
		Use: "explain TOPIC/P", Short: "Say what the next upload of a partition is and what blocks it", Args: cobra.ExactArgs(1),
		RunE: a.body(func(cmd *cobra.Command, args []string) error {
			topic, partition, err := onePartition(args[0])
			if err != nil {
				return err
			}
			nodes, err := a.tierNodes(cmd.Context())
			if err != nil {
				return err
			}
			path := fmt.Sprintf("%s/partitions/%d/explain", topicPath(topic), partition)
			answers, err := askEach[broker.TierExplain](cmd.Context(), nodes, http.MethodGet, path)
			if err != nil {
				return err
			}
			if a.format == formatJSON {
				return a.printJSON("tier.explain", map[string]any{"explain": answers[0]})
			}
			return a.printExplain(answers[0], time.Now())
		}),
	}
}

func (a *app) printExplain(e broker.TierExplain, now time.Time) error {
	p := e.Partition
	next := "nothing"
	if e.NextFirst >= 0 {
		next = fmt.Sprintf("offsets %d to %d, %s", e.NextFirst, e.NextNext-1, humanBytes(e.NextBytes))
	}
	roll := "-"
	if e.RollAt >= 0 {
		roll = "in " + humanAge(time.UnixMilli(e.RollAt).Sub(now))
	}
	manifest := "none yet"
	if e.ManifestName != "" {
		manifest = e.ManifestName
	}
	err := pairs(a.stdout,
		"partition", fmt.Sprintf("%s/%d, led by %d in epoch %d", e.Topic, p.Partition, p.Leader, p.LeaderEpoch),
		"log", fmt.Sprintf("%d to %d, stable to %d, high watermark %d", p.LogStart.Offset, p.LogEnd, p.LastStable, p.HighWatermark.Offset),
		"in the store up to", p.TieredEnd.Offset,
		"manifest", manifest,
		"next upload", next,
		"active segment rolls", roll,
		"state", p.State)
	if err != nil {
		return err
	}
	if len(e.Blockers) == 0 {
		_, err := fmt.Fprintln(a.stdout, "\nnothing blocks it")
		return err
	}
	fmt.Fprintln(a.stdout, "\nblocked by")
	for _, b := range e.Blockers {
		line := "  " + b.Kind + ": " + b.Message
		if b.Since > 0 {
			line += " (" + ageOf(b.Since, now) + ")"
		}
		if _, err := fmt.Fprintln(a.stdout, line); err != nil {
			return err
		}
	}
	return nil
}
