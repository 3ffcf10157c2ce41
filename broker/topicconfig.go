package broker

import (
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"varve/broker/api"
	"varve/broker/commitlog"
	"varve/broker/meta"
	"varve/broker/partition"
)

// topicConfigs turns a topic's configs, over the broker's, over Kafka's defaults, into what
// replicas act on. One value is shared by all partitions of a topic until something changes.
type topicConfigs struct {
	mu       sync.Mutex
	cached   map[meta.TopicID]cachedConfig
	defaults atomic.Pointer[map[string]string] // the broker's values of topic keys
	dynamic  atomic.Pointer[Config]            // the configuration with dynamic keys laid over it
}

type cachedConfig struct {
	set  map[string]string
	conf *partition.TopicConfig
}

// reload takes the cluster's and this broker's dynamic configs from an image.
func (c *topicConfigs) reload(im *meta.Image, cfg Config) {
	values := map[string]string{}
	maps.Copy(values, im.ClusterConfigs())
	maps.Copy(values, im.BrokerConfigs(cfg.NodeID)) // the broker's own go before the cluster's
	now, err := cfg.withValid(values)
	if err != nil { // they were right when they were set: the file or the program has changed since
		slog.Warn("broker configs that were set at run time are left out", "err", err)
	}
	defaults := now.TopicDefaults()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cached = map[meta.TopicID]cachedConfig{}
	c.defaults.Store(&defaults)
	c.dynamic.Store(&now)
}

func (c *topicConfigs) forget(id meta.TopicID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.cached, id)
}

func (c *topicConfigs) of(t *meta.Topic) *partition.TopicConfig {
	c.mu.Lock()
	defer c.mu.Unlock()
	if have, ok := c.cached[t.ID]; ok && maps.Equal(have.set, t.Configs) {
		return have.conf
	}
	conf := resolve(t, *c.defaults.Load(), c.dynamic.Load())
	c.cached[t.ID] = cachedConfig{t.Configs, conf}
	return conf
}

// cachingFlush is how late a write.caching topic that sets no flush.ms is synced.
const cachingFlush = 100 * time.Millisecond

func resolve(t *meta.Topic, defaults map[string]string, cfg *Config) *partition.TopicConfig {
	e := meta.Effective(t.Configs, defaults)
	ms := func(n int64) time.Duration {
		if n < 0 {
			return -1
		}
		return time.Duration(min(n, int64(1<<62)/int64(time.Millisecond))) * time.Millisecond
	}
	flush := cachingFlush
	if e.FlushMS > 0 && e.FlushMS < cachingFlush.Milliseconds() {
		flush = ms(e.FlushMS)
	}
	conf := &partition.TopicConfig{
		Log: commitlog.Config{
			SegmentBytes: e.SegmentBytes, SegmentAge: ms(e.SegmentMS), IndexInterval: e.IndexIntervalBytes,
			RecycleWindow: ms(e.RecycleWindowMS), RecycleOwn: true, WriteCaching: e.WriteCaching, FlushEvery: flush,
			ProducerExpiry: cfg.ProducerIDExpiration, Internal: api.IsInternal(t.Name),
		},
		RetentionAge: ms(e.RetentionMS), RetentionBytes: e.RetentionBytes,
		Tiered: e.Tiered, CopyDisabled: e.TierCopyDisabled,
		LocalAge: ms(e.LocalRetentionMS), LocalBytes: e.LocalRetentionBytes,
		TierMaxDelay: ms(e.TierMaxDelayMS), CopyLagAge: ms(e.TierCopyLagMS), CopyLagBytes: e.TierCopyLagBytes, TierNoCompression: !e.TierCompress,
		MinISR: e.MinInsyncReplicas, MaxBatchBytes: e.MaxMessageBytes,
		AppendTime: e.LogAppendTime, TimeBefore: ms(e.TimestampBeforeMaxMS), TimeAfter: ms(e.TimestampAfterMaxMS),
		Compacted: e.Compact, Compaction: partition.CompactionConfig{
			MinDirtyRatio: e.MinCleanableDirtyRatio, MinLag: ms(e.MinCompactionLagMS), MaxLag: ms(e.MaxCompactionLagMS),
			DeleteRetention: ms(e.DeleteRetentionMS),
		},
		Compression: e.CompressionType, Values: t.Configs,
	}
	if e.Compact && e.MaxCompactionLagMS > 0 { // an open segment would hold its records back
		conf.Log.SegmentAge = min(conf.Log.SegmentAge, ms(e.MaxCompactionLagMS))
	}
	conf.CompressionLevel = map[string]int{"gzip": e.GzipLevel, "lz4": e.LZ4Level, "zstd": e.ZstdLevel}[e.CompressionType]
	if !e.Delete {
		conf.RetentionAge, conf.RetentionBytes = -1, -1
	}
	return conf
}
