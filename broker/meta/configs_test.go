package meta

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// kafkaTopicConfigs is what kafka-configs --describe --all lists for a topic of Kafka 4.2.
var kafkaTopicConfigs = []string{
	"cleanup.policy", "compression.gzip.level", "compression.lz4.level", "compression.type", "compression.zstd.level",
	"delete.retention.ms", "file.delete.delay.ms", "flush.messages", "flush.ms", "follower.replication.throttled.replicas",
	"index.interval.bytes", "leader.replication.throttled.replicas", "local.retention.bytes", "local.retention.ms",
	"max.compaction.lag.ms", "max.message.bytes", "message.timestamp.after.max.ms", "message.timestamp.before.max.ms",
	"message.timestamp.type", "min.cleanable.dirty.ratio", "min.compaction.lag.ms", "min.insync.replicas", "preallocate",
	"remote.log.copy.disable", "remote.log.delete.on.disable", "remote.storage.enable", "retention.bytes", "retention.ms",
	"segment.bytes", "segment.index.bytes", "segment.jitter.ms", "segment.ms", "unclean.leader.election.enable",
}

func TestEveryKafkaTopicConfigIsKnown(t *testing.T) {
	for _, name := range kafkaTopicConfigs {
		if _, ok := TopicConfigKey(name); !ok {
			t.Errorf("%s is unknown", name)
		}
	}
}

func TestEveryConfigIsDocumentedAndItsDefaultIsValid(t *testing.T) {
	keys := TopicConfigKeys()
	for i, k := range keys {
		if i > 0 && keys[i-1].Name >= k.Name {
			t.Errorf("%s is out of order or twice", k.Name)
		}
		if !strings.HasSuffix(k.Doc(), ".") || len(k.Doc()) < 20 {
			t.Errorf("%s: doc %q is no sentence", k.Name, k.Doc())
		}
		if err := k.Check(k.Default); err != nil {
			t.Errorf("%s: default %q: %v", k.Name, k.Default, err)
		}
		if k.KafkaDefault != "" && k.Check(k.KafkaDefault) != nil {
			t.Errorf("%s: Kafka's default %q is refused", k.Name, k.KafkaDefault)
		}
		if (k.check == nil) != (k.Valid == "") {
			t.Errorf("%s: bounds are checked or described, not both", k.Name)
		}
		if k.NoEffect != "" && !strings.Contains(k.Doc(), "No effect here: ") {
			t.Errorf("%s: doc does not say that it has no effect", k.Name)
		}
		own := strings.HasPrefix(k.Name, "varve.") || k.Name == keyWriteCaching || strings.HasPrefix(k.Name, "remote.copy.lag.")
		if !own && !slices.Contains(kafkaTopicConfigs, k.Name) {
			t.Errorf("%s is neither Kafka's nor ours", k.Name)
		}
	}
	if err := ValidateTopicConfigs(nil); err != nil {
		t.Error(err)
	}
}

func TestConfigBoundsHold(t *testing.T) {
	for key, values := range map[string]struct{ good, bad []string }{
		"segment.bytes":                         {[]string{"1048576", "2147483647", " 4194304 "}, []string{"1048575", "2147483648", "-1", "", "4MiB", "1e7", "0x400000"}},
		"retention.ms":                          {[]string{"-1", "0", "9223372036854775807"}, []string{"-2", "9223372036854775808", "week"}},
		"retention.bytes":                       {[]string{"-1", "0"}, []string{"x", "1.5"}},
		"local.retention.ms":                    {[]string{"-2", "-1", "0"}, []string{"-3"}},
		"cleanup.policy":                        {[]string{"delete", "compact", "compact, delete", ""}, []string{"remove", "delete;compact"}},
		"compression.type":                      {[]string{"producer", "zstd"}, []string{"", "brotli", "none"}},
		"compression.gzip.level":                {[]string{"-1", "1", "9"}, []string{"0", "10", "-2"}},
		"compression.lz4.level":                 {[]string{"1", "17"}, []string{"0", "18"}},
		"compression.zstd.level":                {[]string{"-131072", "22"}, []string{"23"}},
		"message.timestamp.type":                {[]string{"CreateTime", "LogAppendTime"}, []string{"createtime"}},
		"min.cleanable.dirty.ratio":             {[]string{"0", "0.5", "1"}, []string{"1.01", "-0.1", "NaN", "half"}},
		"min.insync.replicas":                   {[]string{"1", "5"}, []string{"0", "two"}},
		"remote.storage.enable":                 {[]string{"false", "TRUE"}, []string{"yes", "1"}},
		"segment.ms":                            {[]string{"1"}, []string{"0"}},
		"varve.tier.compression":                {[]string{"auto", "none"}, []string{"lz4"}},
		"varve.tier.object.bytes":               {[]string{"1048576"}, []string{"1048575"}},
		"varve.tier.max.delay.ms":               {[]string{"1"}, []string{"0"}},
		"varve.label.team":                      {[]string{"", "payments", "größe"}, []string{"a\nb", strings.Repeat("x", 129)}},
		"leader.replication.throttled.replicas": {[]string{"", "*", "0:1,1:2"}, []string{"0:1,*", "a:b"}},
	} {
		k, ok := TopicConfigKey(key)
		if !ok {
			t.Fatalf("%s is unknown", key)
		}
		for _, v := range values.good {
			if err := k.Check(v); err != nil {
				t.Errorf("%s=%q: %v", key, v, err)
			}
		}
		for _, v := range values.bad {
			if k.Check(v) == nil {
				t.Errorf("%s=%q was accepted", key, v)
			}
		}
	}
}

func TestUnknownConfigNamesTheNearestKnownOne(t *testing.T) {
	for name, want := range map[string]string{
		"retention.mss": "did you mean retention.ms?", "retnetion.ms": "did you mean retention.ms?",
		"cleanup.polcy": "did you mean cleanup.policy?", "segment.byte": "did you mean segment.bytes?",
		"varve.tier.max.delay": "did you mean varve.tier.max.delay.ms?", "write.cache": "did you mean write.caching?",
	} {
		err := ValidateTopicConfigs(map[string]string{name: "1"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	for _, name := range []string{"", "x", "completely.different.thing", "varve.label.", "varve.label.a b", strings.Repeat("retention.ms", 100)} {
		err := ValidateTopicConfigs(map[string]string{name: "1"})
		if err == nil || strings.Contains(err.Error(), "did you mean") && !strings.HasPrefix(name, "varve.label") {
			t.Errorf("%.40q: %v", name, err)
		}
	}
}

func TestConfigsAreCheckedAgainstEachOther(t *testing.T) {
	tiered := func(more ...string) map[string]string {
		m := map[string]string{"remote.storage.enable": "true"}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	for name, tc := range map[string]struct {
		c    ConfigCheck
		want string // part of the fault; empty: fine
	}{
		"plain topic":                {ConfigCheck{New: map[string]string{"local.retention.ms": "999999999999"}}, ""},
		"tiered":                     {ConfigCheck{New: tiered("retention.ms", "1000", "local.retention.ms", "1000")}, ""},
		"local ms above total":       {ConfigCheck{New: tiered("retention.ms", "1000", "local.retention.ms", "1001")}, "local.retention.ms=1001: must not be above retention.ms=1000"},
		"local ms above default":     {ConfigCheck{New: tiered("local.retention.ms", "604800001")}, "must not be above retention.ms=604800000"},
		"local ms for ever":          {ConfigCheck{New: tiered("local.retention.ms", "-1")}, "must not be -1"},
		"both for ever":              {ConfigCheck{New: tiered("local.retention.ms", "-1", "retention.ms", "-1")}, ""},
		"local bytes above total":    {ConfigCheck{New: tiered("retention.bytes", "10", "local.retention.bytes", "11")}, "must not be above retention.bytes=10"},
		"local bytes without total":  {ConfigCheck{New: tiered("local.retention.bytes", "11")}, ""},
		"cluster default counts":     {ConfigCheck{New: tiered("local.retention.ms", "50"), Defaults: map[string]string{"retention.ms": "49"}}, "must not be above retention.ms=49"},
		"compacted":                  {ConfigCheck{New: tiered("cleanup.policy", "compact,delete")}, "tiering a compacted topic is not supported"},
		"compacted, not tiered":      {ConfigCheck{New: map[string]string{"cleanup.policy": "compact"}}, ""},
		"no store":                   {ConfigCheck{New: tiered(), NoStore: true}, "no object store is configured"},
		"tiering off":                {ConfigCheck{Old: tiered(), New: map[string]string{"remote.storage.enable": "false"}}, "remote.log.delete.on.disable=true"},
		"tiering removed":            {ConfigCheck{Old: tiered(), New: map[string]string{}}, "remote.log.delete.on.disable=true"},
		"tiering off, with delete":   {ConfigCheck{Old: tiered(), New: map[string]string{"remote.log.delete.on.disable": "true"}}, ""},
		"copy disabled":              {ConfigCheck{New: tiered("remote.log.copy.disable", "true", "local.retention.ms", "5")}, "must equal retention.ms"},
		"copy disabled, local as is": {ConfigCheck{New: tiered("remote.log.copy.disable", "true")}, ""},
		"copy lag above local":       {ConfigCheck{New: tiered("remote.copy.lag.ms", "6", "local.retention.ms", "5")}, "must not be above the local retention of 5"},
		"compaction lags":            {ConfigCheck{New: map[string]string{"min.compaction.lag.ms": "2", "max.compaction.lag.ms": "1"}}, "must not be above max.compaction.lag.ms=1"},
		"bad value":                  {ConfigCheck{New: tiered("retention.ms", "soon")}, "retention.ms=soon: want a whole number"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.c.Validate()
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var ce *ConfigError
			if !errors.As(err, &ce) || len(ce.Faults) != 1 || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func TestEveryConfigFaultIsReportedAtOnce(t *testing.T) {
	err := ValidateTopicConfigs(map[string]string{"segment.bytes": "1", "retention.ms": "x", "nonsense.key": "1"})
	var ce *ConfigError
	if !errors.As(err, &ce) || len(ce.Faults) != 3 || ce.Faults[0].Key != "nonsense.key" {
		t.Errorf("got %v", err)
	}
	many := map[string]string{}
	for i := range maxLabels + 1 {
		many[LabelPrefix+strings.Repeat("x", i+1)] = "v"
	}
	if err := ValidateTopicConfigs(many); err == nil || !strings.Contains(err.Error(), "labels") {
		t.Errorf("got %v", err)
	}
}

func TestEffectiveConfigIsTheDefaultOfEveryKey(t *testing.T) {
	c := Effective()
	want := TopicConfig{
		Delete: true, RetentionMS: 604800000, RetentionBytes: -1, LocalRetentionMS: 604800000, LocalRetentionBytes: -1,
		SegmentBytes: 128 << 20, SegmentMS: 604800000, IndexIntervalBytes: 4096, RecycleWindowMS: 3600000,
		MaxMessageBytes: 1048588, CompressionType: "producer", GzipLevel: -1, LZ4Level: 9, ZstdLevel: 3,
		TimestampBeforeMaxMS: math.MaxInt64, TimestampAfterMaxMS: 3600000, MinInsyncReplicas: 1, FlushMS: math.MaxInt64,
		MaxCompactionLagMS: math.MaxInt64, DeleteRetentionMS: 86400000, MinCleanableDirtyRatio: 0.5,
		TierMaxDelayMS: 3600000, TierObjectBytes: 128 << 20, TierFetchBytesPerSecond: math.MaxInt64, TierCompress: true,
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("have %+v\nwant %+v", c, want)
	}
}

func TestEffectiveConfigTakesTheMostSpecificLayer(t *testing.T) {
	c := Effective(
		map[string]string{"retention.ms": "100", "varve.label.team": "a", "segment.bytes": "garbage", "cleanup.policy": ""},
		map[string]string{"retention.ms": "50", "local.retention.ms": "200", "max.message.bytes": "5", "varve.label.x": "no", "retention.bytes": "-7"},
	)
	if c.RetentionMS != 100 || c.LocalRetentionMS != 100 || c.MaxMessageBytes != 5 || c.SegmentBytes != 128<<20 || c.RetentionBytes != -1 {
		t.Errorf("%+v", c)
	}
	if c.Delete || c.Compact || len(c.Labels) != 1 || c.Labels["team"] != "a" {
		t.Errorf("%+v", c)
	}
	lag := Effective(map[string]string{"remote.copy.lag.ms": "-1", "local.retention.ms": "9", "remote.copy.lag.bytes": "-1"})
	if lag.TierCopyLagMS != 9 || lag.TierCopyLagBytes != 0 {
		t.Errorf("copy lag %d ms, %d bytes", lag.TierCopyLagMS, lag.TierCopyLagBytes)
	}
}

func TestBrokerConfigsGiveTopicDefaults(t *testing.T) {
	have := TopicDefaults(map[string]string{
		"log.retention.hours": "2", "log.retention.minutes": "1", "log.roll.hours": "1", "message.max.bytes": "7",
		"log.cleanup.policy": "nonsense", "min.insync.replicas": "2", "num.partitions": "3", "log.roll.jitter.hours": "x",
	})
	want := map[string]string{"retention.ms": "60000", "segment.ms": "3600000", "max.message.bytes": "7", "min.insync.replicas": "2"}
	if !reflect.DeepEqual(have, want) {
		t.Errorf("have %v, want %v", have, want)
	}
	if c := Effective(nil, TopicDefaults(map[string]string{"log.retention.hours": "-1"})); c.RetentionMS != -1 {
		t.Errorf("retention %d", c.RetentionMS)
	}
}

func FuzzTopicConfigs(f *testing.F) {
	for _, k := range topicConfigKeys {
		f.Add(k.Name, k.Default, "local.retention.ms", "-1")
	}
	f.Add("varve.label.a", "b", "remote.storage.enable", "true")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		configs := map[string]string{k1: v1, k2: v2}
		err := ValidateTopicConfigs(configs)
		c := Effective(configs)
		if err == nil && c.Tiered && c.RetentionMS >= 0 && (c.LocalRetentionMS < 0 || c.LocalRetentionMS > c.RetentionMS) {
			t.Fatalf("%v gives %+v", configs, c)
		}
		if c.SegmentBytes < 1<<20 || c.MinInsyncReplicas < 1 {
			t.Fatalf("%v gives %+v", configs, c)
		}
	})
}
