package broker

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestCreateTopicsSaysWhyItRefuses(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	c.makeTopic("there", 1, nil)
	assign := func(partition int32, replicas ...int32) kmsg.CreateTopicsRequestTopicReplicaAssignment {
		return kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: partition, Replicas: replicas}
	}
	for _, x := range []struct {
		what   string
		change func(*kmsg.CreateTopicsRequestTopic)
		want   int16
	}{
		{"defaults", func(r *kmsg.CreateTopicsRequestTopic) { r.NumPartitions, r.ReplicationFactor = -1, -1 }, 0},
		{"a name that exists", func(r *kmsg.CreateTopicsRequestTopic) { r.Topic = "there" }, kerr.TopicAlreadyExists.Code},
		{"a bad name", func(r *kmsg.CreateTopicsRequestTopic) { r.Topic = "a#b" }, kerr.InvalidTopicException.Code},
		{"no partitions", func(r *kmsg.CreateTopicsRequestTopic) { r.NumPartitions = 0 }, kerr.InvalidPartitions.Code},
		{"fewer than no partitions", func(r *kmsg.CreateTopicsRequestTopic) { r.NumPartitions = -2 }, kerr.InvalidPartitions.Code},
		{"no replicas", func(r *kmsg.CreateTopicsRequestTopic) { r.ReplicationFactor = 0 }, kerr.InvalidReplicationFactor.Code},
		{"more replicas than brokers", func(r *kmsg.CreateTopicsRequestTopic) { r.ReplicationFactor = 2 }, kerr.InvalidReplicationFactor.Code},
		{"an unknown key", func(r *kmsg.CreateTopicsRequestTopic) {
			r.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "retention.mss", Value: kmsg.StringPtr("1")}}
		}, kerr.InvalidConfig.Code},
		{"a null value", func(r *kmsg.CreateTopicsRequestTopic) {
			r.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "retention.ms"}}
		}, kerr.InvalidConfig.Code},
		{"an assignment", func(r *kmsg.CreateTopicsRequestTopic) {
			r.NumPartitions, r.ReplicationFactor = -1, -1
			r.ReplicaAssignment = append(r.ReplicaAssignment, assign(1, 1), assign(0, 1))
		}, 0},
		{"an assignment and a count", func(r *kmsg.CreateTopicsRequestTopic) {
			r.ReplicaAssignment = append(r.ReplicaAssignment, assign(0, 1))
		}, kerr.InvalidRequest.Code},
		{"an assignment with a hole", func(r *kmsg.CreateTopicsRequestTopic) {
			r.NumPartitions, r.ReplicationFactor = -1, -1
			r.ReplicaAssignment = append(r.ReplicaAssignment, assign(0, 1), assign(2, 1))
		}, kerr.InvalidReplicaAssignment.Code},
		{"an assignment to nobody", func(r *kmsg.CreateTopicsRequestTopic) {
			r.NumPartitions, r.ReplicationFactor = -1, -1
			r.ReplicaAssignment = append(r.ReplicaAssignment, assign(0, 77))
		}, kerr.InvalidReplicaAssignment.Code},
	} {
		for _, dry := range []bool{true, false} {
			req := createOf("new-"+strings.ReplaceAll(x.what, " ", "-"), 1, nil)
			req.ValidateOnly = dry
			x.change(&req.Topics[0])
			out := ask[*kmsg.CreateTopicsResponse](c, req).Topics[0]
			if out.ErrorCode != x.want || out.Configs == nil || (out.ErrorCode != 0) == (out.ErrorMessage == nil) {
				t.Errorf("%s (validate only %v): code %d, want %d, message %v", x.what, dry, out.ErrorCode, x.want, out.ErrorMessage)
			}
			if made := b.set.ByName(req.Topics[0].Topic) != nil; x.want == 0 && made == dry {
				t.Errorf("%s: validate only %v, made %v", x.what, dry, made)
			}
		}
	}
}

func TestATopicNamedTwiceInARequestIsNotMade(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	req := createOf("twice", 1, nil)
	req.Topics = append(req.Topics, req.Topics[0])
	for _, out := range ask[*kmsg.CreateTopicsResponse](c, req).Topics {
		if out.ErrorCode != kerr.InvalidRequest.Code {
			t.Errorf("code %d", out.ErrorCode)
		}
	}
	if b.set.ByName("twice") != nil {
		t.Error("it was made")
	}
}

func TestOneRequestCannotMakePartitionsWithoutEnd(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	req := createOf("big-0", 99_999, nil)
	req.ValidateOnly = true
	for i := range 500 {
		req.Topics = append(req.Topics, createOf(fmt.Sprintf("big-%d", i+1), 99_999, nil).Topics...)
	}
	for i, out := range ask[*kmsg.CreateTopicsResponse](c, req).Topics {
		want := kerr.PolicyViolation.Code
		if i == 0 {
			want = 0
		}
		if out.ErrorCode != want {
			t.Fatalf("topic %d: code %d, want %d", i, out.ErrorCode, want)
		}
	}
}

func TestACompactedTopicCanBeMadeWhereTieringIsTheDefault(t *testing.T) {
	b := protoBroker(t, func(c *Config) { c.TierDefault = true })
	c := dialProto(t, b)
	c.makeTopic("compacted", 1, map[string]string{"cleanup.policy": "compact"})
	c.makeTopic("plain", 1, nil)
	if conf := replicaOf(t, b, "compacted", 0).Config(); conf.Tiered || !conf.Compacted {
		t.Errorf("%+v", conf)
	}
	if !replicaOf(t, b, "plain", 0).Config().Tiered {
		t.Error("a plain topic is not tiered")
	}
}

func TestDeleteTopicsTakesNamesAndIDsAndLeavesNoDirectory(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	id := c.makeTopic("by-id", 1, nil)
	c.makeTopic("by-name", 1, nil)
	c.mustProduce("by-id", 0, batchOf(t, 1, 10))
	c.mustProduce("by-name", 0, batchOf(t, 1, 10))
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version, req.TimeoutMillis = 6, 10_000
	req.Topics = []kmsg.DeleteTopicsRequestTopic{
		{TopicID: id}, {Topic: kmsg.StringPtr("by-name")}, {Topic: kmsg.StringPtr("none")}, {TopicID: [16]byte{1}}, {}, {Topic: kmsg.StringPtr("x"), TopicID: id},
	}
	want := []int16{0, 0, kerr.UnknownTopicOrPartition.Code, kerr.UnknownTopicID.Code, kerr.InvalidRequest.Code, kerr.InvalidRequest.Code}
	for i, out := range ask[*kmsg.DeleteTopicsResponse](c, req).Topics {
		if out.ErrorCode != want[i] {
			t.Errorf("topic %d: code %d, want %d", i, out.ErrorCode, want[i])
		}
	}
	eventually(t, "the directories are gone", func() bool {
		left, err := filepath.Glob(filepath.Join(b.topicsDir(), "*"))
		return err == nil && len(left) == 0
	})
}

func TestADeletionGoesOnAfterARestart(t *testing.T) {
	cfg := testConfig(t, t.TempDir())
	b := openBroker(t, cfg)
	c := dialProto(t, b)
	c.makeTopic("t", 1, nil)
	c.mustProduce("t", 0, batchOf(t, 1, 10))
	dir := replicaOf(t, b, "t", 0).Dir()
	for i := len(b.closeUp) - 1; i >= 0; i-- { // the deletion task is stopped before the topic goes
		if b.closeUp[i].name == "task" {
			if err := b.closeUp[i].close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version, req.TopicNames, req.TimeoutMillis = 5, []string{"t"}, 10_000
	if code := ask[*kmsg.DeleteTopicsResponse](c, req).Topics[0].ErrorCode; code != 0 {
		t.Fatal(code)
	}
	closeBroker(t, b)
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("the directory went without its task: %v", err)
	}
	b = openBroker(t, cfg)
	eventually(t, "the directory is gone", func() bool {
		_, err := os.Stat(dir)
		return os.IsNotExist(err)
	})
	eventually(t, "raft has forgotten the topic", func() bool {
		for range b.node.Image().DeletedTopics() {
			return false
		}
		return true
	})
	closeBroker(t, b)
	if stray, _ := filepath.Glob(filepath.Join(cfg.DataDir, "stray", "*")); len(stray) != 0 {
		t.Errorf("moved aside: %v", stray)
	}
}

func alterOf(kind kmsg.ConfigResourceType, name, key string, op kmsg.IncrementalAlterConfigOp, value *string) *kmsg.IncrementalAlterConfigsRequest {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Version = 1
	rr := kmsg.NewIncrementalAlterConfigsRequestResource()
	rr.ResourceType, rr.ResourceName = kind, name
	rr.Configs = append(rr.Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: key, Op: op, Value: value})
	req.Resources = append(req.Resources, rr)
	return req
}

func TestAlterConfigsSaysWhyItRefuses(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	c.makeTopic("t", 1, nil)
	topic, broker := kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker
	set := kmsg.IncrementalAlterConfigOpSet
	for _, x := range []struct {
		what string
		req  *kmsg.IncrementalAlterConfigsRequest
		want int16
	}{
		{"a good value", alterOf(topic, "t", "retention.ms", set, kmsg.StringPtr("600000")), 0},
		{"a bad value", alterOf(topic, "t", "retention.ms", set, kmsg.StringPtr("soon")), kerr.InvalidConfig.Code},
		{"no value", alterOf(topic, "t", "retention.ms", set, nil), kerr.InvalidRequest.Code},
		{"an unknown key", alterOf(topic, "t", "retention.mss", set, kmsg.StringPtr("1")), kerr.InvalidConfig.Code},
		{"an unknown topic", alterOf(topic, "none", "retention.ms", set, kmsg.StringPtr("1")), kerr.UnknownTopicOrPartition.Code},
		{"an unknown operation", alterOf(topic, "t", "cleanup.policy", 9, kmsg.StringPtr("compact")), kerr.InvalidRequest.Code},
		{"an append to a number", alterOf(topic, "t", "retention.ms", kmsg.IncrementalAlterConfigOpAppend, kmsg.StringPtr("1")), kerr.InvalidConfig.Code},
		{"an unknown broker key", alterOf(broker, "1", "no.such.key", set, kmsg.StringPtr("1")), kerr.InvalidConfig.Code},
		{"a static broker key", alterOf(broker, "1", "listen", set, kmsg.StringPtr("x:1")), kerr.InvalidConfig.Code},
		{"another broker", alterOf(broker, "9", "retention.ms", set, kmsg.StringPtr("1")), kerr.InvalidRequest.Code},
	} {
		if out := ask[*kmsg.IncrementalAlterConfigsResponse](c, x.req).Resources[0]; out.ErrorCode != x.want {
			t.Errorf("%s: code %d, want %d (%v)", x.what, out.ErrorCode, x.want, out.ErrorMessage)
		}
	}
	if got := replicaOf(t, b, "t", 0).Config().RetentionAge.Milliseconds(); got != 600_000 {
		t.Errorf("retention is %d ms", got)
	}
}

func TestOldAlterConfigsResetsWhatItDoesNotName(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	c.makeTopic("t", 1, map[string]string{"retention.ms": "600000", "segment.bytes": "2097152"})
	req := kmsg.NewPtrAlterConfigsRequest()
	rr := kmsg.NewAlterConfigsRequestResource()
	rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeTopic, "t"
	rr.Configs = append(rr.Configs, kmsg.AlterConfigsRequestResourceConfig{Name: "segment.bytes", Value: kmsg.StringPtr("4194304")})
	req.Resources = append(req.Resources, rr)
	if code := ask[*kmsg.AlterConfigsResponse](c, req).Resources[0].ErrorCode; code != 0 {
		t.Fatal(code)
	}
	if set := b.node.Image().Topic("t").Configs; len(set) != 1 || set["segment.bytes"] != "4194304" {
		t.Errorf("%v", set)
	}
}

// described is one row of DescribeConfigs.
func described(c *protoConn, kind kmsg.ConfigResourceType, name, key string) *kmsg.DescribeConfigsResponseResourceConfig {
	c.t.Helper()
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version, req.IncludeSynonyms = 4, true
	rr := kmsg.NewDescribeConfigsRequestResource()
	rr.ResourceType, rr.ResourceName, rr.ConfigNames = kind, name, []string{key}
	req.Resources = append(req.Resources, rr)
	out := ask[*kmsg.DescribeConfigsResponse](c, req).Resources[0]
	if out.ErrorCode != 0 || len(out.Configs) != 1 {
		c.t.Fatalf("%s of %q: code %d, %d rows", key, name, out.ErrorCode, len(out.Configs))
	}
	return &out.Configs[0]
}

func TestDescribeConfigsSaysWhereAValueComesFrom(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	c.makeTopic("t", 1, map[string]string{"segment.bytes": "2097152"})
	topic, broker := kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker
	own := described(c, topic, "t", "segment.bytes")
	if *own.Value != "2097152" || own.Source != kmsg.ConfigSourceDynamicTopicConfig || len(own.ConfigSynonyms) < 2 ||
		own.ConfigSynonyms[0].Source != kmsg.ConfigSourceDynamicTopicConfig {
		t.Errorf("set by the topic: %+v", own)
	}
	def := described(c, topic, "t", "retention.ms")
	if def.Source != kmsg.ConfigSourceDefaultConfig || *def.Value != "604800000" {
		t.Errorf("by default: %+v", def)
	}
	if row := described(c, broker, "1", "log.retention.ms"); *row.Value != "604800000" || row.Source != kmsg.ConfigSourceDefaultConfig {
		t.Errorf("the broker's default: %s from %v", *row.Value, row.Source)
	}
	for _, x := range []struct {
		resource string
		want     kmsg.ConfigSource
	}{{"", kmsg.ConfigSourceDynamicDefaultBrokerConfig}, {"1", kmsg.ConfigSourceDynamicBrokerConfig}} {
		req := alterOf(broker, x.resource, "log.retention.ms", kmsg.IncrementalAlterConfigOpSet, kmsg.StringPtr("86400000"))
		if out := ask[*kmsg.IncrementalAlterConfigsResponse](c, req).Resources[0]; out.ErrorCode != 0 {
			t.Fatalf("code %d %v", out.ErrorCode, *out.ErrorMessage)
		}
		for name, row := range map[string]*kmsg.DescribeConfigsResponseResourceConfig{
			"topic": described(c, topic, "t", "retention.ms"), "broker": described(c, broker, "1", "log.retention.ms"),
		} {
			if *row.Value != "86400000" || row.Source != x.want || row.ConfigSynonyms[0].Source != x.want {
				t.Errorf("set for broker %q, %s: %s from %v, synonyms %+v", x.resource, name, *row.Value, row.Source, row.ConfigSynonyms)
			}
		}
	}
	if row := described(c, broker, "1", "advertised.listeners"); !strings.HasPrefix(*row.Value, "PLAINTEXT://127.0.0.1:") || !row.ReadOnly {
		t.Errorf("advertised.listeners: %+v", row)
	}
}

func TestListOffsetsAnswersForALogThatWasNotOpenedSinceTheStart(t *testing.T) {
	cfg := testConfig(t, t.TempDir())
	b := openBroker(t, cfg)
	c := dialProto(t, b)
	c.makeTopic("t", 1, nil)
	c.mustProduce("t", 0, batchOf(t, 7, 10))
	closeBroker(t, b)
	b = openBroker(t, cfg)
	c = dialProto(t, b)
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version = 11
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = "t"
	for _, ts := range []int64{-1, -2, -3, -4, -5, -6, -7} {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Timestamp = ts
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	got := ask[*kmsg.ListOffsetsResponse](c, req).Topics[0].Partitions
	for i, want := range []int64{7, 0, 0, 0, -1, -1, -1} {
		code := int16(0)
		if i == 6 {
			code = kerr.UnsupportedVersion.Code
		}
		if i == 2 {
			want = got[2].Offset // any of equal timestamps may be the first
		}
		if got[i].Offset != want || got[i].ErrorCode != code {
			t.Errorf("timestamp %d: offset %d code %d, want %d", -1-i, got[i].Offset, got[i].ErrorCode, want)
		}
	}
	closeBroker(t, b)
}
