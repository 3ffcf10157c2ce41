package main

import (
	"fmt"
	"path/filepath"
	"time"
)

// rowMemory pours 4 GiB through a tiered topic, with a consumer at its tail, and watches the
// broker's resident memory by how much has passed.
func rowMemory(l *lab) (*result, error) {
	const bytes = 4 * gib
	b, err := l.startBroker("dir://" + filepath.Join(l.dir, "bucket"))
	if err != nil {
		return nil, err
	}
	d := load{topic: "memory", partitions: 32, conns: 4, flight: 3, batchBytes: 256 << 10, recordBytes: 1024, configs: [][2]string{
		{"remote.storage.enable", "true"}, {"segment.bytes", fmt.Sprint(32 << 20)}, {"local.retention.bytes", fmt.Sprint(64 << 20)},
	}}
	tps, err := d.target(b.addr)
	if err != nil {
		return nil, err
	}
	zero := map[tp]int64{}
	f := newFetcher(nil, tps, 1, zero, zero)
	f.follow = true
	halt, fetched := make(chan struct{}), make(chan error, 1)
	var got *fetchStats
	go func() {
		var err error
		got, err = f.run(0, 0, halt)
		fetched <- err
	}()
	produced := make(chan error, 1)
	var sent obj
	go func() {
		var err error
		sent, err = d.produce(b.addr, b.pids(), bytes, 0, 0)
		produced <- err
	}()
	var quarters [4][]float64
	var most float64
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	// Passed is what the tail consumer has read: produced, stored and fetched.
	for passed, stop := int64(0), time.After(3*time.Minute); passed < bytes; passed = f.total.Load() {
		select {
		case <-every.C:
		case <-stop:
			err = fmt.Errorf("%d of %d bytes after three minutes", passed, int64(bytes))
		}
		if err != nil {
			break
		}
		rss := procStatusMiB(b.pid(), "VmRSS")
		most = max(most, rss)
		q := min(3, passed*4/bytes)
		quarters[q] = append(quarters[q], rss)
	}
	close(halt)
	if perr := <-produced; perr != nil {
		return nil, perr
	}
	if ferr := <-fetched; ferr != nil {
		return nil, ferr
	}
	if err != nil {
		return nil, err
	}
	if err := got.faults(); err != nil {
		return nil, err
	}
	most = max(most, procStatusMiB(b.pid(), "VmHWM"))
	r := newResult()
	r.atMost("resident memory, the peak", most, "MiB", 500, 0, "")
	r.atMost("median in the last quarter, of that in the second", median(quarters[3])/median(quarters[1]), "times", 1.1, 0, "")
	r.Details["medians_mib"] = []float64{median(quarters[0]), median(quarters[1]), median(quarters[2]), median(quarters[3])}
	r.Details["produce"] = brief("produce", sent)
	return r, nil
}
