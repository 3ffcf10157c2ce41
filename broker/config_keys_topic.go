package broker

// What Kafka calls -1 and -2 in retention keys.
var (
	neverByTime   = []Special{{-1, "never by time"}}
	neverBySize   = []Special{{-1, "never by size"}}
	localAsTotal  = []Special{{-2, "the same as log.retention.ms"}, {-1, "never by time"}}
	localAsTotalB = []Special{{-2, "the same as log.retention.bytes"}, {-1, "never by size"}}
)

// topicDefaultKeys are the settings of topics that name nothing else, under Kafka's broker names.
var topicDefaultKeys = []Key{
	{
		Name: "auto.create.topics.enable", Kafka: true, Type: TypeBool, Default: "true",
		Doc:   "A client that asks for an unknown topic with permission to create it gets it.",
		field: func(c *Config) any { return &c.AutoCreateTopics },
	},
	{
		Name: "num.partitions", Kafka: true, Type: TypeInt, Default: "1", Min: 1, Max: 10_000,
		Doc:   "Partitions of a new topic that names no number.",
		field: func(c *Config) any { return &c.NumPartitions },
	},
	{
		Name: "default.replication.factor", Kafka: true, Type: TypeInt, Default: "1", Min: 1, Max: 32767,
		Doc:   "Replicas of a new topic that names no number.",
		field: func(c *Config) any { return &c.DefaultReplicationFactor },
	},
	{
		Name: "min.insync.replicas", Kafka: true, Topic: "min.insync.replicas", Type: TypeInt, Default: "1", Min: 1, Max: 32767, Dynamic: true,
		Doc:   "In-sync replicas that a write with acks=all needs.",
		field: func(c *Config) any { return &c.MinInsyncReplicas },
	},
	{
		Name: "message.max.bytes", Kafka: true, Topic: "max.message.bytes", Type: TypeBytes, Default: "1048588", Max: 100 << 20, Dynamic: true, // no larger batch is ever read
		Doc:   "Largest record batch that a topic takes.",
		field: func(c *Config) any { return &c.MessageMaxBytes },
	},
	{
		Name: "compression.type", Kafka: true, Topic: "compression.type", Type: TypeString, Default: "producer", Dynamic: true,
		Values: []string{"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"},
		Doc:    "Codec of stored batches; producer keeps what the client sent.",
		field:  func(c *Config) any { return &c.CompressionType },
	},
	{
		Name: "write.caching", Topic: "write.caching", Type: TypeBool, Default: "false", Dynamic: true,
		Doc:   "Topics acknowledge before fdatasync, which a power cut can undo; false loses nothing that was acknowledged.",
		field: func(c *Config) any { return &c.WriteCachingDefault },
	},
	{
		Name: "log.cleanup.policy", Kafka: true, Topic: "cleanup.policy", Type: TypeString, Default: "delete", Dynamic: true,
		Values: []string{"delete", "compact", "compact,delete", "delete,compact"},
		Doc:    "What happens to old records: delete by time and size, or keep the newest of each key.",
		field:  func(c *Config) any { return &c.LogCleanupPolicy },
	},
	{
		Name: "log.retention.ms", Kafka: true, Topic: "retention.ms", Type: TypeDuration, Default: "7d", Special: neverByTime, Dynamic: true,
		Difference: "the same week that Kafka writes as log.retention.hours=168; the hours and minutes keys do not exist here",
		Doc:        "Age at which records may be deleted, over both tiers.",
		field:      func(c *Config) any { return &c.LogRetention },
	},
	{
		Name: "log.retention.bytes", Kafka: true, Topic: "retention.bytes", Type: TypeBytes, Default: "-1", Special: neverBySize, Dynamic: true,
		Doc:   "Size of a partition, over both tiers, above which its oldest records may be deleted.",
		field: func(c *Config) any { return &c.LogRetentionBytes },
	},
	{
		Name: "log.local.retention.ms", Kafka: true, Topic: "local.retention.ms", Type: TypeDuration, Default: "-2", Special: localAsTotal, Dynamic: true,
		Doc:   "Age at which records of a tiered topic leave the local disk; never before they are in the store.",
		field: func(c *Config) any { return &c.LogLocalRetention },
	},
	{
		Name: "log.local.retention.bytes", Kafka: true, Topic: "local.retention.bytes", Type: TypeBytes, Default: "-2", Special: localAsTotalB, Dynamic: true,
		Doc:   "Local size of a partition of a tiered topic above which its oldest segments leave the disk; never before they are in the store.",
		field: func(c *Config) any { return &c.LogLocalRetentionBytes },
	},
	{
		Name: "log.retention.check.interval.ms", Kafka: true, Type: TypeDuration, Default: "5m", Min: 100,
		Doc:   "How often retention looks at every partition.",
		field: func(c *Config) any { return &c.LogRetentionCheck },
	},
	{
		Name: "log.segment.bytes", Kafka: true, Topic: "segment.bytes", Type: TypeBytes, Default: "128MiB", Min: 1 << 20, Max: 1<<31 - 1, Dynamic: true,
		Difference: "Kafka's default is 1GiB, which keeps data from tiering",
		Doc:        "Size at which a segment is sealed; a sealed segment is what is uploaded.",
		field:      func(c *Config) any { return &c.LogSegmentBytes },
	},
	{
		Name: "log.roll.ms", Kafka: true, Topic: "segment.ms", Type: TypeDuration, Default: "7d", Min: 1, Dynamic: true,
		Difference: "the same week that Kafka writes as log.roll.hours=168",
		Doc:        "Age at which a segment is sealed even if it is not full.",
		field:      func(c *Config) any { return &c.LogRoll },
	},
	{
		Name: "log.index.interval.bytes", Kafka: true, Topic: "index.interval.bytes", Type: TypeBytes, Default: "4KiB", Max: 1 << 30, Dynamic: true,
		Doc:   "Bytes of log between two entries of its index.",
		field: func(c *Config) any { return &c.LogIndexIntervalBytes },
	},
	{
		Name: "log.message.timestamp.type", Kafka: true, Topic: "message.timestamp.type", Type: TypeString, Default: "CreateTime", Dynamic: true,
		Values: []string{"CreateTime", "LogAppendTime"},
		Doc:    "Whether a record carries the producer's time or the broker's.",
		field:  func(c *Config) any { return &c.LogTimestampType },
	},
	{
		Name: "log.message.timestamp.before.max.ms", Kafka: true, Topic: "message.timestamp.before.max.ms", Type: TypeDuration, Default: "9223372036854775807", Dynamic: true,
		Doc:   "How far a record's time may lie before the broker's clock.",
		field: func(c *Config) any { return &c.LogTimestampBeforeMax },
	},
	{
		Name: "log.message.timestamp.after.max.ms", Kafka: true, Topic: "message.timestamp.after.max.ms", Type: TypeDuration, Default: "1h", Dynamic: true,
		Doc:   "How far a record's time may lie after the broker's clock.",
		field: func(c *Config) any { return &c.LogTimestampAfterMax },
	},
}
