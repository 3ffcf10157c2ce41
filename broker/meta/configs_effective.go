package meta

import (
	"math"
	"strings"
)

// KeyTierFetchRate is the topic config that bounds what a broker reads of a topic from the store.
const KeyTierFetchRate = "varve.tier.fetch.max.bytes.per.second"

// TopicConfig is what a topic's configs come to: every key parsed, cluster defaults and built-in
// defaults filled in. Times are milliseconds and sizes bytes, as in Kafka; -1 means no limit.
type TopicConfig struct {
	// Delete and Compact are cleanup.policy; with neither nothing is ever removed.
	Delete, Compact bool

	RetentionMS, RetentionBytes int64
	// LocalRetentionMS and LocalRetentionBytes have -2 resolved: at most the total retention.
	LocalRetentionMS, LocalRetentionBytes int64

	SegmentBytes       int64
	SegmentMS          int64
	SegmentJitterMS    int64
	IndexIntervalBytes int
	// RecycleWindowMS is how recently the segment before must have filled for a pooled file to be
	// taken; 0 never.
	RecycleWindowMS int64

	MaxMessageBytes int
	// CompressionType is producer, uncompressed, gzip, snappy, lz4 or zstd.
	CompressionType                 string
	GzipLevel, LZ4Level, ZstdLevel  int
	LogAppendTime                   bool
	TimestampBeforeMaxMS            int64
	TimestampAfterMaxMS             int64
	MinInsyncReplicas               int
	UncleanLeaderElection           bool
	WriteCaching                    bool
	FlushMS                         int64
	MinCompactionLagMS              int64
	MaxCompactionLagMS              int64
	DeleteRetentionMS               int64
	MinCleanableDirtyRatio          float64
	Tiered                          bool
	TierCopyDisabled                bool
	TierDeleteOnDisable             bool
	TierCopyLagMS, TierCopyLagBytes int64
	// TierMaxDelayMS rolls an idle active segment, so that data only on local disks stays young.
	TierMaxDelayMS int64
	// TierObjectBytes is the size up to which small neighbours are joined into one object.
	TierObjectBytes int64
	// TierFetchBytesPerSecond bounds what a broker reads of the topic from the store.
	TierFetchBytesPerSecond int64
	// TierCompress is varve.tier.compression=auto.
	TierCompress bool

	// Labels are the varve.label.<name> of the topic, by name; may be nil.
	Labels map[string]string
}

// Effective resolves a topic's configs. Layers come most specific first, the topic's own and then
// the cluster's; labels are only taken from the first.
func Effective(layers ...map[string]string) TopicConfig {
	v := configValues(layers)
	policy := v.list("cleanup.policy")
	c := TopicConfig{
		Delete: contains(policy, "delete"), Compact: contains(policy, "compact"),

		RetentionMS: unlimited(v.long("retention.ms")), RetentionBytes: unlimited(v.long("retention.bytes")),
		SegmentBytes: v.long("segment.bytes"), SegmentMS: v.long("segment.ms"), SegmentJitterMS: v.long("segment.jitter.ms"),
		IndexIntervalBytes: int(v.long("index.interval.bytes")), RecycleWindowMS: v.long("varve.segment.recycle.window.ms"),

		MaxMessageBytes: int(v.long("max.message.bytes")), CompressionType: strings.ToLower(v.checked("compression.type")),
		GzipLevel: int(v.long("compression.gzip.level")), LZ4Level: int(v.long("compression.lz4.level")),
		ZstdLevel: int(v.long("compression.zstd.level")), LogAppendTime: v.checked("message.timestamp.type") == "LogAppendTime",
		TimestampBeforeMaxMS: v.long("message.timestamp.before.max.ms"), TimestampAfterMaxMS: v.long("message.timestamp.after.max.ms"),

		MinInsyncReplicas: int(v.long(keyMinISR)), UncleanLeaderElection: v.boolean(keyUnclean),
		WriteCaching: v.boolean(keyWriteCaching), FlushMS: v.long("flush.ms"),

		MinCompactionLagMS: v.long("min.compaction.lag.ms"), MaxCompactionLagMS: v.long("max.compaction.lag.ms"),
		DeleteRetentionMS: v.long("delete.retention.ms"), MinCleanableDirtyRatio: v.double("min.cleanable.dirty.ratio"),

		Tiered: v.boolean(keyRemote), TierCopyDisabled: v.boolean("remote.log.copy.disable"),
		TierDeleteOnDisable: v.boolean("remote.log.delete.on.disable"),
		TierMaxDelayMS:      v.long("varve.tier.max.delay.ms"), TierObjectBytes: v.long("varve.tier.object.bytes"),
		TierFetchBytesPerSecond: v.long(KeyTierFetchRate), TierCompress: v.checked("varve.tier.compression") != "none",
	}
	c.LocalRetentionMS = localRetention(v.long("local.retention.ms"), c.RetentionMS)
	c.LocalRetentionBytes = localRetention(v.long("local.retention.bytes"), c.RetentionBytes)
	c.TierCopyLagMS = copyLag(v.long("remote.copy.lag.ms"), c.LocalRetentionMS)
	c.TierCopyLagBytes = copyLag(v.long("remote.copy.lag.bytes"), c.LocalRetentionBytes)
	if len(layers) > 0 {
		c.Labels = labelsOf(layers[0])
	}
	return c
}

// unlimited makes -1 of every negative value: Kafka takes them all as no limit.
func unlimited(n int64) int64 { return max(n, -1) }

// localRetention resolves -2, and never exceeds the total: a cluster default may have been set
// below what the topic says.
func localRetention(local, total int64) int64 {
	limit := func(n int64) int64 {
		if n < 0 {
			return math.MaxInt64
		}
		return n
	}
	if local == -2 || limit(local) > limit(total) {
		return total
	}
	return local
}

// copyLag resolves -1: as late as local retention allows, at once if that is for ever.
func copyLag(lag, local int64) int64 {
	if lag >= 0 {
		return lag
	}
	return max(local, 0)
}

func labelsOf(configs map[string]string) map[string]string {
	var labels map[string]string
	for key, value := range configs {
		if name, ok := strings.CutPrefix(key, LabelPrefix); ok {
			if labels == nil {
				labels = map[string]string{}
			}
			labels[name] = value
		}
	}
	return labels
}
