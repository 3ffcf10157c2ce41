package main

import (
	"flag"
	"sync"
	"time"
)

// latencyCmd measures from a record's scheduled moment to its ack, and to a tail consumer having read it.
func latencyCmd(fs *flag.FlagSet) func() (obj, error) {
	parts := fs.Int("partitions", 1, "partitions of the topic (created if it is not there)")
	rf := fs.Int("rf", 1, "replication factor of a created topic")
	rate := fs.Float64("rate", 1000, "records per second")
	perReq := fs.Int("batch-records", 1, "records per request")
	recBytes := fs.Int("record-bytes", 256, "value size, at least 8")
	conns := fs.Int("conns", 1, "producer connections")
	consumersN := fs.Int("consumers", 1, "tail consumers' connections, which share the partitions")
	inflight := fs.Int("inflight", 64, "requests on their way per producer connection")
	acks := fs.Int("acks", -1, "-1, 1 or 0")
	secs := fs.Float64("seconds", 10, "duration")
	warm := fs.Float64("warmup", 1, "seconds before measuring")
	return func() (obj, error) {
		d := latencyLoad{
			topic: topic, partitions: *parts, rf: *rf, rate: *rate, perRequest: *perReq, recordBytes: *recBytes, conns: *conns,
			consumers: *consumersN, inflight: *inflight, acks: *acks,
		}
		return d.run(brokers, pids, seconds(*warm), seconds(*secs))
	}
}

// latencyLoad is a paced producer and tail consumers.
type latencyLoad struct {
	topic          string
	partitions, rf int // rf 0: 1
	rate           float64
	perRequest     int
	recordBytes    int
	conns          int
	consumers      int
	inflight, acks int
}

func (d latencyLoad) run(addr string, pids []int, warm, dur time.Duration) (obj, error) {
	tps, err := ensureTopic(addr, d.topic, d.partitions, max(d.rf, 1))
	if err != nil {
		return nil, err
	}
	end, err := listOffsets(tps, -1)
	if err != nil {
		return nil, err
	}
	bs, err := pool(16, d.perRequest, max(8, d.recordBytes), false, "none")
	if err != nil {
		return nil, err
	}
	p := &producer{
		meter: meter{pids: pids}, targets: tps, pool: bs, conns: d.conns, inflight: d.inflight, acks: d.acks, ppr: 1,
		rate: d.rate / float64(d.perRequest), stamp: true,
	}
	var e2e hist
	var mu sync.Mutex
	var seen int64
	f := &fetcher{groups: consumers(tps, d.consumers, end, end), maxBytes: 50 << 20, partMax: 1 << 20, minBytes: 1, maxWait: 500, follow: true}
	f.onBatch = func(_ *fpart, b []byte) {
		now := time.Since(epoch0)
		mu.Lock()
		defer mu.Unlock()
		_ = eachRecord(b, func(_ int64, v []byte) { // our own batches, not compressed
			if seen++; p.measuring.Load() {
				e2e.add(now - time.Duration(be.Uint64(v)))
			}
		})
	}
	halt, fetched := make(chan struct{}), make(chan *fetchStats)
	go func() {
		st, _ := f.run(0, 0, halt)
		fetched <- st
	}()
	time.Sleep(200 * time.Millisecond)
	st, err := p.run(warm, dur)
	if err != nil {
		return nil, err
	}
	time.Sleep(300 * time.Millisecond)
	close(halt)
	fst := <-fetched
	o := p.report(st)
	o["e2e_ms"], o["consumed_records"] = e2e.report(), seen
	if fst != nil {
		o["fetch_requests"], o["fetch_errors"] = fst.reqs, fst.errs
	}
	return o, nil
}
