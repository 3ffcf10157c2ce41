package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/meta"
)

// configOp is one change of one key.
type configOp struct {
	name  string
	op    kmsg.IncrementalAlterConfigOp
	value *string
}

func (a *API) incrementalAlterConfigs(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.IncrementalAlterConfigsRequest)
	resp := req.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
	for _, r := range req.Resources {
		out := kmsg.NewIncrementalAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
		ops := make([]configOp, 0, len(r.Configs))
		for _, c := range r.Configs {
			ops = append(ops, configOp{c.Name, c.Op, c.Value})
		}
		out.ErrorCode, out.ErrorMessage = codeAndMessage(a.alter(ctx, r.ResourceType, r.ResourceName, ops, false, req.ValidateOnly))
		resp.Resources = append(resp.Resources, out)
	}
	return resp, nil
}

// alterConfigs replaces everything that is set: what the request does not name goes back to its
// default. Old clients alone send it.
func (a *API) alterConfigs(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.AlterConfigsRequest)
	resp := req.ResponseKind().(*kmsg.AlterConfigsResponse)
	for _, r := range req.Resources {
		out := kmsg.NewAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
		ops := make([]configOp, 0, len(r.Configs))
		for _, c := range r.Configs {
			ops = append(ops, configOp{c.Name, kmsg.IncrementalAlterConfigOpSet, c.Value})
		}
		out.ErrorCode, out.ErrorMessage = codeAndMessage(a.alter(ctx, r.ResourceType, r.ResourceName, ops, true, req.ValidateOnly))
		resp.Resources = append(resp.Resources, out)
	}
	return resp, nil
}

// alterTries bounds how often a change is computed anew because another one came between.
const alterTries = 5

func (a *API) alter(ctx context.Context, kind kmsg.ConfigResourceType, name string, ops []configOp, replace, dry bool) error {
	if kind == kmsg.ConfigResourceTypeBrokerLogger {
		return a.alterLoggers(name, ops, replace, dry)
	}
	for try := 0; ; try++ {
		cmd, err := a.alterCommand(kind, name, ops, replace)
		if err != nil || dry || cmd == nil {
			return err
		}
		_, err = a.cfg.Meta.ProposeOne(ctx, cmd)
		if !errors.Is(err, meta.ErrConfigChanged) || try == alterTries {
			return err
		}
	}
}

// alterCommand resolves the operations against what is set now; nil if nothing would change.
func (a *API) alterCommand(kind kmsg.ConfigResourceType, name string, ops []configOp, replace bool) (*meta.AlterConfigs, error) {
	cmd := &meta.AlterConfigs{Set: map[string]string{}, Compare: map[string]*string{}}
	im := a.cfg.Meta.Image()
	var old map[string]string
	switch kind {
	case kmsg.ConfigResourceTypeTopic:
		t := im.Topic(name)
		if t == nil {
			return nil, fmt.Errorf("%w: %.255q", meta.ErrUnknownTopic, name)
		}
		cmd.Resource, cmd.TopicID, old = meta.ResourceTopic, t.ID, t.Configs
	case kmsg.ConfigResourceTypeBroker:
		id, err := a.brokerResource(name)
		if err != nil {
			return nil, err
		}
		cmd.Resource, cmd.Broker, old = meta.ResourceBroker, id, im.BrokerConfigs(id)
		if id == meta.NoNode {
			cmd.Resource, cmd.Broker, old = meta.ResourceCluster, 0, im.ClusterConfigs()
		}
	default:
		return nil, fmt.Errorf("%w: configs of resource type %d cannot be changed", kerr.InvalidRequest, kind)
	}
	next, err := applyOps(old, ops, replace, a.listKeyOf(kind))
	if err != nil {
		return nil, err
	}
	if kind == kmsg.ConfigResourceTypeBroker {
		if next, err = a.checkBroker(im, cmd.Resource, next); err != nil {
			return nil, fmt.Errorf("%w: %w", kerr.InvalidConfig, err)
		}
	}
	for key := range union(old, next) {
		before, had := old[key]
		after, has := next[key]
		if had == has && before == after {
			continue
		}
		cmd.Compare[key] = nil
		if had {
			cmd.Compare[key] = &before
		}
		if has {
			cmd.Set[key] = after
		} else {
			cmd.Delete = append(cmd.Delete, key)
		}
	}
	slices.Sort(cmd.Delete)
	if kind == kmsg.ConfigResourceTypeTopic {
		err = meta.ConfigCheck{New: next, Old: old, Defaults: a.cfg.Broker.TopicDefaults(), NoStore: !a.cfg.TierConfigured}.Validate()
		if err != nil {
			return nil, err
		}
	}
	if len(cmd.Compare) == 0 {
		return nil, nil
	}
	return cmd, nil
}

// checkBroker checks the dynamic configs that a resource would have, alone and together with those of
// the other level, and gives them in Kafka's text form.
func (a *API) checkBroker(im *meta.Image, resource meta.Resource, next map[string]string) (map[string]string, error) {
	fresh, err := a.cfg.Broker.CheckDynamic(next)
	if err != nil {
		return nil, err
	}
	together := union(im.ClusterConfigs(), fresh)
	if resource == meta.ResourceCluster {
		together = union(fresh, im.BrokerConfigs(a.cfg.NodeID))
	}
	_, err = a.cfg.Broker.CheckDynamic(together)
	return fresh, err
}

func union(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, b)
	return all
}

// applyOps computes the configs after the operations. Append and subtract work on lists alone.
func applyOps(old map[string]string, ops []configOp, replace bool, list func(name string) (string, bool)) (map[string]string, error) {
	next := map[string]string{}
	if !replace {
		maps.Copy(next, old)
	}
	seen := map[string]bool{}
	for _, o := range ops {
		if seen[o.name] {
			return nil, fmt.Errorf("%w: %.128s is named more than once", kerr.InvalidRequest, o.name)
		}
		seen[o.name] = true
		if o.op == kmsg.IncrementalAlterConfigOpDelete {
			delete(next, o.name)
			continue
		}
		if o.value == nil {
			return nil, fmt.Errorf("%w: %.128s has a null value", kerr.InvalidRequest, o.name)
		}
		if o.op < kmsg.IncrementalAlterConfigOpSet || o.op > kmsg.IncrementalAlterConfigOpSubtract {
			return nil, fmt.Errorf("%w: operation %d on %.128s is not known", kerr.InvalidRequest, o.op, o.name)
		}
		if o.op == kmsg.IncrementalAlterConfigOpSet {
			next[o.name] = *o.value
			continue
		}
		initial, ok := list(o.name)
		if !ok {
			return nil, fmt.Errorf("%w: %.128s is not a list, it can only be set or deleted", kerr.InvalidConfig, o.name)
		}
		current, ok := next[o.name]
		if !ok {
			current = initial
		}
		next[o.name] = changeList(current, *o.value, o.op == kmsg.IncrementalAlterConfigOpAppend)
	}
	return next, nil
}

// listKeyOf finds lists among the keys of a kind of resource, with the value that counts where the
// resource itself sets none.
func (a *API) listKeyOf(kind kmsg.ConfigResourceType) func(name string) (string, bool) {
	if kind == kmsg.ConfigResourceTypeBroker {
		return a.cfg.Broker.ListKey
	}
	return func(name string) (string, bool) {
		key, ok := meta.TopicConfigKey(name)
		if !ok || key.Type != meta.ConfigList {
			return "", false
		}
		value, _ := a.cfg.Broker.TopicDefault(name)
		return cmp.Or(value, key.Default), true
	}
}

func changeList(current, value string, add bool) string {
	list := strings.FieldsFunc(current, func(r rune) bool { return r == ',' })
	for _, v := range strings.Split(value, ",") {
		at := slices.Index(list, v)
		switch {
		case add && at < 0:
			list = append(list, v)
		case !add && at >= 0:
			list = slices.Delete(list, at, at+1)
		}
	}
	return strings.Join(list, ",")
}
