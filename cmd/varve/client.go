package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// connect makes a client and proves that a broker answers, so that a wrong address is one clear
// line at once and not a retry for ever.
func (a *app) connect(ctx context.Context, opts ...kgo.Opt) (*kgo.Client, error) {
	seeds, err := a.seeds()
	if err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(seeds...),
		kgo.ClientID("varve-cli"),
		kgo.SoftwareNameAndVersion("varve", version()),
		kgo.DialTimeout(5 * time.Second),
		kgo.RetryTimeout(requestTimeout),
		kgo.MetadataMinAge(100 * time.Millisecond),
	}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	pingCtx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := cl.Ping(pingCtx); err != nil {
		cl.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("no broker answers at %s (-b or VARVE_BROKERS): %w", strings.Join(seeds, ","), rootCause(err))
	}
	return cl, nil
}

// rootCause drops what franz-go says around a refused connection.
func rootCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op
	}
	return err
}

func (a *app) seeds() ([]string, error) {
	var seeds []string
	for s := range strings.SplitSeq(a.brokers, ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		if !strings.Contains(s, ":") {
			s += ":9092"
		}
		if _, _, err := net.SplitHostPort(s); err != nil {
			return nil, usagef("--brokers %q is not HOST:PORT", s)
		}
		seeds = append(seeds, s)
	}
	if len(seeds) == 0 {
		return nil, usagef("--brokers is empty")
	}
	return seeds, nil
}

// ask sends one request with the deadline of administrative requests.
func ask(ctx context.Context, cl *kgo.Client, req kmsg.Request) (kmsg.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := cl.Request(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kmsg.NameForKey(req.Key()), err)
	}
	return resp, nil
}

// codeError is nil for code 0, else one line of the broker's message or of the code's meaning.
func codeError(code int16, message *string) error {
	err := kerr.ErrorForCode(code)
	if err == nil {
		return nil
	}
	var known *kerr.Error
	if message != nil && *message != "" && errors.As(err, &known) {
		return fmt.Errorf("%s: %s", known.Message, *message)
	}
	return err
}

// partitionID names one partition of one topic.
type partitionID struct {
	topic     string
	partition int32
}

// topicMeta asks for topics, all of them if none is named, and gives them in name order. Unknown
// topics are an error.
func topicMeta(ctx context.Context, cl *kgo.Client, names ...string) ([]kmsg.MetadataResponseTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = false
	if len(names) > 0 {
		req.Topics = []kmsg.MetadataRequestTopic{} // null means all
	}
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	raw, err := ask(ctx, cl, req)
	if err != nil {
		return nil, err
	}
	topics := raw.(*kmsg.MetadataResponse).Topics
	for i := range topics {
		t := &topics[i]
		if t.Topic == nil {
			t.Topic = kmsg.StringPtr("")
		}
		if err := codeError(t.ErrorCode, nil); err != nil {
			return nil, fmt.Errorf("topic %q: %w", *t.Topic, err)
		}
		slices.SortFunc(t.Partitions, func(x, y kmsg.MetadataResponseTopicPartition) int { return int(x.Partition - y.Partition) })
	}
	slices.SortFunc(topics, func(x, y kmsg.MetadataResponseTopic) int { return strings.Compare(*x.Topic, *y.Topic) })
	return topics, nil
}

// Special timestamps of ListOffsets (section 8.4 of broker/DESIGN.md).
const (
	askEarliest      = -2
	askLatest        = -1
	askEarliestLocal = -4
	askLatestTiered  = -5
)

// offsetAt is one answer of ListOffsets; offset -1 means that there is none.
type offsetAt struct{ offset, time int64 }

// Isolation levels of ListOffsets: the latest offset is the high watermark, or the last stable offset.
const (
	readUncommitted = 0
	readCommitted   = 1
)

// listOffsets asks the leaders of the given partitions for the offset at one timestamp each.
func listOffsets(ctx context.Context, cl *kgo.Client, at map[partitionID]int64, level int8) (map[partitionID]offsetAt, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = -1, level
	byTopic := map[string]*kmsg.ListOffsetsRequestTopic{}
	for id, ts := range at {
		t := byTopic[id.topic]
		if t == nil {
			made := kmsg.NewListOffsetsRequestTopic()
			made.Topic = id.topic
			t = &made
			byTopic[id.topic] = t
		}
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp, p.CurrentLeaderEpoch = id.partition, ts, -1
		t.Partitions = append(t.Partitions, p)
	}
	for _, t := range byTopic {
		req.Topics = append(req.Topics, *t)
	}
	ctx, cancel := context.WithTimeout(ctx, 3*requestTimeout) // a lookup by time may read the store
	defer cancel()
	out := make(map[partitionID]offsetAt, len(at))
	for _, shard := range cl.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return nil, fmt.Errorf("ListOffsets: %w", rootCause(shard.Err))
		}
		for _, t := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				if err := codeError(p.ErrorCode, nil); err != nil {
					return nil, fmt.Errorf("offsets of %s/%d: %w", t.Topic, p.Partition, err)
				}
				out[partitionID{t.Topic, p.Partition}] = offsetAt{p.Offset, p.Timestamp}
			}
		}
	}
	for id := range at {
		if _, ok := out[id]; !ok {
			return nil, fmt.Errorf("offsets of %s/%d: no answer", id.topic, id.partition)
		}
	}
	return out, nil
}

// listOffsetsAt asks all partitions for the same timestamp.
func listOffsetsAt(ctx context.Context, cl *kgo.Client, ids []partitionID, ts int64) (map[partitionID]offsetAt, error) {
	return listOffsetsSeen(ctx, cl, ids, ts, readUncommitted)
}

// listOffsetsSeen does so as a consumer with an isolation level sees them.
func listOffsetsSeen(ctx context.Context, cl *kgo.Client, ids []partitionID, ts int64, level int8) (map[partitionID]offsetAt, error) {
	at := make(map[partitionID]int64, len(ids))
	for _, id := range ids {
		at[id] = ts
	}
	return listOffsets(ctx, cl, at, level)
}
