package broker

import (
	"time"

	"varve/broker/partition"
)

// CleanerConfig holds the settings of the one goroutine that compacts logs.
type CleanerConfig struct {
	CleanerDedupeBuffer   int64
	CleanerBytesPerSecond int64
	CleanerBackoff        time.Duration

	// Accepted without effect.
	CleanerThreads    int32
	CleanerIOBuffer   int64
	CleanerLoadFactor float64
}

var cleanerWorkKeys = []Key{
	{
		Name: "log.cleaner.dedupe.buffer.size", Kafka: true, Type: TypeBytes, Default: "128MiB", Min: 1 << 20, Max: 64 << 30, Dynamic: true,
		Difference: "16 bytes a key, where Kafka needs 24",
		Doc:        "Memory for the keys of a log that is being compacted, 7 million in 128 MiB; a log with more is compacted in several passes.",
		field:      func(c *Config) any { return &c.CleanerDedupeBuffer },
	},
	{
		Name: "log.cleaner.io.max.bytes.per.second", Kafka: true, Type: TypeBytesPerSecond, Default: "9223372036854775807", Min: 1, Dynamic: true,
		Doc:   "Most bytes a second that compaction reads and writes.",
		field: func(c *Config) any { return &c.CleanerBytesPerSecond },
	},
	{
		Name: "log.cleaner.backoff.ms", Kafka: true, Type: TypeDuration, Default: "15s", Min: 10, Dynamic: true,
		Doc:   "How long compaction rests when no log is dirty enough.",
		field: func(c *Config) any { return &c.CleanerBackoff },
	},
	{
		Name: "log.cleaner.threads", Kafka: true, Type: TypeInt, Default: "1", Min: 1, Dynamic: true,
		Doc:   "Threads that compact. No effect here: one log is compacted at a time, the dirtiest first, and what waits is only compacted later.",
		field: func(c *Config) any { return &c.CleanerThreads },
	},
	{
		Name: "log.cleaner.io.buffer.size", Kafka: true, Type: TypeBytes, Default: "512KiB", Dynamic: true,
		Doc:   "Buffers of compaction. No effect here: they have the size that the largest batch needs.",
		field: func(c *Config) any { return &c.CleanerIOBuffer },
	},
	{
		Name: "log.cleaner.io.buffer.load.factor", Kafka: true, Type: TypeFraction, Default: "0.9", Max: 1, Dynamic: true,
		Doc:   "How full log.cleaner.dedupe.buffer.size gets. No effect here: it gets 85 % full, and a fuller one only costs time.",
		field: func(c *Config) any { return &c.CleanerLoadFactor },
	},
}

// cleaner is what compaction is told before each run.
func (b *Broker) cleaner() partition.CleanerConfig {
	c := b.topics.dynamic.Load()
	return partition.CleanerConfig{MapBytes: c.CleanerDedupeBuffer, BytesPerSec: c.CleanerBytesPerSecond, Backoff: c.CleanerBackoff}
}
