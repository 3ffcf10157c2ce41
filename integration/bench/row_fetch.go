package main

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"
)

// newFetcher reads with the limits that clients have by default, one request at a time on each of
// the connections.
func newFetcher(pids []int, tps []tp, conns int, from, end map[tp]int64) *fetcher {
	return &fetcher{
		meter: meter{pids: pids}, groups: consumers(tps, conns, from, end),
		maxBytes: 50 << 20, partMax: 1 << 20, minBytes: 1, maxWait: 500,
	}
}

// faults says what must not be in any fetch.
func (s *fetchStats) faults() error {
	if len(s.errs) > 0 || s.gaps > 0 || s.crcBad > 0 {
		return fmt.Errorf("fetch: error codes %v, %d gaps in offsets, %d bad CRCs", s.errs, s.gaps, s.crcBad)
	}
	return nil
}

func rowHotFetch(l *lab) (*result, error) {
	const rounds = 3
	b, err := l.startBroker("")
	if err != nil {
		return nil, err
	}
	d := load{topic: "hot", partitions: 6, conns: 2, flight: 4, batchBytes: 256 << 10, recordBytes: 1024}
	if _, err := d.produce(b.addr, b.pids(), gib, 0, 0); err != nil {
		return nil, err
	}
	tps, err := metadata(b.addr, d.topic)
	if err != nil {
		return nil, err
	}
	from, err := listOffsets(tps, -2)
	if err != nil {
		return nil, err
	}
	end, err := listOffsets(tps, -1)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(b.data, "topics", "*", "0"))
	if err != nil || len(files) == 0 {
		return nil, errors.Join(err, errors.New("no segment files in the data directory"))
	}
	var cpu, raw []float64
	var rates []obj
	for range rounds {
		f := newFetcher(b.pids(), tps, 2, from, end)
		f.loop = true
		st, err := f.run(time.Second, 4*time.Second, nil)
		if err != nil {
			return nil, err
		}
		// Beginning again at the start is a jump, which counts as a gap.
		st.gaps = 0
		if err := st.faults(); err != nil {
			return nil, err
		}
		o := f.report(st)
		cpu, rates = append(cpu, num(o, "broker_cpu_s_per_gib")), append(rates, brief("broker", o))
		if o, err = rawSend(files[0], 4*gib); err != nil {
			return nil, err
		}
		raw, rates = append(raw, num(o, "broker_cpu_s_per_gib")), append(rates, brief("sendfile", o))
	}
	r := newResult()
	r.atMost("broker CPU", median(cpu), "s/GiB", 0.3, median(raw), "a bare sendfile of the same segments")
	r.Details["rounds"] = rates
	return r, nil
}

func rawSend(dir string, bytes int64) (obj, error) {
	s, err := startChild("send", "-dir", dir, "-procs", "2")
	if err != nil {
		return nil, err
	}
	defer s.kill()
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	m := meter{pids: []int{s.pid()}}
	m.start()
	if _, err := nc.Write([]byte{1}); err != nil {
		return nil, err
	}
	n, err := drain(nc.(*net.TCPConn), bytes)
	m.stop()
	return m.report(n, 0, 0), err
}
