package api

import (
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what the API does. Counters by topic are plain atomics found through one pointer,
// so that the hot path pays a map lookup and an addition; they become metrics at the scrape.
type Metrics struct {
	mu     sync.Mutex
	topics atomic.Pointer[map[string]*topicCounters]

	requests  [maxCountedKey]atomic.Pointer[prometheus.Observer]
	latency   *prometheus.HistogramVec
	bad       *prometheus.CounterVec
	throttle  prometheus.Counter
	descBytes *prometheus.Desc
	descReqs  *prometheus.Desc
	descErrs  *prometheus.Desc
	descCold  *prometheus.Desc
}

type topicCounters struct{ produceBytes, produceBatches, coldBytes, readErrors atomic.Int64 }

const (
	// maxCountedKey bounds the api keys that get a histogram of their own.
	maxCountedKey = 100
	// maxCountedTopics bounds the label; what comes after shares the name "_other".
	maxCountedTopics = 10_000
	otherTopics      = "_other"
)

func newMetrics() *Metrics {
	m := &Metrics{
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "varve_api_serve_seconds",
			Help:    "Time from taking a request to handing over its answer or parking it, by API key.",
			Buckets: prometheus.ExponentialBuckets(20e-6, 4, 10),
		}, []string{"key"}),
		bad: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "varve_api_bad_requests_total",
			Help: "Requests that could not be decoded; their connections were closed.",
		}, []string{"key"}),
		throttle: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "varve_api_throttle_seconds_total",
			Help: "Pauses that clients were given because they went over a quota.",
		}),
		descBytes: prometheus.NewDesc("varve_api_produced_bytes_total", "Bytes of record batches appended by producers.", []string{"topic"}, nil),
		descReqs:  prometheus.NewDesc("varve_api_produced_batches_total", "Record batches appended by producers.", []string{"topic"}, nil),
		descCold:  prometheus.NewDesc("varve_api_cold_fetched_bytes_total", "Bytes of record batches served from the cold tier.", []string{"topic"}, nil),
		descErrs:  prometheus.NewDesc("varve_api_read_errors_total", "Reads of a partition that failed in its storage.", []string{"topic"}, nil),
	}
	m.topics.Store(&map[string]*topicCounters{})
	return m
}

func (m *Metrics) topic(name string) *topicCounters {
	if t := (*m.topics.Load())[name]; t != nil {
		return t
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old := *m.topics.Load()
	if len(old) >= maxCountedTopics {
		name = otherTopics
	}
	if t := old[name]; t != nil {
		return t
	}
	next := maps.Clone(old)
	next[name] = &topicCounters{}
	m.topics.Store(&next)
	return next[name]
}

func (m *Metrics) produced(topic string, bytes int) {
	t := m.topic(topic)
	t.produceBytes.Add(int64(bytes))
	t.produceBatches.Add(1)
}

func (m *Metrics) fetchedCold(topic string, bytes int) { m.topic(topic).coldBytes.Add(int64(bytes)) }

func (m *Metrics) readError(topic string) { m.topic(topic).readErrors.Add(1) }

func (m *Metrics) badRequest(key int16) { m.bad.WithLabelValues(strconv.Itoa(int(key))).Inc() }

func (m *Metrics) throttled(d time.Duration) { m.throttle.Add(d.Seconds()) }

func (m *Metrics) served(key int16, d time.Duration) {
	if key < 0 || key >= maxCountedKey {
		return
	}
	o := m.requests[key].Load()
	if o == nil {
		made := m.latency.WithLabelValues(strconv.Itoa(int(key)))
		o = &made
		m.requests[key].Store(o)
	}
	(*o).Observe(d.Seconds())
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.latency.Describe(ch)
	m.bad.Describe(ch)
	m.throttle.Describe(ch)
	for _, d := range []*prometheus.Desc{m.descBytes, m.descReqs, m.descCold, m.descErrs} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.latency.Collect(ch)
	m.bad.Collect(ch)
	m.throttle.Collect(ch)
	for name, t := range *m.topics.Load() {
		for _, row := range []struct {
			desc *prometheus.Desc
			n    *atomic.Int64
		}{
			{m.descBytes, &t.produceBytes},
			{m.descReqs, &t.produceBatches},
			{m.descCold, &t.coldBytes},
			{m.descErrs, &t.readErrors},
		} {
			ch <- prometheus.MustNewConstMetric(row.desc, prometheus.CounterValue, float64(row.n.Load()), name)
		}
	}
}
