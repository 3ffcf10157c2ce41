package main

import (
	"flag"
	"fmt"
	"strings"
)

// configsFlag collects -config key=value, repeated.
type configsFlag [][2]string

func (v *configsFlag) String() string { return fmt.Sprint(*v) }
func (v *configsFlag) Set(s string) error {
	k, val, ok := strings.Cut(s, "=")
	if !ok {
		return fmt.Errorf("want key=value, got %q", s)
	}
	*v = append(*v, [2]string{k, val})
	return nil
}

// topicCmd creates one topic with topic configs, or reports the one that exists.
func topicCmd(fs *flag.FlagSet) func() (obj, error) {
	n := fs.Int("partitions", 1, "partitions")
	rf := fs.Int("rf", 1, "replication factor")
	var configs configsFlag
	fs.Var(&configs, "config", "topic config key=value; repeat")
	return func() (obj, error) {
		ps, err := ensureTopic(brokers, topic, *n, *rf, configs...)
		return obj{"partitions": len(ps)}, err
	}
}
