package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// coldThroughProxy starts MinIO, the counting proxy and a broker behind it.
func (l *lab) coldThroughProxy() (*minioServer, *countingProxy, *broker, error) {
	m, err := l.startMinIO()
	if err != nil {
		return nil, nil, nil, err
	}
	p, err := l.startProxy(m.addr)
	if err != nil {
		return nil, nil, nil, err
	}
	b, err := l.startBroker(storeAt(p.addr))
	return m, p, b, err
}

const quietFor = 700 * time.Millisecond

// rowFirstRecord reads one record each from the middle of cold objects that were never touched, and
// then from the same ones again.
func rowFirstRecord(l *lab) (*result, error) {
	m, p, b, err := l.coldThroughProxy()
	if err != nil {
		return nil, err
	}
	d := load{topic: "first", partitions: 1, conns: 1, flight: 4, batchBytes: 64 << 10, recordBytes: 1024, configs: tiered(8 << 20)}
	c, err := b.pour(m, d, 128<<20)
	if err != nil {
		return nil, err
	}
	if err := b.restart(); err != nil {
		return nil, err
	}
	p.quiet()
	x := c.tps[0]
	step := (c.end[x] - c.from[x]) / int64(len(c.objects))
	touch := func(object int64) (total int, atReply int, err error) {
		before := p.count()
		if err := b.fetchOne(x, c.from[x]+object*step+step/2); err != nil {
			return 0, 0, err
		}
		atReply = gets(p.since(before))
		p.quiet() // read-ahead that the record did not wait for counts too
		return gets(p.since(before)), atReply, nil
	}
	// The first touch of a partition after a start also loads its manifest.
	start, _, err := touch(1)
	if err != nil {
		return nil, err
	}
	var worst, worstAtReply, cached int
	for _, object := range []int64{4, 7, 10, 13} {
		n, atReply, err := touch(object)
		if err != nil {
			return nil, err
		}
		again, _, err := touch(object)
		if err != nil {
			return nil, err
		}
		worst, worstAtReply, cached = max(worst, n), max(worstAtReply, atReply), max(cached, again)
	}
	if err := b.agrees(p); err != nil {
		return nil, err
	}
	r := newResult()
	const truth = "counted by a proxy before the store"
	r.atMost("GETs, most of 4 objects", float64(worst), "GETs", 2, float64(worst), truth)
	r.atMost("GETs when cached", float64(cached), "GETs", 0, float64(cached), truth)
	r.Details["gets_at_reply"], r.Details["gets_first_after_start"] = worstAtReply, start
	return r, nil
}

func gets(seen []proxied) (n int) {
	for _, q := range seen {
		if q.getClass() {
			n++
		}
	}
	return n
}

// fetchOne asks for one record, again until it comes, as a consumer does.
func (b *broker) fetchOne(x tp, offset int64) error {
	f := newFetcher(nil, []tp{x}, 1, map[tp]int64{x: offset}, map[tp]int64{x: offset + 1})
	f.partMax = 1
	st, err := f.run(0, 10*time.Second, nil)
	if err != nil {
		return err
	}
	if err := st.faults(); err != nil {
		return err
	}
	if st.batches == 0 {
		return fmt.Errorf("no record at offset %d", offset)
	}
	return nil
}

// agrees compares the broker's own counts of this incarnation with what went through the proxy.
func (b *broker) agrees(p *countingProxy) error {
	var s tierStatus
	if err := b.get("tier/status", &s); err != nil {
		return err
	}
	if s.LastError != "" {
		return fmt.Errorf("the broker's last error: %s", s.LastError)
	}
	if n := int64(gets(p.since(0))); s.Requests.Get+s.Requests.Head > n {
		return fmt.Errorf("the broker counts %d GETs and HEADs, the proxy %d", s.Requests.Get+s.Requests.Head, n)
	}
	return nil
}

func rowRequestsPerSegment(l *lab) (*result, error) {
	_, p, b, err := l.coldThroughProxy()
	if err != nil {
		return nil, err
	}
	d := load{topic: "segments", partitions: 4, conns: 1, flight: 2, batchBytes: 64 << 10, recordBytes: 1024, configs: tiered(4 << 20)}
	// A first segment each, with what is written once a topic.
	if _, err := d.produce(b.addr, b.pids(), 4<<20, 0, 0); err != nil {
		return nil, err
	}
	if err := b.flush(d.topic); err != nil {
		return nil, err
	}
	p.quiet()
	begin := p.count()
	var was tierStatus
	if err := b.get("tier/status", &was); err != nil {
		return nil, err
	}
	if _, err := d.produce(b.addr, b.pids(), 128<<20, 0, 0); err != nil {
		return nil, err
	}
	if err := b.flush(d.topic); err != nil {
		return nil, err
	}
	p.quiet()
	var now tierStatus
	if err := b.get("tier/status", &now); err != nil {
		return nil, err
	}
	var put, segments, get, del int
	for _, q := range p.since(begin) {
		switch {
		case q.putClass():
			put++
			if q.method == http.MethodPut && strings.HasSuffix(q.path, ".seg.lz4") {
				segments++
			}
		case q.getClass():
			get++
		default:
			del++
		}
	}
	if segments == 0 {
		return nil, errors.New("no segment was uploaded")
	}
	own := now.Requests.Put + now.Requests.List - was.Requests.Put - was.Requests.List
	if own != int64(put) {
		return nil, fmt.Errorf("the broker counts %d PUTs and LISTs, the proxy %d", own, put)
	}
	r := newResult()
	per := float64(put) / float64(segments)
	r.atMost("PUT-class requests", per, "a segment", 2, per, "counted by a proxy before the store")
	r.Details["segments"], r.Details["put_class"], r.Details["get_class"], r.Details["deletes"] = segments, put, get, del
	return r, nil
}
