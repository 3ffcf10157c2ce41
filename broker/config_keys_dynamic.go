package broker

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// DynamicConfig holds the settings that Kafka lets one change at run time and that came with the
// admin surface.
type DynamicConfig struct {
	// Limits of the wire.
	MaxConnectionsPerIPOverrides string // address:number,...
	MaxConnectionRate            int32

	// Client quotas are averaged over (QuotaWindows - 1) * QuotaWindowSeconds. Not dynamic in Kafka.
	QuotaWindows, QuotaWindowSeconds int32

	// Topics that name nothing else.
	UncleanLeaderElection bool
	GzipLevel, LZ4Level   int32
	ZstdLevel             int32
	FlushInterval         time.Duration
	FlushMessages         int64
	RollJitter            time.Duration
	IndexSizeMax          int64
	SegmentDeleteDelay    time.Duration
	Preallocate           bool

	// Compaction.
	CleanerMinRatio        float64
	CleanerMinLag          time.Duration
	CleanerMaxLag          time.Duration
	CleanerDeleteRetention time.Duration

	Inert InertConfig
}

// InertConfig holds the settings that are accepted, kept and shown, and change nothing: each says
// in its documentation why that loses nothing.
type InertConfig struct {
	NetworkThreads, IOThreads, ReplicaFetchers, RecoveryThreads, BackgroundThreads int32
	CopierThreads, ExpirationThreads, ReaderThreads                                int32
	RemoteIndexCacheBytes                                                          int64
	RemoteListOffsetsTimeout                                                       time.Duration
	LeaderThrottle, FollowerThrottle, LogDirsThrottle                              int64
	TransactionVerification                                                        bool
}

var dynamicWireKeys = []Key{
	{
		Name: "max.connections.per.ip.overrides", Kafka: true, Type: TypeString, Default: "", Dynamic: true,
		Difference: "Kafka takes host names too",
		Doc:        "Client connections at one time from single addresses, as address:number,...; overrides max.connections.per.ip.",
		field:      func(c *Config) any { return &c.MaxConnectionsPerIPOverrides },
	},
	{
		Name: "max.connection.creation.rate", Kafka: true, Type: TypeInt, Default: "2147483647", Min: 1, Dynamic: true,
		Doc:   "Connections accepted in a second; those beyond it wait in the kernel's queue.",
		field: func(c *Config) any { return &c.MaxConnectionRate },
	},
}

var quotaConfigKeys = []Key{
	{
		Name: "quota.window.num", Kafka: true, Type: TypeInt, Default: "11", Min: 2, Max: 3600,
		Doc:   "Client quotas are averaged over one less than this many windows: what a client did not use within them it may use at once.",
		field: func(c *Config) any { return &c.QuotaWindows },
	},
	{
		Name: "quota.window.size.seconds", Kafka: true, Type: TypeInt, Default: "1", Min: 1, Max: 3600,
		Doc:   "Length of such a window.",
		field: func(c *Config) any { return &c.QuotaWindowSeconds },
	},
}

var dynamicTopicKeys = []Key{
	{
		Name: "unclean.leader.election.enable", Kafka: true, Topic: "unclean.leader.election.enable", Type: TypeBool, Default: "false", Dynamic: true,
		Doc:   "A replica that may lack acknowledged records can lead when no other is left.",
		field: func(c *Config) any { return &c.UncleanLeaderElection },
	},
	{
		Name: "compression.gzip.level", Kafka: true, Topic: "compression.gzip.level", Type: TypeInt, Default: "-1", Min: 1, Max: 9, Special: []Special{{-1, "gzip's own default"}}, Dynamic: true,
		Doc:   "Level of gzip where compression.type=gzip makes the broker compress.",
		field: func(c *Config) any { return &c.GzipLevel },
	},
	{
		Name: "compression.lz4.level", Kafka: true, Topic: "compression.lz4.level", Type: TypeInt, Default: "9", Min: 1, Max: 17, Dynamic: true,
		Doc:   "Level of lz4 where compression.type=lz4 makes the broker compress.",
		field: func(c *Config) any { return &c.LZ4Level },
	},
	{
		Name: "compression.zstd.level", Kafka: true, Topic: "compression.zstd.level", Type: TypeInt, Default: "3", Min: -131072, Max: 22, Dynamic: true,
		Doc:   "Level of zstd where compression.type=zstd makes the broker compress.",
		field: func(c *Config) any { return &c.ZstdLevel },
	},
	{
		Name: "log.flush.interval.ms", Kafka: true, Topic: "flush.ms", Type: TypeDuration, Default: "9223372036854775807", Dynamic: true,
		Doc:   "Topics with write.caching are synced after this time at most; all others before they acknowledge.",
		field: func(c *Config) any { return &c.FlushInterval },
	},
	{
		Name: "log.flush.interval.messages", Kafka: true, Topic: "flush.messages", Type: TypeInt, Default: "9223372036854775807", Min: 1, Dynamic: true,
		Doc:   "Records after which a log is synced. No effect here: every write is synced in groups, before acks=all is answered.",
		field: func(c *Config) any { return &c.FlushMessages },
	},
	{
		Name: "log.roll.jitter.ms", Kafka: true, Topic: "segment.jitter.ms", Type: TypeDuration, Default: "0", Dynamic: true,
		Doc:   "Most time taken at random from log.roll.ms. No effect here: closing a segment costs too little to be spread out.",
		field: func(c *Config) any { return &c.RollJitter },
	},
	{
		Name: "log.index.size.max.bytes", Kafka: true, Topic: "segment.index.bytes", Type: TypeBytes, Default: "10MiB", Min: 4, Max: math.MaxInt32, Dynamic: true,
		Doc:   "Size of the index file that is reserved for a segment. No effect here: indexes are written when a segment closes.",
		field: func(c *Config) any { return &c.IndexSizeMax },
	},
	{
		Name: "log.segment.delete.delay.ms", Kafka: true, Topic: "file.delete.delay.ms", Type: TypeDuration, Default: "1m", Dynamic: true,
		Doc:   "How long a removed file stays on disk. No effect here: it goes when its last reader has let go of it.",
		field: func(c *Config) any { return &c.SegmentDeleteDelay },
	},
	{
		Name: "log.preallocate", Kafka: true, Topic: "preallocate", Type: TypeBool, Default: "false", Dynamic: true,
		Doc:   "Whether a segment file gets its full size at once. No effect here: files are always extended in allocated steps.",
		field: func(c *Config) any { return &c.Preallocate },
	},
}

var cleanerKeys = []Key{
	{
		Name: "log.cleaner.min.cleanable.ratio", Kafka: true, Topic: "min.cleanable.dirty.ratio", Type: TypeFraction, Default: "0.5", Max: 1, Dynamic: true,
		Doc:   "Share of a compacted log that must be uncompacted before it is compacted again.",
		field: func(c *Config) any { return &c.CleanerMinRatio },
	},
	{
		Name: "log.cleaner.min.compaction.lag.ms", Kafka: true, Topic: "min.compaction.lag.ms", Type: TypeDuration, Default: "0", Dynamic: true,
		Doc:   "How long a record is safe from compaction.",
		field: func(c *Config) any { return &c.CleanerMinLag },
	},
	{
		Name: "log.cleaner.max.compaction.lag.ms", Kafka: true, Topic: "max.compaction.lag.ms", Type: TypeDuration, Default: "9223372036854775807", Min: 1, Dynamic: true,
		Doc:   "After how long at most a record is compacted.",
		field: func(c *Config) any { return &c.CleanerMaxLag },
	},
	{
		Name: "log.cleaner.delete.retention.ms", Kafka: true, Topic: "delete.retention.ms", Type: TypeDuration, Default: "1d", Dynamic: true,
		Doc:   "How long a compacted log keeps the tombstone of a deleted key.",
		field: func(c *Config) any { return &c.CleanerDeleteRetention },
	},
}

// Reasons why a key of Kafka's changes nothing here.
const (
	noThreadPools  = "No effect here: goroutines need no pool, and the machine's cores are all used."
	noReplicaMoves = "No effect here: replication is not throttled, and there is one data directory."
)

var inertKeys = []Key{
	inertThreads("num.network.threads", "3", "Threads that read requests and write replies.", func(c *Config) any { return &c.Inert.NetworkThreads }),
	inertThreads("num.io.threads", "8", "Threads that work on requests.", func(c *Config) any { return &c.Inert.IOThreads }),
	inertThreads("num.replica.fetchers", "1", "Threads that copy from each leader.", func(c *Config) any { return &c.Inert.ReplicaFetchers }),
	inertThreads("num.recovery.threads.per.data.dir", "2", "Threads that recover logs at the start.", func(c *Config) any { return &c.Inert.RecoveryThreads }),
	inertThreads("background.threads", "10", "Threads for work in the background.", func(c *Config) any { return &c.Inert.BackgroundThreads }),
	inertThreads("remote.log.manager.copier.thread.pool.size", "10", "Threads that upload; varve.tier.upload.slots counts.", func(c *Config) any { return &c.Inert.CopierThreads }),
	inertThreads("remote.log.manager.expiration.thread.pool.size", "10", "Threads that delete expired objects.", func(c *Config) any { return &c.Inert.ExpirationThreads }),
	inertThreads("remote.log.reader.threads", "10", "Threads that read from the store; varve.tier.read.slots counts.", func(c *Config) any { return &c.Inert.ReaderThreads }),
	{
		Name: "remote.log.index.file.cache.total.size.bytes", Kafka: true, Type: TypeBytes, Default: "1GiB", Min: 1, Dynamic: true,
		Doc:   "Disk for cached indexes of cold segments. No effect here: they are part of what varve.tier.memory.bytes bounds.",
		field: func(c *Config) any { return &c.Inert.RemoteIndexCacheBytes },
	},
	{
		Name: "remote.list.offsets.request.timeout.ms", Kafka: true, Type: TypeDuration, Default: "30s", Min: 1, Dynamic: true,
		Doc:   "Longest lookup of a cold offset by time. No effect here: no such request takes longer than 30 s.",
		field: func(c *Config) any { return &c.Inert.RemoteListOffsetsTimeout },
	},
	{
		Name: "transaction.partition.verification.enable", Kafka: true, Type: TypeBool, Default: "true", Dynamic: true,
		Doc:   "Transactional writes are checked with the transaction's coordinator. No effect here: they always are.",
		field: func(c *Config) any { return &c.Inert.TransactionVerification },
	},
	{
		Name: "leader.replication.throttled.rate", Kafka: true, Type: TypeBytesPerSecond, Default: "9223372036854775807", Dynamic: true,
		Doc:   "Bytes a second that throttled replicas may copy from this leader. " + noReplicaMoves,
		field: func(c *Config) any { return &c.Inert.LeaderThrottle },
	},
	{
		Name: "follower.replication.throttled.rate", Kafka: true, Type: TypeBytesPerSecond, Default: "9223372036854775807", Dynamic: true,
		Doc:   "Bytes a second that throttled replicas on this broker may copy. " + noReplicaMoves,
		field: func(c *Config) any { return &c.Inert.FollowerThrottle },
	},
	{
		Name: "replica.alter.log.dirs.io.max.bytes.per.second", Kafka: true, Type: TypeBytesPerSecond, Default: "9223372036854775807", Dynamic: true,
		Doc:   "Bytes a second that replicas may move between data directories. " + noReplicaMoves,
		field: func(c *Config) any { return &c.Inert.LogDirsThrottle },
	},
}

func inertThreads(name, value, doc string, field func(*Config) any) Key {
	return Key{Name: name, Kafka: true, Type: TypeInt, Default: value, Min: 1, Dynamic: true, Doc: doc + " " + noThreadPools, field: field}
}

// parseOverrides reads max.connections.per.ip.overrides.
func parseOverrides(text string) (map[string]int, error) {
	out := map[string]int{}
	for _, part := range splitList(text) {
		i := strings.LastIndexByte(part, ':')
		if i < 0 {
			return nil, fmt.Errorf("%q is not address:number", clip(part))
		}
		addr, err := netip.ParseAddr(strings.Trim(part[:i], "[]"))
		if err != nil {
			return nil, fmt.Errorf("%q is not an IP address", clip(part[:i]))
		}
		n, err := strconv.ParseInt(part[i+1:], 10, 32)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%q is not a number of connections", clip(part[i+1:]))
		}
		out[addr.Unmap().String()] = int(n)
	}
	return out, nil
}

func (c *Config) checkDynamic(f *faultList) {
	if _, err := parseOverrides(c.MaxConnectionsPerIPOverrides); err != nil {
		f.add(c, "max.connections.per.ip.overrides", "%v", err)
	}
	if c.CleanerMinLag > c.CleanerMaxLag {
		f.add(c, "log.cleaner.min.compaction.lag.ms", "%s is more than log.cleaner.max.compaction.lag.ms (%s)", FormatMillis(c.CleanerMinLag), FormatMillis(c.CleanerMaxLag))
	}
}

// quotaWindow is the time over which client quotas are averaged.
func (c *Config) quotaWindow() time.Duration {
	return time.Duration(c.QuotaWindows-1) * time.Duration(c.QuotaWindowSeconds) * time.Second
}
