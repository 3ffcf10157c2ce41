package broker

import (
	"github.com/prometheus/client_golang/prometheus"

	"varve/broker/partition"
)

// collector turns what the parts know into metrics at the scrape: no part counts twice, and a
// metric can never lag behind what it describes.
type collector struct {
	b    *Broker
	desc map[string]*prometheus.Desc
}

var collected = []struct{ name, help string }{
	{"varve_partition_leaders", "Partitions that this broker leads."},
	{"varve_commitlog_local_bytes", "Bytes of the local logs that are open."},
	{"varve_partition_upload_lag_bytes", "Bytes of sealed local segments that are not in the object store yet."},
	{"varve_broker_disk_free_bytes", "Free bytes of the disk with the data directory."},
	{"varve_broker_store_degraded", "1 while the object store does not pass its probe."},
	{"varve_commitlog_compactions_total", "Runs of compaction."},
	{"varve_commitlog_compaction_seconds_total", "Time that compaction took."},
	{"varve_commitlog_compaction_read_bytes_total", "Bytes that compaction read."},
	{"varve_commitlog_compaction_saved_bytes_total", "Bytes by which compacted segments became smaller."},
	{"varve_commitlog_compaction_dropped_records_total", "Records that compaction removed."},
	{"varve_commitlog_compaction_waiting", "Partitions that wait for compaction."},
	{"varve_commitlog_uncleanable", "Partitions whose log is damaged and compacted no more."},
	{"varve_wire_connections", "Open client connections."},
	{"varve_tiering_uploads_total", "Objects uploaded."},
	{"varve_tiering_uploaded_bytes_total", "Bytes of record batches uploaded."},
	{"varve_tiering_upload_errors_total", "Uploads that failed; each is tried again."},
	{"varve_tiering_gets_total", "Ranged reads of cold objects."},
	{"varve_tiering_missing_total", "Objects that the current manifest names and the store does not have."},
	{"varve_tiering_corrupt_total", "Cold objects, pages or manifests that are not what their checksum says."},
	{"varve_tiering_cache_hits_total", "Chunks that readers found in memory or in the disk cache."},
	{"varve_tiering_cache_misses_total", "Chunks that had to be read from the store."},
	{"varve_tiering_cache_bytes", "Bytes in the disk cache."},
	{"varve_tiering_cache_returned_files_total", "Files that the disk cache removed because the disk was short of space."},
	{"varve_tiering_read_bytes_total", "Bytes of record batches handed to cold readers."},
	{"varve_tiering_collected_total", "Objects, pages and manifests deleted after their grace."},
}

func newBrokerCollector(b *Broker) *collector {
	c := &collector{b: b, desc: map[string]*prometheus.Desc{}}
	for _, m := range collected {
		c.desc[m.name] = prometheus.NewDesc(m.name, m.help, nil, nil)
	}
	c.desc["varve_object_requests_total"] = prometheus.NewDesc("varve_object_requests_total",
		"Requests that left for the object store, retries included.", []string{"op", "purpose", "outcome"}, nil)
	c.desc["varve_object_bytes_total"] = prometheus.NewDesc("varve_object_bytes_total",
		"Bytes sent to and received from the object store.", []string{"op", "direction"}, nil)
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.desc {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(name string, v float64) {
		ch <- prometheus.MustNewConstMetric(c.desc[name], prometheus.GaugeValue, v)
	}
	count := func(name string, v int64) {
		ch <- prometheus.MustNewConstMetric(c.desc[name], prometheus.CounterValue, float64(v))
	}
	var leaders, local, lag int64
	c.b.set.Each(func(r *partition.Replica) {
		u := r.Usage()
		local, lag = local+u.LocalBytes, lag+u.UploadLagBytes
		if r.IsLeader() {
			leaders++
		}
	})
	gauge("varve_partition_leaders", float64(leaders))
	gauge("varve_commitlog_local_bytes", float64(local))
	gauge("varve_partition_upload_lag_bytes", float64(lag))
	if u, err := c.b.fs.Usage(c.b.cfg.DataDir); err == nil {
		gauge("varve_broker_disk_free_bytes", float64(u.Free))
	}
	cleaned := c.b.set.CleanerStats()
	count("varve_commitlog_compactions_total", cleaned.Runs)
	ch <- prometheus.MustNewConstMetric(c.desc["varve_commitlog_compaction_seconds_total"], prometheus.CounterValue, cleaned.Busy.Seconds())
	count("varve_commitlog_compaction_read_bytes_total", cleaned.ReadBytes)
	count("varve_commitlog_compaction_saved_bytes_total", cleaned.BytesBefore-cleaned.BytesAfter)
	count("varve_commitlog_compaction_dropped_records_total", cleaned.DroppedRecords)
	gauge("varve_commitlog_compaction_waiting", float64(cleaned.Due))
	gauge("varve_commitlog_uncleanable", float64(cleaned.Uncleanable))
	gauge("varve_wire_connections", float64(c.b.wire.Stats().Connections))
	c.store(ch, gauge, count)
}

func (c *collector) store(ch chan<- prometheus.Metric, gauge func(string, float64), count func(string, int64)) {
	state, _ := c.b.store.health()
	degraded := 0.0
	if state == "degraded" {
		degraded = 1
	}
	gauge("varve_broker_store_degraded", degraded)
	if c.b.tier == nil {
		return
	}
	s := c.b.tier.Stats()
	count("varve_tiering_uploads_total", s.Uploads)
	count("varve_tiering_uploaded_bytes_total", s.UploadBytes)
	count("varve_tiering_upload_errors_total", s.UploadErrors)
	count("varve_tiering_gets_total", s.Gets)
	count("varve_tiering_missing_total", s.Missing)
	count("varve_tiering_corrupt_total", s.Corrupt)
	count("varve_tiering_cache_hits_total", s.MemoryHits+s.DiskHits)
	count("varve_tiering_cache_misses_total", s.Misses)
	gauge("varve_tiering_cache_bytes", float64(s.DiskBytes))
	count("varve_tiering_cache_returned_files_total", s.DiskGivenBack)
	count("varve_tiering_read_bytes_total", s.ReadBytes)
	count("varve_tiering_collected_total", s.Collected)
	c.requests(ch)
}

// requests adds the meter's rows up over topics: a label of ten thousand topics belongs into the
// cost ledger, not into every scrape.
func (c *collector) requests(ch chan<- prometheus.Metric) {
	type key struct{ op, purpose, outcome string }
	calls := map[key]int64{}
	bytes := map[[2]string]int64{}
	for _, row := range c.b.store.meter.Snapshot() {
		op := string(row.Op)
		calls[key{op, string(row.Purpose), string(row.Outcome)}] += row.Requests
		bytes[[2]string{op, "sent"}] += row.BytesSent
		bytes[[2]string{op, "received"}] += row.BytesReceived
	}
	for k, n := range calls {
		ch <- prometheus.MustNewConstMetric(c.desc["varve_object_requests_total"], prometheus.CounterValue, float64(n), k.op, k.purpose, k.outcome)
	}
	for k, n := range bytes {
		ch <- prometheus.MustNewConstMetric(c.desc["varve_object_bytes_total"], prometheus.CounterValue, float64(n), k[0], k[1])
	}
}
