package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// completeTime bounds what a Tab may wait for a cluster.
const completeTime = 2 * time.Second

// completeTopics completes topic names from the cluster; without one there is nothing to offer.
func (a *app) completeTopics(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTime)
	defer cancel()
	cl, err := a.connect(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer cl.Close()
	topics, err := topicMeta(ctx, cl)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, t := range topics {
		if !t.IsInternal {
			names = append(names, *t.Topic)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// withTopics makes the arguments of commands complete to topic names.
func (a *app) withTopics(cmds ...*cobra.Command) []*cobra.Command {
	for _, cmd := range cmds {
		cmd.ValidArgsFunction = a.completeTopics
	}
	return cmds
}

// complete offers what list gives for words that are not there yet.
func (a *app) complete(cmd *cobra.Command, used []string, list func(context.Context, *kgo.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTime)
	defer cancel()
	cl, err := a.connect(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer cl.Close()
	names, err := list(ctx, cl)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(used, name) })
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeGroups completes group ids, and after one the topics where a command takes those.
func (a *app) completeGroups(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && (cmd.Name() == "seek" || cmd.Name() == "offset-delete") {
		return a.completeTopics(cmd, args, word)
	}
	return a.complete(cmd, args, func(ctx context.Context, cl *kgo.Client) ([]string, error) {
		groups, err := listGroups(ctx, cl, nil)
		var names []string
		for _, g := range groups {
			names = append(names, g.Group)
		}
		return names, err
	})
}

// completeTxns completes transactional ids.
func (a *app) completeTxns(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd, args, func(ctx context.Context, cl *kgo.Client) ([]string, error) {
		req := kmsg.NewPtrListTransactionsRequest()
		req.DurationFilterMillis = -1
		list, err := listTxns(ctx, cl, req)
		var ids []string
		for _, t := range list {
			ids = append(ids, t.TransactionalID)
		}
		return ids, err
	})
}
