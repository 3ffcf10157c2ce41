package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// pourResult is what the first act came to.
type pourResult struct {
	records int64
	bytes   int64 // of keys and values
	took    time.Duration
	ackP99  time.Duration
}

// client makes an ordinary client of the show's broker.
func (s *show) client(opts ...kgo.Opt) (*kgo.Client, error) {
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(s.child.kafka), kgo.ClientID("varve-show"), kgo.MetadataMinAge(100 * time.Millisecond)}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return cl, nil
}

func (s *show) createTopic(ctx context.Context) error {
	cl, err := s.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	raw, err := ask(ctx, cl, newTopics([]string{showTopic}, showPartitions, 1, [][2]string{
		{"segment.bytes", strconv.Itoa(showSegmentBytes)},
		{"local.retention.bytes", strconv.Itoa(showLocalBytes)},
		{"max.message.bytes", strconv.Itoa(showBatchBytes)},
		{keyTiered, "true"},
	}, false))
	if err != nil {
		return err
	}
	for _, t := range raw.(*kmsg.CreateTopicsResponse).Topics {
		if err := codeError(t.ErrorCode, t.ErrorMessage); err != nil {
			return fmt.Errorf("create topic %s: %w", t.Topic, err)
		}
	}
	return nil
}

// pour writes every line of every file, with the file as key: one partition, one order a file.
func (s *show) pour(ctx context.Context) error {
	if err := s.createTopic(ctx); err != nil {
		return err
	}
	acks := &ackTimes{}
	cl, err := s.client(
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(showBatchBytes),
		// Deep enough that the broker rarely waits for the client; ten times as many only wait
		// longer for their acknowledgement.
		kgo.MaxBufferedRecords(100_000),
		kgo.WithHooks(acks),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	bar := newProgress(s.a.stdout, "pour", s.source.bytes, true)
	defer bar.clear()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var records, bytes, lines atomic.Int64
	promise := func(r *kgo.Record, err error) {
		if err != nil {
			cancel(fmt.Errorf("write a line of %s: %w", r.Key, err))
			return
		}
		records.Add(1)
		bytes.Add(int64(len(r.Key) + len(r.Value)))
		lines.Add(int64(len(r.Value) + 1))
	}
	began := time.Now()
	for _, file := range s.source.files {
		if err := s.pourFile(ctx, cl, file, promise); err != nil {
			return err
		}
		bar.set(lines.Load())
	}
	if err := cl.Flush(ctx); err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	s.poured = pourResult{records.Load(), bytes.Load(), time.Since(began), acks.percentile(99)}
	bar.finish("%s records, %s in %.1f s (%s), ack p99 %s", humanCount(s.poured.records), humanBytes(s.poured.bytes),
		s.poured.took.Seconds(), megabytes(s.poured.bytes, s.poured.took), humanLatency(s.poured.ackP99))
	return nil
}

func (s *show) pourFile(ctx context.Context, cl *kgo.Client, file string, promise func(*kgo.Record, error)) error {
	text, err := s.source.read(file)
	if err != nil {
		return fmt.Errorf("read source: %w", err)
	}
	key := []byte(file)
	now := time.Now()
	for {
		line, rest, ok := nextLine(text)
		if !ok {
			return context.Cause(ctx)
		}
		cl.Produce(ctx, &kgo.Record{Topic: showTopic, Key: key, Value: line, Timestamp: now}, promise)
		text = rest
	}
}

func perSecond(n int64, d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64(float64(n) / d.Seconds())
}

// ackTimes gathers how long produce requests took from the first byte written to the answer.
type ackTimes struct {
	mu    sync.Mutex
	times []time.Duration // some hundreds, one a request
}

var _ kgo.HookBrokerE2E = (*ackTimes)(nil)

// OnBrokerE2E is called by franz-go after each request.
func (t *ackTimes) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if key != int16(kmsg.Produce) || e2e.Err() != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.times = append(t.times, e2e.DurationE2E())
}

func (t *ackTimes) percentile(p int) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.times) == 0 {
		return 0
	}
	sorted := slices.Clone(t.times)
	slices.Sort(sorted)
	return sorted[(len(sorted)-1)*p/100]
}
