package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
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
