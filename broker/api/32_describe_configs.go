package api

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/meta"
)

// Where a value comes from, as DescribeConfigs says it.
const (
	sourceTopic         = kmsg.ConfigSourceDynamicTopicConfig
	sourceBroker        = kmsg.ConfigSourceDynamicBrokerConfig
	sourceBrokerDefault = kmsg.ConfigSourceDynamicDefaultBrokerConfig
	sourceStatic        = kmsg.ConfigSourceStaticBrokerConfig
	sourceDefault       = kmsg.ConfigSourceDefaultConfig
)

func (a *API) describeConfigs(_ context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.DescribeConfigsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
	for i := range req.Resources {
		ask := &req.Resources[i]
		out := kmsg.NewDescribeConfigsResponseResource()
		out.ResourceType, out.ResourceName = ask.ResourceType, ask.ResourceName
		rows, err := a.configRows(ask)
		if err != nil {
			out.ErrorCode, out.ErrorMessage = codeAndMessage(err)
		}
		for _, row := range rows {
			if len(ask.ConfigNames) > 0 && !slices.Contains(ask.ConfigNames, row.Name) {
				continue
			}
			if !req.IncludeSynonyms {
				row.ConfigSynonyms = nil
			}
			if !req.IncludeDocumentation {
				row.Documentation = nil
			}
			out.Configs = append(out.Configs, row)
		}
		resp.Resources = append(resp.Resources, out)
	}
	return resp, nil
}

type configRow = kmsg.DescribeConfigsResponseResourceConfig

func (a *API) configRows(ask *kmsg.DescribeConfigsRequestResource) ([]configRow, error) {
	switch ask.ResourceType {
	case kmsg.ConfigResourceTypeTopic:
		if err := meta.ValidateTopicName(ask.ResourceName); err != nil {
			return nil, err
		}
		t := a.cfg.Meta.Image().Topic(ask.ResourceName)
		if t == nil {
			return nil, meta.ErrUnknownTopic
		}
		return a.topicRows(t.Configs), nil
	case kmsg.ConfigResourceTypeBroker:
		if _, err := a.brokerResource(ask.ResourceName); err != nil {
			return nil, err
		}
		return a.brokerRows(ask.ResourceName == ""), nil
	case kmsg.ConfigResourceTypeBrokerLogger:
		if err := a.loggerResource(ask.ResourceName); err != nil {
			return nil, err
		}
		return a.loggerRows(), nil
	case kmsg.ConfigResourceTypeClientMetrics, kmsg.ConfigResourceTypeGroupConfig:
		if ask.ResourceName == "" {
			return nil, fmt.Errorf("%w: the name of the resource is empty", kerr.InvalidRequest)
		}
		return nil, nil // nothing is set
	default:
		return nil, fmt.Errorf("%w: resource type %d has no configs", kerr.InvalidRequest, ask.ResourceType)
	}
}

// brokerResource reads the name of a broker resource: "" is the cluster's default.
func (a *API) brokerResource(name string) (meta.NodeID, error) {
	if name == "" {
		return meta.NoNode, nil
	}
	id, err := strconv.ParseInt(name, 10, 32)
	if err != nil || int32(id) != a.cfg.NodeID {
		return 0, fmt.Errorf("%w: broker %.64q is not this one, which is %d", kerr.InvalidRequest, name, a.cfg.NodeID)
	}
	return int32(id), nil
}

// topicRows lists every key of the table, and the labels that the topic has.
func (a *API) topicRows(set map[string]string) []configRow {
	var rows []configRow
	im := a.cfg.Meta.Image()
	add := func(k meta.ConfigKey) {
		row := kmsg.NewDescribeConfigsResponseResourceConfig()
		row.Name, row.ConfigType = k.Name, kmsg.ConfigType(k.Type)
		row.Documentation = kmsg.StringPtr(k.Doc())
		row.ConfigSynonyms = a.topicSynonyms(im, k, set)
		row.Value, row.Source = row.ConfigSynonyms[0].Value, row.ConfigSynonyms[0].Source
		row.IsDefault = row.Source == sourceDefault
		rows = append(rows, row)
	}
	for _, k := range meta.TopicConfigKeys() {
		add(k)
	}
	for name := range set {
		if k, ok := meta.TopicConfigKey(name); ok && len(name) > len(meta.LabelPrefix) && name[:len(meta.LabelPrefix)] == meta.LabelPrefix {
			add(k)
		}
	}
	return rows
}

type configSynonym = kmsg.DescribeConfigsResponseResourceConfigConfigSynonym

// topicSynonyms lists where a topic key has a value, the one that counts first; never empty.
func (a *API) topicSynonyms(im *meta.Image, k meta.ConfigKey, set map[string]string) (list []configSynonym) {
	if v, ok := set[k.Name]; ok {
		list = append(list, synonym(k.Name, v, sourceTopic))
	}
	value, brokerKey := a.cfg.Broker.TopicDefault(k.Name)
	if brokerKey == "" {
		return append(list, synonym(k.Name, cmp.Or(value, k.Default), sourceDefault))
	}
	_, isOwn := im.BrokerConfigs(a.cfg.NodeID)[brokerKey]
	cluster, isCluster := im.ClusterConfigs()[brokerKey]
	if isOwn { // value is what counts now, in the form of the topic's key
		list = append(list, synonym(brokerKey, value, sourceBroker))
	}
	if isCluster && !isOwn {
		cluster = value
	}
	if isCluster {
		list = append(list, synonym(brokerKey, cluster, sourceBrokerDefault))
	}
	if !isOwn && !isCluster && value != k.Default { // else what the file says lies below, not known here
		list = append(list, synonym(brokerKey, value, sourceStatic))
	}
	return append(list, synonym(brokerKey, k.Default, sourceDefault))
}

func synonym(name, value string, source kmsg.ConfigSource) configSynonym {
	s := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
	s.Name, s.Value, s.Source = name, kmsg.StringPtr(value), source
	return s
}

func (a *API) brokerRows(clusterOnly bool) []configRow {
	im := a.cfg.Meta.Image()
	cluster, own := im.ClusterConfigs(), im.BrokerConfigs(a.cfg.NodeID)
	var rows []configRow
	for _, c := range a.cfg.Broker.Configs() {
		row := kmsg.NewDescribeConfigsResponseResourceConfig()
		row.Name, row.ReadOnly, row.IsSensitive = c.Name, !c.Dynamic, c.Sensitive
		row.ConfigType, row.Documentation = c.Type, kmsg.StringPtr(c.Doc)
		row.Source = sourceStatic
		if c.Default {
			row.Source = sourceDefault
		}
		value := c.Value
		row.ConfigSynonyms = append(row.ConfigSynonyms, synonym(c.Name, value, row.Source))
		if !c.Default && row.Source == sourceStatic {
			row.ConfigSynonyms = append(row.ConfigSynonyms, synonym(c.Name, c.DefaultValue, sourceDefault))
		}
		if v, ok := cluster[c.Name]; ok {
			value, row.Source = v, sourceBrokerDefault
			row.ConfigSynonyms = append([]configSynonym{synonym(c.Name, v, sourceBrokerDefault)}, row.ConfigSynonyms...)
		}
		if v, ok := own[c.Name]; ok && !clusterOnly {
			value, row.Source = v, sourceBroker
			row.ConfigSynonyms = append([]configSynonym{synonym(c.Name, v, sourceBroker)}, row.ConfigSynonyms...)
		}
		row.IsDefault = row.Source == sourceDefault
		if !c.Sensitive {
			row.Value = kmsg.StringPtr(value)
		}
		if clusterOnly && row.Source != sourceBrokerDefault {
			continue // the default resource holds what was set for all brokers, and nothing else
		}
		rows = append(rows, row)
	}
	return rows
}

// createdConfigs is what CreateTopics v5 tells of a new topic's configs; never null (KIP-525).
func (a *API) createdConfigs(set map[string]string) []kmsg.CreateTopicsResponseTopicConfig {
	out := []kmsg.CreateTopicsResponseTopicConfig{}
	for _, row := range a.topicRows(set) {
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		c.Name, c.Value, c.Source = row.Name, row.Value, int8(row.Source)
		out = append(out, c)
	}
	return out
}
