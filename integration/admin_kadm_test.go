package integration

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/integration/harness"
)

func kadmClient(t *testing.T) (*kadm.Client, context.Context) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(sharedBroker(t).Addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	ctx, cancel := context.WithTimeout(t.Context(), harness.Late)
	t.Cleanup(cancel)
	return kadm.NewClient(cl), ctx
}

// must fails on the errors of a call; isErr on anything but the one that is wanted.
func noErr(t *testing.T, what string, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func isErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestKadmManagesTopicsAndConfigs(t *testing.T) {
	a, ctx := kadmClient(t)
	const topic = "kadm-admin"
	_, err := a.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": kadm.StringPtr("600000")}, topic)
	noErr(t, "create", err)
	_, err = a.CreateTopic(ctx, 2, 1, nil, topic)
	isErr(t, "create again", err, kerr.TopicAlreadyExists)
	checked, err := a.ValidateCreateTopics(ctx, 1, 1, nil, "kadm-checked")
	noErr(t, "validate", err, checked.Error())
	more, err := a.CreatePartitions(ctx, 1, topic)
	noErr(t, "create partitions", err, more.Error())
	list, err := a.ListTopics(ctx, topic)
	if err != nil || len(list[topic].Partitions) != 3 {
		t.Errorf("list: %v %+v", err, list)
	}
	altered, err := a.AlterTopicConfigs(ctx, []kadm.AlterConfig{
		{Op: kadm.SetConfig, Name: "min.compaction.lag.ms", Value: kadm.StringPtr("1000")},
		{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: kadm.StringPtr("compact")},
	}, topic)
	noErr(t, "alter topic", err, altered[0].Err)
	configs, err := a.DescribeTopicConfigs(ctx, topic)
	noErr(t, "describe topic configs", err, configs[0].Err)
	for _, c := range configs[0].Configs {
		if c.Key == "cleanup.policy" && c.MaybeValue() != "delete,compact" || c.Key == "min.compaction.lag.ms" && c.MaybeValue() != "1000" {
			t.Errorf("%s=%s", c.Key, c.MaybeValue())
		}
	}
	brokers, err := a.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "log.cleaner.min.compaction.lag.ms", Value: kadm.StringPtr("5")}}, 1)
	noErr(t, "alter broker", err, brokers[0].Err)
	brokers, err = a.ValidateAlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.connections", Value: kadm.StringPtr("0")}}, 1)
	noErr(t, "validate broker", err)
	isErr(t, "validate broker", brokers[0].Err, kerr.InvalidConfig)
	brokers, err = a.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: kadm.DeleteConfig, Name: "log.cleaner.min.compaction.lag.ms"}}, 1)
	noErr(t, "reset broker", err, brokers[0].Err)
	described, err := a.DescribeBrokerConfigs(ctx, 1)
	if err != nil || len(described[0].Configs) < 60 {
		t.Errorf("describe broker: %v, %d configs", err, len(described))
	}
	resources, err := a.ListConfigResources(ctx)
	noErr(t, "list config resources", err)
	if len(resources.Resources) < 3 {
		t.Errorf("config resources %+v", resources)
	}
	gone, err := a.DeleteTopics(ctx, topic)
	noErr(t, "delete", err, gone.Error())
}

func TestKadmMovesNothingOnOneBroker(t *testing.T) {
	a, ctx := kadmClient(t)
	const topic = "kadm-moves"
	_, err := a.CreateTopic(ctx, 1, 1, nil, topic)
	noErr(t, "create", err)
	var set kadm.TopicsSet
	set.Add(topic, 0)
	for _, how := range []kadm.ElectLeadersHow{kadm.ElectPreferredReplica, kadm.ElectLiveReplica} {
		elected, err := a.ElectLeaders(ctx, how, set)
		noErr(t, "elect", err)
		isErr(t, "elect", elected[topic][0].Err, kerr.ElectionNotNeeded)
	}
	var req kadm.AlterPartitionAssignmentsReq
	req.Assign(topic, 0, []int32{2})
	moved, err := a.AlterPartitionAssignments(ctx, req)
	noErr(t, "reassign", err)
	isErr(t, "reassign", moved[topic][0].Err, kerr.InvalidReplicaAssignment)
	moving, err := a.ListPartitionReassignments(ctx, set)
	if err != nil || len(moving) != 0 {
		t.Errorf("reassignments: %v %+v", err, moving)
	}
	dirs, err := a.DescribeAllLogDirs(ctx, set)
	noErr(t, "log dirs", err)
	own := ""
	for _, d := range dirs[1] {
		if !strings.HasPrefix(d.Dir, "remote:") {
			own = d.Dir
		}
	}
	var alter kadm.AlterReplicaLogDirsReq
	alter.Add(own, set)
	there, err := a.AlterBrokerReplicaLogDirs(ctx, 1, alter)
	noErr(t, "own log dir", err, there[topic][0].Err)
	alter = kadm.AlterReplicaLogDirsReq{}
	alter.Add("/elsewhere", set)
	elsewhere, err := a.AlterBrokerReplicaLogDirs(ctx, 1, alter)
	noErr(t, "another log dir", err)
	isErr(t, "another log dir", elsewhere[topic][0].Err, kerr.LogDirNotFound)
}

func TestKadmIsToldThatSecurityIsOff(t *testing.T) {
	a, ctx := kadmClient(t)
	build := kadm.NewACLs().AnyResource().Allow().AllowHosts().Deny().DenyHosts().Operations(kadm.OpAny).ResourcePatternType(kadm.ACLPatternAny)
	listed, err := a.DescribeACLs(ctx, build)
	noErr(t, "describe acls", err)
	isErr(t, "describe acls", listed[0].Err, kerr.SecurityDisabled)
	made, err := a.CreateACLs(ctx, kadm.NewACLs().Topics("t").Allow("User:u").AllowHosts("*").Operations(kadm.OpRead).ResourcePatternType(kadm.ACLPatternLiteral))
	noErr(t, "create acls", err)
	isErr(t, "create acls", made[0].Err, kerr.SecurityDisabled)
	scram, err := a.DescribeUserSCRAMs(ctx, "u")
	noErr(t, "describe scram", err)
	isErr(t, "describe scram", scram["u"].Err, kerr.SecurityDisabled)
	users, err := a.AlterUserSCRAMs(ctx, []kadm.DeleteSCRAM{{User: "u", Mechanism: kadm.ScramSha256}}, nil)
	noErr(t, "alter scram", err)
	isErr(t, "alter scram", users["u"].Err, kerr.SecurityDisabled)
	_, err = a.DescribeDelegationTokens(ctx)
	isErr(t, "tokens", err, kerr.DelegationTokenAuthDisabled)
	_, err = a.CreateDelegationToken(ctx, kadm.CreateDelegationToken{MaxLifetime: time.Hour})
	isErr(t, "create a token", err, kerr.DelegationTokenAuthDisabled)
}

func TestKadmSetsQuotasAndReadsFeatures(t *testing.T) {
	a, ctx := kadmClient(t)
	name := "kadm-user"
	entity := kadm.ClientQuotaEntity{{Type: "user", Name: &name}}
	altered, err := a.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{Entity: entity, Ops: []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Value: 1 << 20}}}})
	noErr(t, "alter quotas", err, altered[0].Err)
	altered, err = a.ValidateAlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{Entity: entity, Ops: []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Value: -1}}}})
	noErr(t, "validate quotas", err)
	isErr(t, "a quota below zero", altered[0].Err, kerr.InvalidRequest)
	quotas, err := a.DescribeClientQuotas(ctx, true, []kadm.DescribeClientQuotaComponent{{Type: "user", MatchName: &name, MatchType: kmsg.QuotasMatchTypeExact}})
	if err != nil || len(quotas) != 1 || len(quotas[0].Values) != 1 || quotas[0].Values[0].Value != 1<<20 {
		t.Errorf("describe quotas: %v %+v", err, quotas)
	}
	altered, err = a.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{Entity: entity, Ops: []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Remove: true}}}})
	noErr(t, "remove quotas", err, altered[0].Err)
	versions, err := a.ApiVersions(ctx)
	if err != nil || versions[1].Err != nil {
		t.Fatalf("api versions: %v", err)
	}
	_, err = a.UpdateFeatures(ctx, true, kadm.FeatureUpdate{Feature: "metadata.version", MaxVersionLevel: 29, UpgradeType: 1})
	noErr(t, "update features", err)
	m, err := a.Metadata(ctx)
	if err != nil || m.Controller != 1 || len(m.Brokers) != 1 {
		t.Errorf("metadata: %v %+v", err, m)
	}
}
