package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"varve/broker"
)

const tierPath = "/api/v1/tier/"

// maxFlushWait is below the time after which the broker's HTTP server ends an answer.
const maxFlushWait = 100 * time.Second

func (a *app) tierCommand() *cobra.Command {
	return a.noun("tier", "Show and steer what is on local disk and what is in the object store",
		append(a.withTopics(a.tierDescribeCommand(), a.tierSegmentsCommand(), a.tierFlushCommand(), a.tierExplainCommand(), a.tierManifestCommand()),
			a.tierStatusCommand())...)
}

// tierNodes finds the admin APIs of all brokers.
func (a *app) tierNodes(ctx context.Context) ([]adminNode, error) {
	cl, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	return adminNodes(ctx, cl)
}

// parseTopicPartition reads TOPIC or TOPIC/P; partition -1 means all.
func parseTopicPartition(text string) (topic string, partition int32, err error) {
	topic, number, ok := strings.Cut(text, "/")
	if topic == "" {
		return "", 0, usagef("%q names no topic", text)
	}
	if !ok {
		return topic, -1, nil
	}
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil || n < 0 {
		return "", 0, usagef("%q is not TOPIC/PARTITION", text)
	}
	return topic, int32(n), nil
}

// onePartition is parseTopicPartition for commands that need the partition.
func onePartition(text string) (topic string, partition int32, err error) {
	topic, partition, err = parseTopicPartition(text)
	if err == nil && partition < 0 {
		err = usagef("%q names no partition; write %s/0", text, topic)
	}
	return topic, partition, err
}

func topicPath(topic string) string { return tierPath + "topics/" + url.PathEscape(topic) }

func partitionQuery(partition int32) url.Values {
	q := url.Values{}
	if partition >= 0 {
		q.Set("partition", strconv.Itoa(int(partition)))
	}
	return q
}

func (a *app) tierStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show store, bytes by place, work pending and requests of each broker", Args: cobra.NoArgs,
		RunE: a.body(func(cmd *cobra.Command, _ []string) error {
			nodes, err := a.tierNodes(cmd.Context())
			if err != nil {
				return err
			}
			all, err := askEach[broker.TierStatus](cmd.Context(), nodes, http.MethodGet, tierPath+"status")
			if err != nil {
				return err
			}
			if a.format == formatJSON {
				return a.printJSON("tier.status", map[string]any{"brokers": all})
			}
			for i, s := range all {
				if i > 0 {
					fmt.Fprintln(a.stdout)
				}
				if err := a.printStatus(s, time.Now()); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

func (a *app) printStatus(s broker.TierStatus, now time.Time) error {
	store := s.Store
	if store == "" {
		store = "none; topics cannot be tiered"
	}
	state := s.StoreState
	if s.StoreError != "" {
		state += ": " + s.StoreError
	}
	cells := []any{
		"broker", s.NodeID,
		"store", store,
		"state", state,
		"tiered partitions", humanCount(int64(s.Partitions)),
		"only on disk", humanBytes(s.Bytes.HotOnly),
		"on disk and in the store", humanBytes(s.Bytes.Both),
		"only in the store", humanBytes(s.Bytes.ColdOnly),
		"objects", fmt.Sprintf("%s, %s stored", humanCount(s.Objects), humanBytes(s.Bytes.Stored)),
		"waiting to upload", fmt.Sprintf("%s in %d segments", humanBytes(s.Pending.UploadBytes), s.Pending.UploadSegments),
		"waiting to leave the disk", fmt.Sprintf("%s in %d segments", humanBytes(s.Pending.DropBytes), s.Pending.DropSegments),
		"oldest only on disk", ageOf(s.Pending.OldestLocalOnly, now),
		"requests", fmt.Sprintf("%d PUT, %d GET, %d HEAD, %d LIST, %d DELETE, %d failed", s.Requests.Put, s.Requests.Get, s.Requests.Head, s.Requests.List, s.Requests.Delete, s.Requests.Failed),
		"bytes", fmt.Sprintf("%s written, %s read", humanBytes(s.Requests.BytesWritten), humanBytes(s.Requests.BytesRead)),
		"disk cache", fmt.Sprintf("%s of %s, %s hits, %s misses", humanBytes(s.Cache.Bytes), humanBytes(s.Cache.Limit), humanCount(s.Cache.Hits), humanCount(s.Cache.Misses)),
	}
	if s.LastError != "" {
		cells = append(cells, "last error", fmt.Sprintf("%s (%s)", s.LastError, ageOf(s.LastErrorAt, now)))
	}
	return pairs(a.stdout, cells...)
}

// ageOf is how long ago a time in ms was; there is none below zero.
func ageOf(ms int64, now time.Time) string {
	if ms < 0 {
		return "-"
	}
	return humanAge(now.Sub(time.UnixMilli(ms))) + " ago"
}

func (a *app) tierSegmentsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "segments TOPIC[/P]", Short: "List the ranges of a topic with time, size, place and object key", Args: cobra.ExactArgs(1),
		RunE: a.body(func(cmd *cobra.Command, args []string) error {
			topic, partition, err := parseTopicPartition(args[0])
			if err != nil {
				return err
			}
			nodes, err := a.tierNodes(cmd.Context())
			if err != nil {
				return err
			}
			path := topicPath(topic) + "/segments?" + partitionQuery(partition).Encode()
			answers, err := askEach[broker.TierSegments](cmd.Context(), nodes, http.MethodGet, path)
			if err != nil {
				return err
			}
			segments := []broker.TierSegment{}
			for _, s := range answers {
				segments = append(segments, s.Segments...)
			}
			slices.SortFunc(segments, func(x, y broker.TierSegment) int {
				return cmp.Or(cmp.Compare(x.Partition, y.Partition), cmp.Compare(x.First, y.First))
			})
			if a.format == formatJSON {
				return a.printJSON("tier.segments", map[string]any{"topic": topic, "segments": segments})
			}
			return segmentTable(segments).write(a.stdout)
		}),
	}
}

func segmentTable(segments []broker.TierSegment) *table {
	out := newTable(">P", ">FIRST", ">NEXT", ">RECORDS", ">BYTES", ">STORED", "FROM", "TO", "WHERE", "KEY")
	for _, s := range segments {
		where, stored, records := s.Where, "-", "-"
		if s.Active {
			where += ", active"
		}
		if s.Stored > 0 {
			stored = humanBytes(s.Stored)
		}
		if s.Records >= 0 && (s.Records > 0 || s.First == s.Next) {
			records = humanCount(s.Records)
		}
		out.add(s.Partition, s.First, s.Next, records, humanBytes(s.Bytes), stored, humanTime(s.FirstTime), humanTime(s.MaxTime), where, s.Key)
	}
	return out
}

func (a *app) tierFlushCommand() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "flush TOPIC[/P]", Short: "Seal the active segments and upload everything stable now", Args: cobra.ExactArgs(1),
	}
	cmd.Flags().DurationVar(&wait, "wait", 30*time.Second, "wait this long for the uploads")
	cmd.RunE = a.body(func(cmd *cobra.Command, args []string) error {
		topic, partition, err := parseTopicPartition(args[0])
		if err != nil {
			return err
		}
		if wait < 0 || wait > maxFlushWait {
			return usagef("--wait %s is outside 0s to %s", wait, maxFlushWait)
		}
		nodes, err := a.tierNodes(cmd.Context())
		if err != nil {
			return err
		}
		q := partitionQuery(partition)
		q.Set("wait_ms", strconv.FormatInt(wait.Milliseconds(), 10))
		answers, err := askEach[broker.TierFlush](cmd.Context(), nodes, http.MethodPost, topicPath(topic)+"/flush?"+q.Encode())
		if err != nil {
			return err
		}
		return a.printFlush(topic, answers)
	})
	return cmd
}

func (a *app) printFlush(topic string, answers []broker.TierFlush) error {
	items := []broker.TierFlushItem{}
	for _, f := range answers {
		items = append(items, f.Partitions...)
	}
	slices.SortFunc(items, func(x, y broker.TierFlushItem) int { return cmp.Compare(x.Partition, y.Partition) })
	behind := 0
	out := newTable(">PARTITION", ">TARGET", ">TIERED END", "STATUS")
	for _, i := range items {
		status := "done"
		if !i.Done {
			behind++
			status = "not yet: " + i.Reason
		}
		out.add(i.Partition, i.Target, i.TieredEnd, status)
	}
	var err error
	if a.format == formatJSON {
		err = a.printJSON("tier.flush", map[string]any{"topic": topic, "partitions": items})
	} else {
		err = out.write(a.stdout)
	}
	if err == nil && behind > 0 {
		err = fmt.Errorf("%d of %d partitions are not flushed; varve tier explain %s/P says why", behind, len(items), topic)
	}
	return err
}

func (a *app) tierManifestCommand() *cobra.Command {
	return &cobra.Command{
		Use: "manifest TOPIC/P", Short: "Print the committed manifest of a partition", Args: cobra.ExactArgs(1),
		RunE: a.body(func(cmd *cobra.Command, args []string) error {
			topic, partition, err := onePartition(args[0])
			if err != nil {
				return err
			}
			nodes, err := a.tierNodes(cmd.Context())
			if err != nil {
				return err
			}
			path := fmt.Sprintf("%s/partitions/%d/manifest", topicPath(topic), partition)
			answers, err := askEach[rawManifest](cmd.Context(), nodes, http.MethodGet, path)
			if err != nil {
				return err
			}
			m := answers[0]
			if a.format == formatJSON {
				return a.printJSON("tier.manifest", map[string]any{
					"topic": topic, "partition": partition, "name": m.Name, "crc32c": m.CRC32C, "manifest": m.Manifest,
				})
			}
			fmt.Fprintf(a.stdout, "# %s crc32c=%08x\n", m.Name, m.CRC32C)
			text, err := json.MarshalIndent(m.Manifest, "", "  ")
			if err != nil {
				return fmt.Errorf("print manifest: %w", err)
			}
			_, err = fmt.Fprintf(a.stdout, "%s\n", text)
			return err
		}),
	}
}

// rawManifest is broker.TierManifest with the document left as it came.
type rawManifest struct {
	Name     string          `json:"name"`
	CRC32C   uint32          `json:"crc32c"`
	Manifest json.RawMessage `json:"manifest"`
}
