package broker

import (
	"math"
	"time"
)

// GroupConfig holds the settings of consumer groups and of the topics of coordinators.
type GroupConfig struct {
	GroupMinSession, GroupMaxSession time.Duration
	GroupInitialDelay                time.Duration
	GroupMaxSize                     int32
	OffsetMetadataMax                int32
	OffsetsRetentionMinutes          int32
	OffsetsRetentionCheck            time.Duration

	OffsetsPartitions, TxnPartitions     int32
	OffsetsReplication, TxnReplication   int32
	OffsetsSegmentBytes, TxnSegmentBytes int64
}

const initialDelayKey = "group.initial.rebalance.delay.ms"

var groupKeys = []Key{
	{
		Name: "group.min.session.timeout.ms", Kafka: true, Type: TypeDuration, Default: "6s", Min: 1, Max: math.MaxInt32,
		Doc:   "Shortest session.timeout.ms that a member of a classic group may ask for.",
		field: func(c *Config) any { return &c.GroupMinSession },
	},
	{
		Name: "group.max.session.timeout.ms", Kafka: true, Type: TypeDuration, Default: "30m", Min: 1, Max: math.MaxInt32,
		Doc:   "Longest session.timeout.ms that a member of a classic group may ask for.",
		field: func(c *Config) any { return &c.GroupMaxSession },
	},
	{
		Name: initialDelayKey, Kafka: true, Type: TypeDuration, Default: "3s", Max: math.MaxInt32,
		Doc:   "How long the first members of an empty group wait for others, so that they are assigned once; 0 with --dev.",
		field: func(c *Config) any { return &c.GroupInitialDelay },
	},
	{
		Name: "group.max.size", Kafka: true, Type: TypeInt, Default: "2147483647", Min: 1,
		Doc:   "Members of one classic group; their subscriptions and assignments together are limited to 8 MiB in any case.",
		field: func(c *Config) any { return &c.GroupMaxSize },
	},
	{
		Name: "offset.metadata.max.bytes", Kafka: true, Type: TypeInt, Default: "4096", Max: math.MaxInt16,
		Doc:   "Longest metadata string of one committed offset.",
		field: func(c *Config) any { return &c.OffsetMetadataMax },
	},
	{
		Name: "offsets.retention.minutes", Kafka: true, Type: TypeInt, Default: "10080", Min: 1,
		Doc:   "Committed offsets are removed after so many minutes without members; of a simple consumer, after the last commit.",
		field: func(c *Config) any { return &c.OffsetsRetentionMinutes },
	},
	{
		Name: "offsets.retention.check.interval.ms", Kafka: true, Type: TypeDuration, Default: "10m", Min: 1, Max: math.MaxInt32,
		Doc:   "How often old offsets are looked for.",
		field: func(c *Config) any { return &c.OffsetsRetentionCheck },
	},
	{
		Name: "offsets.topic.num.partitions", Kafka: true, Type: TypeInt, Default: "50", Min: 1, Max: 10_000,
		Doc:   "Partitions of __consumer_offsets when it is made; must not change after that.",
		field: func(c *Config) any { return &c.OffsetsPartitions },
	},
	{
		Name: "offsets.topic.replication.factor", Kafka: true, Type: TypeInt, Default: "3", Min: 1, Max: math.MaxInt16,
		Difference: "where there are fewer brokers, as many replicas as brokers are made",
		Doc:        "Replicas of __consumer_offsets when it is made.",
		field:      func(c *Config) any { return &c.OffsetsReplication },
	},
	{
		Name: "offsets.topic.segment.bytes", Kafka: true, Type: TypeBytes, Default: "100MiB", Min: 1 << 20, Max: math.MaxInt32,
		Doc:   "Segment size of __consumer_offsets when it is made; small segments are compacted sooner and load faster.",
		field: func(c *Config) any { return &c.OffsetsSegmentBytes },
	},
	{
		Name: "transaction.state.log.num.partitions", Kafka: true, Type: TypeInt, Default: "50", Min: 1, Max: 10_000,
		Doc:   "Partitions of __transaction_state when it is made; must not change after that.",
		field: func(c *Config) any { return &c.TxnPartitions },
	},
	{
		Name: "transaction.state.log.replication.factor", Kafka: true, Type: TypeInt, Default: "3", Min: 1, Max: math.MaxInt16,
		Difference: "where there are fewer brokers, as many replicas as brokers are made",
		Doc:        "Replicas of __transaction_state when it is made.",
		field:      func(c *Config) any { return &c.TxnReplication },
	},
	{
		Name: "transaction.state.log.segment.bytes", Kafka: true, Type: TypeBytes, Default: "100MiB", Min: 1 << 20, Max: math.MaxInt32,
		Doc:   "Segment size of __transaction_state when it is made.",
		field: func(c *Config) any { return &c.TxnSegmentBytes },
	},
}

func (c *Config) checkGroups(f *faultList) {
	if c.GroupMinSession > c.GroupMaxSession {
		f.add(c, "group.min.session.timeout.ms", "%s is more than group.max.session.timeout.ms (%s)",
			FormatMillis(c.GroupMinSession), FormatMillis(c.GroupMaxSession))
	}
}
