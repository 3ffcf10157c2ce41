package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// abortPoll is how often a coordinator is asked again while it writes the markers of an abort.
const abortPoll = 50 * time.Millisecond

func (a *app) txnAbortCommand() *cobra.Command {
	var (
		where string
		start int64
	)
	cmd := &cobra.Command{
		Use: "abort ID | --partition TOPIC/P [--start OFFSET]", Short: "Abort an open transaction and fence its producer", Args: cobra.MaximumNArgs(1),
		Long: `Abort the open transaction of a transactional id: its producer is fenced and fails at its next
request, in every partition of the transaction.

--partition aborts a hanging transaction in one partition, which its coordinator does not know any
more, by a marker written straight to the partition (KIP-664). --start names it by its first offset
where several are open. A transaction that its coordinator knows is refused: abort that by its id.`,
		Example: "  varve txn abort billing-1\n  varve txn abort --partition clicks/3 --start 1500000",
	}
	flags := cmd.Flags()
	flags.StringVar(&where, "partition", "", "`TOPIC/P` that holds a hanging transaction")
	flags.Int64Var(&start, "start", -1, "first `OFFSET` of the hanging transaction")
	cmd.RunE = a.body(func(cmd *cobra.Command, args []string) error {
		switch {
		case (len(args) == 1) == (where != ""):
			return usagef("give either a transactional id or --partition TOPIC/P")
		case start != -1 && where == "":
			return usagef("--start needs --partition")
		case cmd.Flags().Changed("start") && start < 0:
			return usagef("--start %d is negative", start)
		}
		var id partitionID
		if where != "" {
			var err error
			if id.topic, id.partition, err = onePartition(where); err != nil {
				return err
			}
		}
		cl, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer cl.Close()
		if where != "" {
			return a.abortHanging(cmd.Context(), cl, id, start)
		}
		return a.abortTxn(cmd.Context(), cl, args[0])
	})
	return cmd
}

// abortTxn ends a transaction as a new producer of its id would: by asking for the next epoch.
func (a *app) abortTxn(ctx context.Context, cl *kgo.Client, id string) error {
	t, err := describeTxn(ctx, cl, id)
	if err != nil {
		return err
	}
	if !txnOpen(t) {
		return fmt.Errorf("transactional id %q has no open transaction, its state is %s", id, t.State)
	}
	if t.State == "PrepareCommit" {
		return fmt.Errorf("the transaction of %q is decided to commit; it cannot be aborted any more", id)
	}
	if err := fence(ctx, cl, id, t.TimeoutMillis); err != nil {
		return fmt.Errorf("abort transaction of %q: %w", id, err)
	}
	out := newTable("TRANSACTIONAL ID", ">PRODUCER", "STATUS", "PARTITIONS")
	out.add(id, t.ProducerID, "aborted", dash(assignedText(txnPartitions(t))))
	return a.printItems("txn.abort", "transactions", out, []map[string]any{
		{"transactional_id": id, "producer_id": t.ProducerID, "status": "aborted"},
	})
}

// fence asks for a new epoch until the abort that the first request begins is done: a coordinator
// answers CONCURRENT_TRANSACTIONS until then.
func fence(ctx context.Context, cl *kgo.Client, id string, timeoutMillis int32) error {
	ctx, cancel := context.WithTimeout(ctx, 3*requestTimeout)
	defer cancel()
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = &id, -1, -1
	req.TransactionTimeoutMillis = max(timeoutMillis, 1)
	for {
		raw, err := ask(ctx, cl, req)
		if err != nil {
			return err
		}
		err = codeError(raw.(*kmsg.InitProducerIDResponse).ErrorCode, nil)
		if !errors.Is(err, kerr.ConcurrentTransactions) {
			return err
		}
		select {
		case <-time.After(abortPoll):
		case <-ctx.Done():
			return fmt.Errorf("the abort has begun and is not done yet: %w", err)
		}
	}
}

// abortHanging writes the abort marker that a partition waits for.
func (a *app) abortHanging(ctx context.Context, cl *kgo.Client, id partitionID, start int64) error {
	open, err := openProducers(ctx, cl, id)
	if err != nil {
		return err
	}
	p, err := pickProducer(open, id, start)
	if err != nil {
		return err
	}
	if owner, err := ownerOf(ctx, cl, id, p); err != nil {
		return err
	} else if owner != "" {
		return fmt.Errorf("the transaction at offset %d of %s/%d belongs to transactional id %q; use varve txn abort %s",
			p.CurrentTxnStartOffset, id.topic, id.partition, owner, owner)
	}
	if err := writeAbortMarker(ctx, cl, id, p); err != nil {
		return fmt.Errorf("write abort marker to %s/%d: %w", id.topic, id.partition, err)
	}
	out := newTable("TOPIC", ">PARTITION", ">START", ">PRODUCER", "STATUS")
	out.add(id.topic, id.partition, p.CurrentTxnStartOffset, p.ProducerID, "aborted")
	return a.printItems("txn.abort", "transactions", out, []map[string]any{
		{"topic": id.topic, "partition": id.partition, "start": p.CurrentTxnStartOffset, "producer_id": p.ProducerID, "status": "aborted"},
	})
}

func writeAbortMarker(ctx context.Context, cl *kgo.Client, id partitionID, p *activeProducer) error {
	marker := kmsg.NewWriteTxnMarkersRequestMarker()
	marker.ProducerID, marker.ProducerEpoch = p.ProducerID, int16(p.ProducerEpoch)
	marker.CoordinatorEpoch = max(p.CoordinatorEpoch, 0) // no marker yet: as Kafka's tool does
	t := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
	t.Topic, t.Partitions = id.topic, []int32{id.partition}
	marker.Topics = append(marker.Topics, t)
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	req.Markers = append(req.Markers, marker)
	raw, err := ask(ctx, cl, req)
	if err != nil {
		return err
	}
	answered := false
	for _, m := range raw.(*kmsg.WriteTxnMarkersResponse).Markers {
		for _, t := range m.Topics {
			for _, part := range t.Partitions {
				if err := codeError(part.ErrorCode, nil); err != nil {
					return err
				}
				answered = true
			}
		}
	}
	if !answered {
		return errors.New("the broker gave no answer")
	}
	return nil
}

type activeProducer = kmsg.DescribeProducersResponseTopicPartitionActiveProducer

// openProducers gives the producers that have a transaction open in a partition, the oldest first.
func openProducers(ctx context.Context, cl *kgo.Client, id partitionID) ([]activeProducer, error) {
	metas, err := topicMeta(ctx, cl, id.topic) // an unknown topic would be asked for again and again
	if err != nil {
		return nil, err
	}
	if !contains(partitionsOf(metas), id) {
		return nil, fmt.Errorf("topic %q has no partition %d", id.topic, id.partition)
	}
	req := kmsg.NewPtrDescribeProducersRequest()
	t := kmsg.NewDescribeProducersRequestTopic()
	t.Topic, t.Partitions = id.topic, []int32{id.partition}
	req.Topics = append(req.Topics, t)
	raw, err := ask(ctx, cl, req)
	if err != nil {
		return nil, err
	}
	var open []activeProducer
	for _, t := range raw.(*kmsg.DescribeProducersResponse).Topics {
		for _, p := range t.Partitions {
			if err := codeError(p.ErrorCode, p.ErrorMessage); err != nil {
				return nil, fmt.Errorf("producers of %s/%d: %w", id.topic, id.partition, err)
			}
			for _, active := range p.ActiveProducers {
				if active.CurrentTxnStartOffset >= 0 {
					open = append(open, active)
				}
			}
		}
	}
	slices.SortFunc(open, func(x, y activeProducer) int { return int(x.CurrentTxnStartOffset - y.CurrentTxnStartOffset) })
	return open, nil
}

// pickProducer finds the transaction that begins at start; -1 means the only one.
func pickProducer(open []activeProducer, id partitionID, start int64) (*activeProducer, error) {
	if len(open) == 0 {
		return nil, fmt.Errorf("no transaction is open in %s/%d", id.topic, id.partition)
	}
	if start < 0 && len(open) == 1 {
		return &open[0], nil
	}
	var known []string
	for i := range open {
		if open[i].CurrentTxnStartOffset == start {
			return &open[i], nil
		}
		known = append(known, fmt.Sprintf("%d (producer %d)", open[i].CurrentTxnStartOffset, open[i].ProducerID))
	}
	if start < 0 {
		return nil, fmt.Errorf("several transactions are open in %s/%d; name one by --start: %s", id.topic, id.partition, strings.Join(known, ", "))
	}
	return nil, fmt.Errorf("no transaction of %s/%d begins at offset %d; open are %s", id.topic, id.partition, start, strings.Join(known, ", "))
}

// ownerOf finds the transactional id whose open transaction a producer's records belong to; there is
// none for a hanging one.
func ownerOf(ctx context.Context, cl *kgo.Client, id partitionID, p *activeProducer) (string, error) {
	req := kmsg.NewPtrListTransactionsRequest()
	req.ProducerIDFilters, req.DurationFilterMillis = []int64{p.ProducerID}, -1
	list, err := listTxns(ctx, cl, req)
	if err != nil {
		return "", err
	}
	for _, listed := range list {
		t, err := describeTxn(ctx, cl, listed.TransactionalID)
		if err != nil {
			return "", err
		}
		if txnOpen(t) && t.ProducerID == p.ProducerID && int32(t.ProducerEpoch) >= p.ProducerEpoch && slices.Contains(txnPartitions(t), id) {
			return t.TransactionalID, nil
		}
	}
	return "", nil
}
