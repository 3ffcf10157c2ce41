package meta

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Reasons why a key of Kafka's changes nothing here.
const (
	notReplicating = "replication is not throttled by replica lists"
)

const maxLong = "9223372036854775807"

// topicConfigKeys is every topic config of Kafka 4.2, the two remote.copy.lag keys that followed it
// (KIP-1241), and Varve's own. Defaults are Kafka's unless KafkaDefault says otherwise.
var topicConfigKeys = slices.Concat(
	retentionKeys, segmentKeys, messageKeys, replicaKeys, compactionKeys, tierKeys)

var retentionKeys = []ConfigKey{
	{
		Name: "cleanup.policy", Type: ConfigList, Default: "delete", Synonyms: []string{"log.cleanup.policy"},
		Valid: "delete, compact, both, or empty", check: listOf("delete", "compact"),
		doc: "How old data goes: delete removes it by time and size, compact keeps the newest value of each key. Empty keeps everything.",
	},
	{
		Name: "retention.ms", Type: ConfigLong, Default: "604800000",
		Synonyms: []string{"log.retention.ms", "log.retention.minutes", "log.retention.hours"},
		Valid:    "at least -1", check: atLeast(-1),
		doc: "How long records are kept, in both tiers together, in milliseconds; -1 is for ever.",
	},
	{
		Name: "retention.bytes", Type: ConfigLong, Default: "-1", Synonyms: []string{"log.retention.bytes"},
		doc: "How many bytes of a partition are kept, in both tiers together; -1 is no limit.",
	},
	{
		Name: "local.retention.ms", Type: ConfigLong, Default: "-2", Synonyms: []string{"log.local.retention.ms"},
		Valid: "at least -2", check: atLeast(-2),
		doc: "How long tiered data also stays on local disk, in milliseconds; -2 is as long as retention.ms.",
	},
	{
		Name: "local.retention.bytes", Type: ConfigLong, Default: "-2", Synonyms: []string{"log.local.retention.bytes"},
		Valid: "at least -2", check: atLeast(-2),
		doc: "How many bytes of a partition stay on local disk once they are tiered; -2 is as many as retention.bytes.",
	},
	{
		Name: "file.delete.delay.ms", Type: ConfigLong, Default: "60000", Synonyms: []string{"log.segment.delete.delay.ms"},
		Valid: "at least 0", check: atLeast(0), NoEffect: "a file goes when its last reader has let go of it",
		doc: "How long a removed file stays on disk, in milliseconds.",
	},
}

var segmentKeys = []ConfigKey{
	{
		Name: "segment.bytes", Type: ConfigInt, Default: "134217728", KafkaDefault: "1073741824",
		Synonyms: []string{"log.segment.bytes"}, Valid: "at least 1048576", check: atLeast(1 << 20),
		doc: "Size of a segment file, which is also what one upload moves to the object store. Kafka's 1 GiB keeps data from tiering.",
	},
	{
		Name: "segment.ms", Type: ConfigLong, Default: "604800000", Synonyms: []string{"log.roll.ms", "log.roll.hours"},
		Valid: "at least 1", check: atLeast(1),
		doc: "After how many milliseconds a segment that is not full is closed, so that retention can take it.",
	},
	{
		Name: "segment.jitter.ms", Type: ConfigLong, Default: "0",
		Synonyms: []string{"log.roll.jitter.ms", "log.roll.jitter.hours"}, Valid: "at least 0", check: atLeast(0),
		NoEffect: "closing a segment costs too little to be spread out",
		doc:      "Most milliseconds taken at random from segment.ms, so that segments do not all close at once.",
	},
	{
		Name: "segment.index.bytes", Type: ConfigInt, Default: "10485760", Synonyms: []string{"log.index.size.max.bytes"},
		Valid: "at least 4", check: atLeast(4), NoEffect: "indexes grow in memory and are written when a segment closes",
		doc: "Size of the index file that is reserved for a segment.",
	},
	{
		Name: "index.interval.bytes", Type: ConfigInt, Default: "4096", Synonyms: []string{"log.index.interval.bytes"},
		Valid: "at least 0", check: atLeast(0),
		doc: "About how many bytes of log lie between two index entries.",
	},
	{
		Name: "preallocate", Type: ConfigBoolean, Default: "false", Synonyms: []string{"log.preallocate"},
		NoEffect: "files are always extended in allocated steps",
		doc:      "Whether a segment file gets its full size at once.",
	},
	{
		Name: "flush.messages", Type: ConfigLong, Default: maxLong, Synonyms: []string{"log.flush.interval.messages"},
		Valid: "at least 1", check: atLeast(1), NoEffect: "every write is synced in groups, before acks=all is answered",
		doc: "After how many records the log is synced to disk.",
	},
	{
		Name: "flush.ms", Type: ConfigLong, Default: maxLong,
		Synonyms: []string{"log.flush.interval.ms", "log.flush.scheduler.interval.ms"}, Valid: "at least 0", check: atLeast(0),
		doc: "With write.caching=true, after how many milliseconds at most the log is synced to disk. Without it every write is synced in groups, before acks=all is answered.",
	},
	{
		Name: "varve.segment.recycle.window.ms", Type: ConfigLong, Default: "3600000", Valid: "at least 0", check: atLeast(0),
		doc: "A new segment takes an already written file from the pool if the segment before it filled within so many milliseconds; 0 never does.",
	},
}

var messageKeys = []ConfigKey{
	{
		Name: "max.message.bytes", Type: ConfigInt, Default: "1048588", Synonyms: []string{"message.max.bytes"},
		Valid: "at least 0", check: atLeast(0),
		doc: "Size of the largest record batch that is taken, as it is sent, that is after compression.",
	},
	{
		Name: "compression.type", Type: ConfigString, Default: "producer", Synonyms: []string{"compression.type"},
		Valid: "producer, uncompressed, gzip, snappy, lz4 or zstd",
		check: oneOf("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"),
		doc:   "Compression of stored batches; producer keeps them as they were sent, which costs the broker nothing.",
	},
	{
		Name: "compression.gzip.level", Type: ConfigInt, Default: "-1", Synonyms: []string{"compression.gzip.level"},
		Valid: "-1 or 1 to 9", check: gzipLevel,
		doc: "Level of gzip where compression.type=gzip makes the broker compress; -1 is gzip's own default.",
	},
	{
		Name: "compression.lz4.level", Type: ConfigInt, Default: "9", Synonyms: []string{"compression.lz4.level"},
		Valid: "1 to 17", check: between(1, 17),
		doc: "Level of lz4 where compression.type=lz4 makes the broker compress.",
	},
	{
		Name: "compression.zstd.level", Type: ConfigInt, Default: "3", Synonyms: []string{"compression.zstd.level"},
		Valid: "-131072 to 22", check: between(-131072, 22),
		doc: "Level of zstd where compression.type=zstd makes the broker compress.",
	},
	{
		Name: "message.timestamp.type", Type: ConfigString, Default: "CreateTime",
		Synonyms: []string{"log.message.timestamp.type"}, Valid: "CreateTime or LogAppendTime",
		check: oneOf("CreateTime", "LogAppendTime"),
		doc:   "Whether a record keeps the time that its producer gave it or gets the broker's.",
	},
	{
		Name: "message.timestamp.before.max.ms", Type: ConfigLong, Default: maxLong,
		Synonyms: []string{"log.message.timestamp.before.max.ms"}, Valid: "at least 0", check: atLeast(0),
		doc: "By how many milliseconds a producer's timestamp may lie before the broker's clock.",
	},
	{
		Name: "message.timestamp.after.max.ms", Type: ConfigLong, Default: "3600000",
		Synonyms: []string{"log.message.timestamp.after.max.ms"}, Valid: "at least 0", check: atLeast(0),
		doc: "By how many milliseconds a producer's timestamp may lie after the broker's clock.",
	},
}

var replicaKeys = []ConfigKey{
	{
		Name: keyMinISR, Type: ConfigInt, Default: "1", Synonyms: []string{keyMinISR},
		Valid: "at least 1", check: atLeast(1),
		doc: "How many replicas must have a record on disk before acks=all is answered. More than there are replicas counts as all of them.",
	},
	{
		Name: keyUnclean, Type: ConfigBoolean, Default: "false", Synonyms: []string{keyUnclean},
		doc: "Whether a replica that may lack acknowledged records can lead when no other is left.",
	},
	{
		Name: keyWriteCaching, Type: ConfigBoolean, Default: "false", Synonyms: []string{keyWriteCaching},
		doc: "Answer acks=all once the replicas have a record in memory, before it is synced to disk. A power cut of all of them can then lose acknowledged records.",
	},
	{
		Name: "leader.replication.throttled.replicas", Type: ConfigList, Default: "",
		Valid: "* or a list of partition:broker", check: throttledReplicas, NoEffect: notReplicating,
		doc: "Replicas whose replication traffic is limited on the leader's side.",
	},
	{
		Name: "follower.replication.throttled.replicas", Type: ConfigList, Default: "",
		Valid: "* or a list of partition:broker", check: throttledReplicas, NoEffect: notReplicating,
		doc: "Replicas whose replication traffic is limited on the follower's side.",
	},
}

var compactionKeys = []ConfigKey{
	{
		Name: "min.cleanable.dirty.ratio", Type: ConfigDouble, Default: "0.5",
		Synonyms: []string{"log.cleaner.min.cleanable.ratio"}, Valid: "0 to 1", check: ratio,
		doc: "Share of a log that must be uncompacted before it is compacted again.",
	},
	{
		Name: "min.compaction.lag.ms", Type: ConfigLong, Default: "0",
		Synonyms: []string{"log.cleaner.min.compaction.lag.ms"}, Valid: "at least 0", check: atLeast(0),
		doc: "How long a record is safe from compaction, in milliseconds.",
	},
	{
		Name: "max.compaction.lag.ms", Type: ConfigLong, Default: maxLong,
		Synonyms: []string{"log.cleaner.max.compaction.lag.ms"}, Valid: "at least 1", check: atLeast(1),
		doc: "After how many milliseconds at most a record is compacted.",
	},
	{
		Name: "delete.retention.ms", Type: ConfigLong, Default: "86400000",
		Synonyms: []string{"log.cleaner.delete.retention.ms"}, Valid: "at least 0", check: atLeast(0),
		doc: "How long a compacted log keeps the tombstone of a deleted key, in milliseconds.",
	},
}

var tierKeys = []ConfigKey{
	{
		Name: keyRemote, Type: ConfigBoolean, Default: "false",
		doc: "Whether closed segments are uploaded to the object store, so that local disk holds only the recent end.",
	},
	{
		Name: "remote.log.copy.disable", Type: ConfigBoolean, Default: "false",
		doc: "Stop uploading and keep what is tiered readable.",
	},
	{
		Name: "remote.log.delete.on.disable", Type: ConfigBoolean, Default: "false",
		doc: "Allow remote.storage.enable to be set to false, which deletes what is tiered.",
	},
	{
		Name: "remote.copy.lag.ms", Type: ConfigLong, Default: "0", Valid: "at least -1", check: atLeast(-1),
		doc: "How old a closed segment must be before it is uploaded, in milliseconds; -1 waits as long as local retention allows.",
	},
	{
		Name: "remote.copy.lag.bytes", Type: ConfigLong, Default: "0", Valid: "at least -1", check: atLeast(-1),
		doc: "How many bytes must follow a closed segment before it is uploaded; -1 waits as long as local retention allows.",
	},
	{
		Name: "varve.tier.max.delay.ms", Type: ConfigLong, Default: "3600000", Valid: "at least 1", check: atLeast(1),
		doc: "After how many milliseconds an idle open segment of a tiered topic is closed and uploaded: the bound on the age of data that only local disks have.",
	},
	{
		Name: "varve.tier.object.bytes", Type: ConfigLong, Default: "134217728", Valid: "at least 1048576", check: atLeast(1 << 20),
		doc: "Size up to which small neighbouring segments are joined into one object. A segment is never split.",
	},
	{
		Name: KeyTierFetchRate, Type: ConfigLong, Default: maxLong, Valid: "at least 1", check: atLeast(1),
		doc: "Most bytes a second that one broker reads of this topic from the object store, on top of the broker's own limit. What caches hold is not counted.",
	},
	{
		Name: "varve.tier.compression", Type: ConfigString, Default: "auto", Valid: "auto or none", check: oneOf("auto", "none"),
		doc: "auto compresses batches that the producer did not, with lz4, where that saves an eighth; none stores all bytes as they are.",
	},
}

func atLeast(low int64) func(string) error {
	return func(v string) error {
		if n, err := strconv.ParseInt(v, 10, 64); err != nil || n < low {
			return fmt.Errorf("want at least %d", low)
		}
		return nil
	}
}

func between(low, high int64) func(string) error {
	return func(v string) error {
		if n, err := strconv.ParseInt(v, 10, 64); err != nil || n < low || n > high {
			return fmt.Errorf("want %d to %d", low, high)
		}
		return nil
	}
}

func ratio(v string) error {
	if f, err := strconv.ParseFloat(v, 64); err != nil || !(f >= 0 && f <= 1) { // NaN is neither
		return errors.New("want 0 to 1")
	}
	return nil
}

func gzipLevel(v string) error {
	if v == "-1" || between(1, 9)(v) == nil {
		return nil
	}
	return errors.New("want -1 or 1 to 9")
}

func oneOf(values ...string) func(string) error {
	return func(v string) error {
		if !slices.Contains(values, v) {
			return fmt.Errorf("want one of %s", strings.Join(values, ", "))
		}
		return nil
	}
}

func listOf(values ...string) func(string) error {
	return func(v string) error {
		for _, part := range splitList(v) {
			if !slices.Contains(values, part) {
				return fmt.Errorf("want a list of %s", strings.Join(values, ", "))
			}
		}
		return nil
	}
}

var throttledForm = regexp.MustCompile(`^[0-9]+:[0-9]+$`)

func throttledReplicas(v string) error {
	if v == "*" {
		return nil
	}
	for _, part := range splitList(v) {
		if !throttledForm.MatchString(part) {
			return errors.New("want * or a list of partition:broker")
		}
	}
	return nil
}
