package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/term"
)

// produceOptions is what the flags of produce say.
type produceOptions struct {
	topic     string
	format    []piece // nil: JSON lines
	partition int32   // -1: chosen by key
	key       string
	keySet    bool
	headers   []kgo.RecordHeader
	nullEmpty bool
	acks      string
	codec     string
	create    bool
	txnID     string // of one transaction around the whole input
}

func (a *app) produceCommand() *cobra.Command {
	var (
		o       produceOptions
		format  string
		headers []string
	)
	cmd := &cobra.Command{
		Use: "produce TOPIC", Short: "Write records read from standard input", Args: cobra.ExactArgs(1),
		Long: `Write records read from standard input, one a line unless -f says otherwise.

A format is text with verbs; the text after a verb ends it: -f '%k\t%v\n' reads a key up to a tab
and a value up to the end of the line. Verbs are %k key, %v value, %p partition, %T time in ms and
%h headers as name=value,...

-f json reads one JSON object a line, as consume -f json writes them: key, value, timestamp in ms
and headers, or key_base64 and value_base64 for bytes that are no text. What is left out is null; a
key or value that is no string is written as its JSON.`,
		Example: "  varve produce clicks < lines.txt\n  varve produce clicks -f '%k,%v\\n' < pairs.csv\n  echo | varve produce clicks -k user7 -Z   # a tombstone",
	}
	flags := cmd.Flags()
	flags.StringVarP(&format, "record-format", "f", `%v\n`, "`FORMAT` of a record in the input")
	flags.Int32VarP(&o.partition, "partition", "p", -1, "write to this partition; -1 chooses by key")
	flags.StringVarP(&o.key, "key", "k", "", "`KEY` of every record")
	flags.StringArrayVarP(&headers, "header", "H", nil, "header `NAME=VALUE` of every record")
	flags.BoolVarP(&o.nullEmpty, "null", "Z", false, "an empty key or value is null; a null value is a tombstone")
	flags.StringVar(&o.acks, "acks", "all", "`ACKS` to wait for: all, 1 or 0")
	flags.StringVarP(&o.codec, "compression", "z", "none", "`CODEC`: none, gzip, snappy, lz4 or zstd")
	flags.StringVar(&o.txnID, "transactional-id", "", "write the whole input in one transaction of this `ID`, committed at its end")
	flags.BoolVar(&o.create, "create", false, "create the topic if it does not exist")
	cmd.RunE = a.body(func(cmd *cobra.Command, args []string) error {
		var err error
		o.topic, o.keySet = args[0], cmd.Flags().Changed("key")
		if format != formatRecordJSON {
			if o.format, err = parseInputFormat(format); err != nil {
				return usageError{err}
			}
		}
		for _, h := range headers {
			name, value, ok := strings.Cut(h, "=")
			if !ok {
				return usagef("-H %q is not of the form name=value", clip(h))
			}
			o.headers = append(o.headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
		}
		opts, err := o.clientOpts()
		if err != nil {
			return err
		}
		return a.produce(cmd.Context(), &o, opts)
	})
	return cmd
}

func (o *produceOptions) clientOpts() ([]kgo.Opt, error) {
	var opts []kgo.Opt
	switch o.acks {
	case "all", "-1":
		opts = append(opts, kgo.RequiredAcks(kgo.AllISRAcks()))
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, usagef("--acks %q is not all, 1 or 0", o.acks)
	}
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	codec, ok := codecs[o.codec]
	if !ok {
		return nil, usagef("-z %q is not none, gzip, snappy, lz4 or zstd", o.codec)
	}
	opts = append(opts, kgo.ProducerBatchCompression(codec))
	if o.txnID != "" {
		if o.acks != "all" && o.acks != "-1" {
			return nil, usagef("--transactional-id needs --acks all")
		}
		opts = append(opts, kgo.TransactionalID(o.txnID))
	}
	if o.partition >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	} else if formatHas(o.format, 'p') {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	if o.create {
		opts = append(opts, kgo.AllowAutoTopicCreation())
	}
	return opts, nil
}

func formatHas(pieces []piece, verb byte) bool {
	for _, p := range pieces {
		if p.verb == verb {
			return true
		}
	}
	return false
}

func (a *app) produce(ctx context.Context, o *produceOptions, opts []kgo.Opt) error {
	admin, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer admin.Close()
	if !o.create {
		metas, err := topicMeta(ctx, admin, o.topic)
		if err != nil {
			return err
		}
		if n := len(metas[0].Partitions); int(o.partition) >= n {
			return fmt.Errorf("topic %q has no partition %d, only %d", o.topic, o.partition, n)
		}
		opts = append(opts, kgo.ProducerBatchMaxBytes(batchLimit(ctx, admin, o.topic)))
	}
	cl, err := a.connect(ctx, opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	count, err := a.copyAll(ctx, cl, o)
	if err != nil {
		return err
	}
	if a.format == formatJSON {
		return a.printJSON("produce", map[string]any{"topic": o.topic, "records": count})
	}
	if f, ok := a.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintf(a.stderr, "%s records written to %s\n", humanCount(count), o.topic)
	}
	return nil
}

// batchLimit is the topic's own limit on batches, so that the client does not refuse a record that
// the broker would take.
func batchLimit(ctx context.Context, cl *kgo.Client, topic string) int32 {
	const usual, most = 1000012, 90 << 20 // franz-go's default; below its limit of a request
	configs, err := describeConfigs(ctx, cl, kmsg.ConfigResourceTypeTopic, topic, "max.message.bytes")
	if err != nil {
		return usual // a client without the right to describe can still produce
	}
	n, err := strconv.ParseInt(configValue(configs, "max.message.bytes"), 10, 64)
	if err != nil {
		return usual
	}
	return int32(max(512, min(n, most)))
}

// copyAll writes the input, in one transaction if the flags say so: all of it or nothing.
func (a *app) copyAll(ctx context.Context, cl *kgo.Client, o *produceOptions) (int64, error) {
	if o.txnID == "" {
		return a.copyInput(ctx, cl, o)
	}
	if err := cl.BeginTransaction(); err != nil {
		return 0, fmt.Errorf("begin transaction: %w", err)
	}
	count, err := a.copyInput(ctx, cl, o)
	if err == nil {
		if err = cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
			err = fmt.Errorf("commit transaction: %w", err)
		}
		return count, err
	}
	// The context may have ended; what is not aborted here is aborted by the broker after its timeout.
	abort, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	abortErr := cl.AbortBufferedRecords(abort)
	if abortErr == nil {
		abortErr = cl.EndTransaction(abort, kgo.TryAbort)
	}
	if abortErr != nil {
		err = errors.Join(err, fmt.Errorf("abort transaction: %w", abortErr))
	}
	return 0, err
}

// copyInput writes every record of the input and waits for all acknowledgements.
func (a *app) copyInput(ctx context.Context, cl *kgo.Client, o *produceOptions) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var acked atomic.Int64
	promise := func(r *kgo.Record, err error) {
		if err != nil {
			cancel(fmt.Errorf("write record to %s: %w", o.topic, err)) // the first cause stays
			return
		}
		acked.Add(1)
	}
	// A read from a terminal cannot be interrupted, so the reader is left behind when ctx ends; it
	// owns nothing but the input, and the process is about to end.
	records, readErr := make(chan *kgo.Record), make(chan error, 1)
	go func() {
		defer close(records)
		readErr <- readRecords(ctx, a.stdin, o, records)
	}()
	for open := true; open; {
		select {
		case r, ok := <-records:
			if open = ok; ok {
				cl.Produce(ctx, r, promise)
			}
		case <-ctx.Done():
			open = false
		}
	}
	if ctx.Err() == nil {
		if err := <-readErr; err != nil {
			return acked.Load(), flushBefore(cl, err)
		}
	}
	if err := cl.Flush(ctx); err != nil && context.Cause(ctx) == nil {
		return acked.Load(), fmt.Errorf("write to %s: %w", o.topic, err)
	}
	return acked.Load(), context.Cause(ctx)
}

// flushBefore writes what was read before a bad record, so that the line number in the error is
// where the next run begins.
func flushBefore(cl *kgo.Client, err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	return errors.Join(err, cl.Flush(ctx))
}

func readRecords(ctx context.Context, in io.Reader, o *produceOptions, out chan<- *kgo.Record) error {
	next := newJSONReader(in).next
	if o.format != nil {
		next = newRecordReader(in, o.format).next
	}
	for {
		r, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		o.finish(r)
		select {
		case out <- r:
		case <-ctx.Done():
			return nil
		}
	}
}

// finish lays the flags over a record that was read.
func (o *produceOptions) finish(r *kgo.Record) {
	r.Topic = o.topic
	if o.partition >= 0 {
		r.Partition = o.partition
	}
	if o.keySet {
		r.Key = []byte(o.key)
	}
	if o.nullEmpty {
		if len(r.Key) == 0 {
			r.Key = nil
		}
		if len(r.Value) == 0 {
			r.Value = nil
		}
	}
	r.Headers = append(r.Headers, o.headers...)
	if r.Timestamp.IsZero() {
		r.Timestamp = time.Now()
	}
}
