package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker"
)

// keyTiered is the topic key that --tiered sets.
const keyTiered = "remote.storage.enable"

// describeConfigs gives the configuration of one resource, in name order; no names means all.
func describeConfigs(ctx context.Context, cl *kgo.Client, kind kmsg.ConfigResourceType, resource string, names ...string) ([]kmsg.DescribeConfigsResponseResourceConfig, error) {
	all, err := describeConfigsOf(ctx, cl, kind, []string{resource}, names...)
	if err != nil {
		return nil, err
	}
	return all[resource], nil
}

func describeConfigsOf(ctx context.Context, cl *kgo.Client, kind kmsg.ConfigResourceType, resources []string, names ...string) (map[string][]kmsg.DescribeConfigsResponseResourceConfig, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, name := range resources {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName, r.ConfigNames = kind, name, names
		req.Resources = append(req.Resources, r)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	out := make(map[string][]kmsg.DescribeConfigsResponseResourceConfig, len(resources))
	for _, shard := range cl.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return nil, fmt.Errorf("DescribeConfigs: %w", rootCause(shard.Err))
		}
		for _, r := range shard.Resp.(*kmsg.DescribeConfigsResponse).Resources {
			if err := codeError(r.ErrorCode, r.ErrorMessage); err != nil {
				return nil, fmt.Errorf("configuration of %q: %w", r.ResourceName, err)
			}
			slices.SortFunc(r.Configs, func(x, y kmsg.DescribeConfigsResponseResourceConfig) int { return strings.Compare(x.Name, y.Name) })
			out[r.ResourceName] = r.Configs
		}
	}
	return out, nil
}

// parseTopicConfigs reads -c key=value and --tiered into Kafka's own text, in key order.
func parseTopicConfigs(sets []string, tiered bool) ([][2]string, error) {
	values := map[string]string{}
	if tiered {
		values[keyTiered] = "true"
	}
	for _, set := range sets {
		key, value, ok := strings.Cut(set, "=")
		key = strings.TrimSpace(key)
		if !ok || key == "" {
			return nil, usagef("-c %q is not of the form key=value", clip(set))
		}
		value, err := kafkaValue(key, strings.TrimSpace(value))
		if err != nil {
			return nil, usagef("-c %s: %w", key, err)
		}
		if key == keyTiered && tiered && value != "true" {
			return nil, usagef("--tiered contradicts -c %s", set)
		}
		values[key] = value
	}
	var out [][2]string
	for key, value := range values {
		out = append(out, [2]string{key, value})
	}
	slices.SortFunc(out, func(x, y [2]string) int { return strings.Compare(x[0], y[0]) })
	return out, nil
}

// kafkaValue turns 4MiB and 24h into the plain numbers that the protocol carries; the broker
// judges everything else.
func kafkaValue(key, value string) (string, error) {
	switch {
	case value == "":
		return value, nil
	case strings.HasSuffix(key, ".bytes"):
		n, err := broker.ParseSize(value)
		return strconv.FormatInt(n, 10), err
	case strings.HasSuffix(key, ".ms"):
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			return strconv.FormatInt(n, 10), nil // not through a duration, which holds less
		}
		d, err := broker.ParseMillis(value)
		return strconv.FormatInt(d.Milliseconds(), 10), err
	default:
		return value, nil
	}
}

// humanValue is a configuration value as kafkaValue reads it.
func humanValue(key, value string) string {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return value
	}
	switch {
	case strings.HasSuffix(key, ".bytes"):
		return broker.FormatSize(n)
	case strings.HasSuffix(key, ".ms"):
		const most = 1 << 43 // beyond it (278 years) the number says "no limit" better
		if n < most {
			d, _ := broker.ParseMillis(value)
			return broker.FormatMillis(d)
		}
	}
	return value
}
