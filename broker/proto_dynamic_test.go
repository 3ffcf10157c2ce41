package broker

import (
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/meta"
)

// alterBroker changes one key of a broker resource ("" is the default of all) and gives the code.
func (c *protoConn) alterBroker(name, key string, op kmsg.IncrementalAlterConfigOp, value string) (int16, string) {
	c.t.Helper()
	req := alterOf(kmsg.ConfigResourceTypeBroker, name, key, op, kmsg.StringPtr(value))
	r := ask[*kmsg.IncrementalAlterConfigsResponse](c, req).Resources[0]
	if r.ErrorMessage == nil {
		return r.ErrorCode, ""
	}
	return r.ErrorCode, *r.ErrorMessage
}

func (c *protoConn) mustAlterBroker(name, key, value string) {
	c.t.Helper()
	op := kmsg.IncrementalAlterConfigOpSet
	if value == "" {
		op = kmsg.IncrementalAlterConfigOpDelete
	}
	if code, message := c.alterBroker(name, key, op, value); code != 0 {
		c.t.Fatalf("%s=%s: code %d %s", key, value, code, message)
	}
}

// describe gives the row of a key, with its synonyms as "source=value" in order.
func (c *protoConn) describe(kind kmsg.ConfigResourceType, name, key string) (row kmsg.DescribeConfigsResponseResourceConfig, synonyms string) {
	c.t.Helper()
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version, req.IncludeSynonyms, req.IncludeDocumentation = 4, true, true
	req.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: name, ConfigNames: []string{key}}}
	r := ask[*kmsg.DescribeConfigsResponse](c, req).Resources[0]
	if r.ErrorCode != 0 || len(r.Configs) > 1 {
		c.t.Fatalf("describe %s of %s: code %d, %d rows", key, name, r.ErrorCode, len(r.Configs))
	}
	if len(r.Configs) == 0 {
		return row, "nothing"
	}
	var list []string
	for _, s := range r.Configs[0].ConfigSynonyms {
		list = append(list, s.Source.String()+" "+s.Name+"="+*s.Value)
	}
	return r.Configs[0], strings.Join(list, ", ")
}

func TestBrokerConfigsAreLayeredAndShownWithTheirSources(t *testing.T) {
	b := protoBroker(t, func(c *Config) {
		loaded, err := Load(Sources{Sets: []string{"log.retention.bytes=1GiB"}})
		if err != nil {
			t.Fatal(err)
		}
		c.LogRetentionBytes, c.origin = loaded.LogRetentionBytes, loaded.origin
	})
	c := dialProto(t, b)
	c.makeTopic("t", 1, nil)
	const kind = kmsg.ConfigResourceTypeBroker
	want := func(name, key, synonyms string) {
		t.Helper()
		if _, got := c.describe(kind, name, key); got != synonyms {
			t.Errorf("%s of %q:\nhave %s\nwant %s", key, name, got, synonyms)
		}
	}
	const file = "STATIC_BROKER_CONFIG log.retention.bytes=1073741824, DEFAULT_CONFIG log.retention.bytes=-1"
	want("1", "log.retention.bytes", file)
	c.mustAlterBroker("", "log.retention.bytes", "2GiB") // a size is kept as Kafka writes it
	want("1", "log.retention.bytes", "DYNAMIC_DEFAULT_BROKER_CONFIG log.retention.bytes=2147483648, "+file)
	want("", "log.retention.bytes", "DYNAMIC_DEFAULT_BROKER_CONFIG log.retention.bytes=2147483648, "+file)
	c.mustAlterBroker("1", "log.retention.bytes", "77")
	want("1", "log.retention.bytes", "DYNAMIC_BROKER_CONFIG log.retention.bytes=77, DYNAMIC_DEFAULT_BROKER_CONFIG log.retention.bytes=2147483648, "+file)
	want("", "log.segment.bytes", "nothing")
	if row, _ := c.describe(kmsg.ConfigResourceTypeTopic, "t", "retention.bytes"); *row.Value != "77" {
		t.Errorf("the topic has retention.bytes=%s", *row.Value)
	}
	eventually(t, "the replica retains by the new size", func() bool { return replicaOf(t, b, "t", 0).Config().RetentionBytes == 77 })
	c.mustAlterBroker("1", "log.retention.bytes", "")
	c.mustAlterBroker("", "log.retention.bytes", "")
	want("1", "log.retention.bytes", file)
	if row, _ := c.describe(kind, "1", "listen"); !row.ReadOnly {
		t.Error("listen is not shown as read only")
	}
}

func TestEveryDynamicKeyOfKafkaIsTakenAtRunTime(t *testing.T) {
	c := dialProto(t, protoBroker(t, nil))
	// The list of Kafka 4.2, but for what belongs to listeners, TLS, SASL and metric classes.
	for _, key := range []string{
		"background.threads", "compression.gzip.level", "compression.lz4.level", "compression.type", "compression.zstd.level",
		"follower.replication.throttled.rate", "leader.replication.throttled.rate",
		"log.cleaner.delete.retention.ms", "log.cleaner.max.compaction.lag.ms", "log.cleaner.min.cleanable.ratio", "log.cleaner.min.compaction.lag.ms",
		"log.cleanup.policy", "log.flush.interval.messages", "log.flush.interval.ms", "log.index.interval.bytes", "log.index.size.max.bytes",
		"log.local.retention.bytes", "log.local.retention.ms", "log.message.timestamp.after.max.ms", "log.message.timestamp.before.max.ms",
		"log.message.timestamp.type", "log.preallocate", "log.retention.bytes", "log.retention.ms", "log.roll.jitter.ms", "log.roll.ms",
		"log.segment.bytes", "log.segment.delete.delay.ms", "max.connection.creation.rate", "max.connections", "max.connections.per.ip",
		"max.connections.per.ip.overrides", "message.max.bytes", "min.insync.replicas", "num.io.threads", "num.network.threads",
		"num.recovery.threads.per.data.dir", "num.replica.fetchers", "producer.id.expiration.ms", "remote.fetch.max.wait.ms",
		"remote.list.offsets.request.timeout.ms", "remote.log.index.file.cache.total.size.bytes", "remote.log.manager.copier.thread.pool.size",
		"remote.log.manager.copy.max.bytes.per.second", "remote.log.manager.expiration.thread.pool.size",
		"remote.log.manager.fetch.max.bytes.per.second", "remote.log.reader.threads", "replica.alter.log.dirs.io.max.bytes.per.second",
		"unclean.leader.election.enable", "log.cleaner.threads", "log.cleaner.dedupe.buffer.size", "log.cleaner.io.buffer.size",
		"log.cleaner.io.buffer.load.factor", "log.cleaner.io.max.bytes.per.second", "log.cleaner.backoff.ms",
		"transaction.partition.verification.enable",
	} {
		row, _ := c.describe(kmsg.ConfigResourceTypeBroker, "1", key)
		if row.Name == "" || row.ReadOnly || row.Documentation == nil || *row.Documentation == "" {
			t.Errorf("%s: %+v", key, row)
			continue
		}
		for name, kind := range map[string]kmsg.ConfigType{
			"log.cleanup.policy": kmsg.ConfigTypeList, "log.segment.bytes": kmsg.ConfigTypeInt, "log.retention.ms": kmsg.ConfigTypeLong,
			"log.cleaner.min.cleanable.ratio": kmsg.ConfigTypeDouble, "log.flush.interval.messages": kmsg.ConfigTypeLong, "num.io.threads": kmsg.ConfigTypeInt,
		} {
			if key == name && row.ConfigType != kind {
				t.Errorf("%s is shown as %v", key, row.ConfigType)
			}
		}
		if code, message := c.alterBroker("1", key, kmsg.IncrementalAlterConfigOpSet, *row.Value); code != 0 {
			t.Errorf("%s=%s: code %d %s", key, *row.Value, code, message)
		}
	}
}

func TestBadBrokerConfigsAreRefusedAndChangeNothing(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	set := kmsg.IncrementalAlterConfigOpSet
	for what, x := range map[string]struct {
		name, key string
		op        kmsg.IncrementalAlterConfigOp
		value     string
		code      int16
		says      string
	}{
		"unknown key":       {"", "log.retention.mz", set, "1", kerr.InvalidConfig.Code, "log.retention.ms"},
		"needs a restart":   {"1", "listen", set, "127.0.0.1:1", kerr.InvalidConfig.Code, "restart"},
		"no number":         {"1", "max.connections", set, "many", kerr.InvalidConfig.Code, "max.connections"},
		"out of bounds":     {"1", "log.segment.bytes", set, "1", kerr.InvalidConfig.Code, "log.segment.bytes"},
		"no fraction":       {"1", "log.cleaner.min.cleanable.ratio", set, "NaN", kerr.InvalidConfig.Code, "outside"},
		"bad overrides":     {"1", "max.connections.per.ip.overrides", set, "host:3", kerr.InvalidConfig.Code, "IP address"},
		"against another":   {"1", "log.local.retention.bytes", set, "5", 0, ""},
		"append to a value": {"1", "log.retention.ms", kmsg.IncrementalAlterConfigOpAppend, "5", kerr.InvalidConfig.Code, "not a list"},
		"another broker":    {"2", "log.retention.ms", set, "5", kerr.InvalidRequest.Code, "not this one"},
		"no broker":         {"one", "log.retention.ms", set, "5", kerr.InvalidRequest.Code, "not this one"},
	} {
		code, message := c.alterBroker(x.name, x.key, x.op, x.value)
		if code != x.code || !strings.Contains(message, x.says) {
			t.Errorf("%s: code %d %q, want %d", what, code, message, x.code)
		}
	}
	if code, message := c.alterBroker("", "log.retention.bytes", set, "4"); code != kerr.InvalidConfig.Code || !strings.Contains(message, "log.local.retention.bytes") {
		t.Errorf("against what the broker sets itself: code %d %q", code, message)
	}
	if n := len(b.node.Image().ClusterConfigs()) + len(b.node.Image().BrokerConfigs(1)); n != 1 {
		t.Errorf("%d keys are set", n)
	}
	if code, message := c.alterBroker("", "log.cleanup.policy", kmsg.IncrementalAlterConfigOpAppend, "compact"); code != 0 || b.node.Image().ClusterConfigs()["log.cleanup.policy"] != "delete,compact" {
		t.Errorf("append to a list: code %d %s, have %v", code, message, b.node.Image().ClusterConfigs())
	}
}

func TestOneDynamicConfigThatNoLongerFitsDoesNotUndoTheOthers(t *testing.T) {
	c := DefaultConfig()
	c.LogRetentionBytes = 10 // the file was changed after log.local.retention.bytes had been set
	now, err := c.withValid(map[string]string{"log.local.retention.bytes": "20", "max.connections": "7", "no.such.key": "1", "min.insync.replicas": "2"})
	if now.MaxConnections != 7 || now.MinInsyncReplicas != 2 || now.LogLocalRetentionBytes != FollowTotalBytes {
		t.Errorf("max.connections %d, min.insync.replicas %d, log.local.retention.bytes %d", now.MaxConnections, now.MinInsyncReplicas, now.LogLocalRetentionBytes)
	}
	if err == nil || !strings.Contains(err.Error(), "log.local.retention.bytes") || !strings.Contains(err.Error(), "no.such.key") || strings.Contains(err.Error(), "max.connections") {
		t.Errorf("told: %v", err)
	}
}

func TestLimitsOfConnectionsFollowTheConfigAtOnce(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	served := func() bool {
		again, probe := dialProto(t, b), kmsg.NewPtrApiVersionsRequest()
		again.send(probe)
		_, err := again.tryReceive(probe)
		again.nc.Close()
		return err == nil
	}
	if !served() {
		t.Fatal("not served without a limit")
	}
	eventually(t, "one connection is left", func() bool { return b.wire.Stats().Connections == 1 })
	for key, value := range map[string]string{"max.connections": "1", "max.connections.per.ip": "1", "max.connections.per.ip.overrides": "127.0.0.1:1"} {
		c.mustAlterBroker("1", key, value)
		if served() {
			t.Errorf("a second connection is served with %s=%s", key, value)
		}
		c.mustAlterBroker("1", key, "")
		if !served() {
			t.Errorf("a second connection is refused after %s was taken away", key)
		}
		eventually(t, "one connection is left", func() bool { return b.wire.Stats().Connections == 1 })
	}
	c.mustAlterBroker("", "max.connection.creation.rate", "7")
	if l := wireLimits(b.topics.dynamic.Load()); l.AcceptRate != 7 || l.MaxConns != math.MaxInt32 {
		t.Errorf("%+v", l)
	}
}

func TestTheRootLoggersLevelIsShownAndSet(t *testing.T) {
	level := new(slog.LevelVar)
	b := protoBroker(t, func(c *Config) { c.LevelVar = level })
	c := dialProto(t, b)
	const kind = kmsg.ConfigResourceTypeBrokerLogger
	alter := func(name, logger string, op kmsg.IncrementalAlterConfigOp, value string) int16 {
		t.Helper()
		return ask[*kmsg.IncrementalAlterConfigsResponse](c, alterOf(kind, name, logger, op, kmsg.StringPtr(value))).Resources[0].ErrorCode
	}
	set, remove := kmsg.IncrementalAlterConfigOpSet, kmsg.IncrementalAlterConfigOpDelete
	for _, name := range []string{"DEBUG", "TRACE", "FATAL", "ERROR", "WARN", "INFO"} {
		if code := alter("1", "root", set, name); code != 0 {
			t.Errorf("%s: code %d", name, code)
		}
		if row, _ := c.describe(kind, "1", "root"); *row.Value != name || row.Source != kmsg.ConfigSourceDynamicBrokerLoggerConfig {
			t.Errorf("%s: %+v", name, row)
		}
	}
	alter("1", "root", set, "WARN")
	if level.Level() != slog.LevelWarn {
		t.Errorf("the logger is at %v", level.Level())
	}
	for what, code := range map[string][2]int16{
		"unknown level":  {alter("1", "root", set, "LOUD"), kerr.InvalidConfig.Code},
		"lower case":     {alter("1", "root", set, "debug"), kerr.InvalidConfig.Code},
		"unknown logger": {alter("1", "kafka.server", set, "INFO"), kerr.InvalidConfig.Code},
		"root removed":   {alter("1", "root", remove, ""), kerr.InvalidRequest.Code},
		"append":         {alter("1", "root", kmsg.IncrementalAlterConfigOpAppend, "INFO"), kerr.InvalidRequest.Code},
		"another broker": {alter("2", "root", set, "INFO"), kerr.InvalidRequest.Code},
		"no broker":      {alter("", "root", set, "INFO"), kerr.InvalidRequest.Code},
	} {
		if code[0] != code[1] {
			t.Errorf("%s: code %d, want %d", what, code[0], code[1])
		}
	}
	old := kmsg.NewPtrAlterConfigsRequest()
	old.Version = 2
	old.Resources = []kmsg.AlterConfigsRequestResource{{ResourceType: kind, ResourceName: "1"}}
	if r := ask[*kmsg.AlterConfigsResponse](c, old).Resources[0]; r.ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("AlterConfigs: %+v", r)
	}
	if level.Level() != slog.LevelWarn {
		t.Errorf("a refused change left the logger at %v", level.Level())
	}
}

// kafkaTopicKeys are the topic configs of Kafka 4.2.
var kafkaTopicKeys = []string{
	"cleanup.policy", "compression.gzip.level", "compression.lz4.level", "compression.type", "compression.zstd.level", "delete.retention.ms",
	"file.delete.delay.ms", "flush.messages", "flush.ms", "follower.replication.throttled.replicas", "index.interval.bytes",
	"leader.replication.throttled.replicas", "local.retention.bytes", "local.retention.ms", "max.compaction.lag.ms", "max.message.bytes",
	"message.timestamp.after.max.ms", "message.timestamp.before.max.ms", "message.timestamp.type", "min.cleanable.dirty.ratio",
	"min.compaction.lag.ms", "min.insync.replicas", "preallocate", "remote.log.copy.disable", "remote.log.delete.on.disable",
	"remote.storage.enable", "retention.bytes", "retention.ms", "segment.bytes", "segment.index.bytes", "segment.jitter.ms", "segment.ms",
	"unclean.leader.election.enable",
}

func TestEveryTopicKeyOfKafkaIsKnownDocumentedAndHasItsBrokerKey(t *testing.T) {
	c := dialProto(t, protoBroker(t, nil))
	c.makeTopic("t", 1, nil)
	noBroker := []string{ // keys that no broker key of Kafka's gives a default to
		"follower.replication.throttled.replicas", "leader.replication.throttled.replicas", "remote.log.copy.disable", "remote.log.delete.on.disable", "remote.storage.enable",
	}
	for _, key := range kafkaTopicKeys {
		row, synonyms := c.describe(kmsg.ConfigResourceTypeTopic, "t", key)
		if row.Name == "" || row.Documentation == nil || len(*row.Documentation) < 10 || row.ConfigType == 0 || row.ReadOnly {
			t.Errorf("%s: %+v", key, row)
			continue
		}
		k, _ := meta.TopicConfigKey(key)
		if hasBroker := len(k.Synonyms) > 0; hasBroker == slices.Contains(noBroker, key) {
			t.Errorf("%s has the synonyms %v", key, k.Synonyms)
		} else if hasBroker && !strings.Contains(synonyms, "DEFAULT_CONFIG "+k.Synonyms[0]+"=") {
			t.Errorf("%s is shown with the synonyms %s", key, synonyms)
		}
		if k.NoEffect != "" && !strings.Contains(*row.Documentation, "No effect here: ") {
			t.Errorf("%s does not say that it has no effect: %s", key, *row.Documentation)
		}
	}
}
