package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (a *app) txnCommand() *cobra.Command {
	describe, abort := a.txnDescribeCommand(), a.txnAbortCommand()
	describe.ValidArgsFunction, abort.ValidArgsFunction = a.completeTxns, a.completeTxns
	return a.noun("txn", "List, describe and abort transactions", a.txnListCommand(), describe, abort)
}

func (a *app) txnListCommand() *cobra.Command {
	var (
		states  []string
		older   time.Duration
		pattern string
	)
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List transactional ids and their state", Args: cobra.NoArgs,
		Example: "  varve txn list --state Ongoing --older-than 15m",
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&states, "state", nil, "only in these states: Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort")
	flags.DurationVar(&older, "older-than", 0, "only transactions that are open for longer")
	flags.StringVar(&pattern, "pattern", "", "only ids that this `REGEXP` matches as a whole")
	cmd.RunE = a.body(func(cmd *cobra.Command, _ []string) error {
		if older < 0 {
			return usagef("--older-than %s is negative", older)
		}
		cl, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer cl.Close()
		req := kmsg.NewPtrListTransactionsRequest()
		req.StateFilters, req.DurationFilterMillis = states, -1
		if older > 0 {
			req.DurationFilterMillis = older.Milliseconds()
		}
		if pattern != "" {
			req.TransactionalIDPattern = &pattern
		}
		list, err := listTxns(cmd.Context(), cl, req)
		if err != nil {
			return err
		}
		return a.printTxns(list)
	})
	return cmd
}

func listTxns(ctx context.Context, cl *kgo.Client, req *kmsg.ListTransactionsRequest) ([]kmsg.ListTransactionsResponseTransactionState, error) {
	raw, err := ask(ctx, cl, req) // kgo asks every broker and joins the answers
	if err != nil {
		return nil, err
	}
	resp := raw.(*kmsg.ListTransactionsResponse)
	if err := codeError(resp.ErrorCode, nil); err != nil {
		return nil, fmt.Errorf("list transactions: %w", err)
	}
	if len(resp.UnknownStateFilters) > 0 {
		return nil, fmt.Errorf("list transactions: the broker knows no state %s", strings.Join(resp.UnknownStateFilters, ", "))
	}
	slices.SortFunc(resp.TransactionStates, func(x, y kmsg.ListTransactionsResponseTransactionState) int {
		return strings.Compare(x.TransactionalID, y.TransactionalID)
	})
	return resp.TransactionStates, nil
}

func (a *app) printTxns(list []kmsg.ListTransactionsResponseTransactionState) error {
	out := newTable("TRANSACTIONAL ID", ">PRODUCER", "STATE")
	items := []map[string]any{}
	for _, t := range list {
		out.add(t.TransactionalID, t.ProducerID, t.TransactionState)
		items = append(items, map[string]any{"transactional_id": t.TransactionalID, "producer_id": t.ProducerID, "state": t.TransactionState})
	}
	if len(items) == 0 {
		fmt.Fprintln(a.stderr, "no transactions")
	}
	return a.printItems("txn.list", "transactions", out, items)
}

// describeTxn asks the coordinator of one transactional id.
func describeTxn(ctx context.Context, cl *kgo.Client, id string) (*kmsg.DescribeTransactionsResponseTransactionState, error) {
	req := kmsg.NewPtrDescribeTransactionsRequest()
	req.TransactionalIDs = []string{id}
	raw, err := ask(ctx, cl, req)
	if err != nil {
		return nil, err
	}
	states := raw.(*kmsg.DescribeTransactionsResponse).TransactionStates
	if len(states) != 1 {
		return nil, fmt.Errorf("describe transactional id %q: the answer holds %d", id, len(states))
	}
	if err := codeError(states[0].ErrorCode, nil); err != nil {
		return nil, fmt.Errorf("describe transactional id %q: %w", id, err)
	}
	return &states[0], nil
}

// txnOpen tells whether the records of a transaction still wait for its end.
func txnOpen(t *kmsg.DescribeTransactionsResponseTransactionState) bool {
	return t.State == "Ongoing" || strings.HasPrefix(t.State, "Prepare")
}

func (a *app) txnDescribeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "describe ID...", Short: "Show state, producer, age and partitions of transactional ids", Args: cobra.MinimumNArgs(1),
		RunE: a.body(func(cmd *cobra.Command, ids []string) error {
			cl, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			var list []*kmsg.DescribeTransactionsResponseTransactionState
			for _, id := range ids {
				t, err := describeTxn(cmd.Context(), cl, id)
				if err != nil {
					return err
				}
				list = append(list, t)
			}
			return a.printTxnStates(list, time.Now())
		}),
	}
}

func (a *app) printTxnStates(list []*kmsg.DescribeTransactionsResponseTransactionState, now time.Time) error {
	items := []map[string]any{}
	for i, t := range list {
		parts := txnPartitions(t)
		if a.format == formatJSON {
			at := []map[string]any{}
			for _, id := range parts {
				at = append(at, map[string]any{"topic": id.topic, "partition": id.partition})
			}
			items = append(items, map[string]any{
				"transactional_id": t.TransactionalID, "state": t.State, "producer_id": t.ProducerID, "producer_epoch": t.ProducerEpoch,
				"timeout_ms": t.TimeoutMillis, "started": t.StartTimestamp, "partitions": at,
			})
			continue
		}
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		started := "-"
		if txnOpen(t) {
			started = ageOf(t.StartTimestamp, now)
		}
		err := pairs(a.stdout, "transactional id", t.TransactionalID, "state", t.State, "producer", t.ProducerID, "epoch", t.ProducerEpoch,
			"timeout", time.Duration(t.TimeoutMillis)*time.Millisecond, "started", started, "partitions", dash(assignedText(parts)))
		if err != nil {
			return err
		}
	}
	if a.format == formatJSON {
		return a.printJSON("txn.describe", map[string]any{"transactions": items})
	}
	return nil
}

func txnPartitions(t *kmsg.DescribeTransactionsResponseTransactionState) []partitionID {
	var ids []partitionID
	for _, topic := range t.Topics {
		for _, p := range topic.Partitions {
			ids = append(ids, partitionID{topic.Topic, p})
		}
	}
	slices.SortFunc(ids, comparePartitions)
	return ids
}
