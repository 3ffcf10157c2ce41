package main

import (
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetcher runs raw fetch loops, one connection per consumer, that read only batch headers.
type fetcher struct {
	groups                               [][]*fpart // one connection each
	maxBytes, partMax, minBytes, maxWait int32
	sessions, verify, copyAll            bool
	follow, loop                         bool // go on past the end: wait for more; begin again
	limit                                int64
	onBatch                              func(p *fpart, b []byte)

	stop, measuring atomic.Bool
	total           atomic.Int64
	meter           meter
	begun           time.Time
}

type fpart struct {
	tp
	off, start, end int64
	moved           bool // since it was last named in the session
	batches         int64
}

type fetchStats struct {
	reqs, empty, recs, bytes, batches, truncated, crcBad, gaps, verified int64
	lat                                                                  hist
	errs                                                                 map[string]int64
	firstByte                                                            time.Duration
	session                                                              bool
}

type fetchConn struct {
	*conn
	f     *fetcher
	parts []*fpart
	index map[string]map[int32]*fpart
	turn  int
	req   *kmsg.FetchRequest
	st    fetchStats
}

// consumers splits partitions, which begin at from and end at end, over n connections.
func consumers(tps []tp, n int, from, end map[tp]int64) (groups [][]*fpart) {
	for _, g := range assign(tps, min(n, len(tps))) {
		var ps []*fpart
		for _, p := range g {
			ps = append(ps, &fpart{tp: p, off: from[p], start: from[p], end: end[p], moved: true})
		}
		groups = append(groups, ps)
	}
	return
}

// request encodes the next fetch; false if every partition is at its end.
func (c *fetchConn) request() bool {
	r := c.req
	r.Topics = r.Topics[:0]
	more := false
	for i := range c.parts {
		p := c.parts[(i+c.turn)%len(c.parts)] // in turn, so that none starves behind max-bytes
		if !c.f.follow && p.off >= p.end {
			if !c.f.loop || p.end <= p.start {
				continue
			}
			p.off, p.moved = p.start, true
		}
		more = true
		if c.st.session && r.SessionEpoch > 0 && !p.moved {
			continue
		}
		p.moved = false
		if n := len(r.Topics); n == 0 || r.Topics[n-1].Topic != p.topic {
			if n < cap(r.Topics) {
				r.Topics = r.Topics[:n+1]
				r.Topics[n].Partitions = r.Topics[n].Partitions[:0]
			} else {
				r.Topics = append(r.Topics, kmsg.NewFetchRequestTopic())
			}
			r.Topics[n].Topic = p.topic
		}
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.LogStartOffset = p.part, p.off, c.f.partMax, -1
		t := &r.Topics[len(r.Topics)-1]
		t.Partitions = append(t.Partitions, rp)
	}
	c.turn++
	c.corr++
	c.out = formatter.AppendRequest(c.out[:0], r, c.corr)
	return more
}

func (c *fetchConn) response() (bytes int64) {
	c.i32()
	top := c.i16()
	sid := c.i32()
	if c.f.sessions && top == 0 {
		c.req.SessionID = sid
		c.st.session = sid != 0
		if c.req.SessionEpoch++; sid == 0 {
			c.req.SessionEpoch = 0
		}
	}
	if top != 0 {
		c.st.errs[strconv.Itoa(int(top))]++
		c.req.SessionID, c.req.SessionEpoch, c.st.session = 0, min(c.req.SessionEpoch, 0), false
		time.Sleep(10 * time.Millisecond)
	}
	for nt := c.i32(); nt > 0 && c.err == nil; nt-- {
		ps := c.index[string(c.str())]
		for np := c.i32(); np > 0 && c.err == nil; np-- {
			p := ps[c.i32()]
			code := c.i16()
			c.i64()
			c.i64()
			logStart := c.i64()
			for na := c.i32(); na > 0 && c.err == nil; na-- {
				c.skip(16)
			}
			c.i32()
			n := int(max(c.i32(), 0))
			if c.err == nil && p == nil {
				c.err = errFrame
			}
			if c.err != nil {
				return
			}
			if code != 0 {
				c.st.errs[strconv.Itoa(int(code))]++
				if code == 1 && logStart >= 0 { // offset out of range: retention took it
					p.off, p.start, p.moved = logStart, logStart, true
				}
				time.Sleep(time.Millisecond)
			}
			if n > 0 && c.st.firstByte == 0 {
				c.st.firstByte = time.Since(c.f.begun)
			}
			bytes += int64(n)
			c.records(p, n)
		}
	}
	return
}

func (c *fetchConn) records(p *fpart, n int) {
	for n > 0 && c.err == nil {
		size := n + 1
		var h []byte
		if n >= batchHeader {
			if h = c.peek(batchHeader); h == nil {
				return
			}
			size = 12 + int(be.Uint32(h[8:]))
		}
		if size > n { // cut off by the byte limit
			c.skip(n)
			c.st.truncated++
			return
		}
		n -= size
		base, last, count := int64(be.Uint64(h)), int64(be.Uint32(h[23:])), int64(be.Uint32(h[57:]))
		if base != p.off && !(base < p.off && p.batches == 0) {
			c.st.gaps++
		}
		if c.f.verify || c.f.onBatch != nil {
			b := c.take(size)
			if b == nil {
				return
			}
			if c.f.verify {
				c.st.verified++
				if b[16] != 2 || last != count-1 || crc32.Checksum(b[21:], castagnoli) != be.Uint32(b[17:]) {
					c.st.crcBad++
				}
			}
			if c.f.onBatch != nil {
				c.f.onBatch(p, b)
			}
		} else {
			c.skip(size)
		}
		p.off, p.moved = base+last+1, true
		p.batches++
		c.st.batches++
		if c.f.measuring.Load() {
			c.st.recs += count
		}
	}
}

func (c *fetchConn) loop() {
	for !c.f.stop.Load() && c.request() {
		sent := time.Now()
		if _, err := c.Write(c.out); err != nil {
			c.err = err
		}
		c.frame()
		n := c.response()
		if c.err != nil {
			if !c.f.stop.Load() {
				c.st.errs["connection"]++
				fmt.Fprintln(os.Stderr, "fetch connection:", c.err)
			}
			return
		}
		if c.f.measuring.Load() {
			c.st.lat.add(time.Since(sent))
			c.st.bytes += n
			c.st.reqs++
			if n == 0 {
				c.st.empty++
			}
		}
		if t := c.f.total.Add(n); c.f.limit > 0 && t >= c.f.limit {
			c.f.stop.Store(true)
		}
	}
}

// run fetches until the ends, the byte limit, dur, or halt. ready is called once all connections are open.
func (f *fetcher) run(warm, dur time.Duration, halt <-chan struct{}) (*fetchStats, error) {
	var cs []*fetchConn
	for _, g := range f.groups {
		size := 16 << 10
		if f.copyAll || f.verify || f.onBatch != nil {
			size = 256 << 10
		}
		nc, err := dial(g[0].leader, size, 10*time.Second)
		if err != nil {
			return nil, err
		}
		defer nc.Close()
		nc.discard = !f.copyAll
		c := &fetchConn{conn: nc, f: f, parts: g, index: map[string]map[int32]*fpart{}, st: fetchStats{errs: map[string]int64{}}}
		for _, p := range g {
			if c.index[p.topic] == nil {
				c.index[p.topic] = map[int32]*fpart{}
			}
			c.index[p.topic][p.part] = p
		}
		c.req = kmsg.NewPtrFetchRequest()
		c.req.Version, c.req.ReplicaID, c.req.SessionEpoch = 11, -1, -1
		c.req.MaxWaitMillis, c.req.MinBytes, c.req.MaxBytes = f.maxWait, f.minBytes, f.maxBytes
		if f.sessions {
			c.req.SessionEpoch = 0
		}
		cs = append(cs, c)
	}
	f.begun = time.Now()
	if warm == 0 {
		f.meter.start()
		f.measuring.Store(true)
	}
	var wg sync.WaitGroup
	for _, c := range cs {
		wg.Go(c.loop)
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	if warm > 0 {
		time.Sleep(warm)
		f.meter.start()
		f.measuring.Store(true)
	}
	var timeout <-chan time.Time
	if dur > 0 {
		timeout = time.After(dur)
	}
	select {
	case <-done:
	case <-timeout:
	case <-halt:
	}
	f.stop.Store(true)
	f.meter.stop()
	for _, c := range cs {
		c.SetReadDeadline(time.Now()) // whatever waits for more
	}
	<-done
	all := &fetchStats{errs: map[string]int64{}, session: f.sessions}
	for _, c := range cs {
		s := &c.st
		all.reqs, all.empty, all.recs, all.bytes = all.reqs+s.reqs, all.empty+s.empty, all.recs+s.recs, all.bytes+s.bytes
		all.batches, all.truncated, all.verified = all.batches+s.batches, all.truncated+s.truncated, all.verified+s.verified
		all.crcBad, all.gaps, all.session = all.crcBad+s.crcBad, all.gaps+s.gaps, all.session && s.session
		all.firstByte = max(all.firstByte, s.firstByte)
		all.lat.merge(&s.lat)
		for k, v := range s.errs {
			all.errs[k] += v
		}
	}
	return all, nil
}

func (f *fetcher) report(s *fetchStats) obj {
	return merge(f.meter.report(s.bytes, s.recs, s.reqs), obj{
		"fetch_ms": s.lat.report(), "errors": s.errs,
		"first_byte_ms": float64(s.firstByte) / 1e6, "empty_responses": s.empty, "batches": s.batches, "truncated_batches": s.truncated,
		"crc_bad": s.crcBad, "offset_gaps": s.gaps, "verified_batches": s.verified, "session": s.session,
	})
}

func fetchCmd(fs *flag.FlagSet) func() (obj, error) {
	parts := fs.Int("partitions", 0, "fetch the first N partitions (0 = all)")
	from := fs.String("from", "earliest", "earliest, latest, latest-local (the first offset on local disk) or an offset")
	conns := fs.Int("conns", 1, "consumers, a connection each")
	maxBytes := sizeVar(fs, "max-bytes", 50<<20, "bytes per response")
	partMax := sizeVar(fs, "partition-max-bytes", 1<<20, "bytes per partition in a response")
	minBytes := fs.Int("min-bytes", 1, "the broker waits for this much")
	maxWait := fs.Int("max-wait-ms", 500, "and no longer than this")
	limit := sizeVar(fs, "bytes", 0, "stop after this many bytes")
	secs := fs.Float64("seconds", 0, "stop after this long; without -follow or -loop also at the end")
	warm := fs.Float64("warmup", 0, "seconds before measuring")
	settle := fs.Float64("settle", 0, "seconds after the run in which to take the broker's deferred CPU")
	verify := fs.Bool("verify", false, "check every batch's CRC32C and count")
	sessions := fs.Bool("sessions", false, "incremental fetch sessions")
	follow := fs.Bool("follow", false, "wait for more at the end")
	loop := fs.Bool("loop", false, "begin again at the end")
	copyAll := fs.Bool("copy", false, "copy record bytes to the client too, as a real consumer must")
	return func() (obj, error) {
		tps, err := metadata(brokers, topic)
		if err != nil {
			return nil, err
		}
		if *parts > 0 {
			tps = tps[:min(*parts, len(tps))]
		}
		var start map[tp]int64
		if ts, ok := map[string]int64{"earliest": -2, "latest": -1, "latest-local": -4, "earliest-local": -4}[*from]; ok {
			if start, err = listOffsets(tps, ts); err != nil {
				return nil, err
			}
			var early map[tp]int64
			for p, off := range start {
				if off < 0 { // a broker that does not know local offsets
					if early == nil {
						if early, err = listOffsets(tps, -2); err != nil {
							return nil, err
						}
					}
					start[p] = early[p]
				}
			}
		} else {
			var off int64
			off, err = strconv.ParseInt(*from, 10, 64)
			start = map[tp]int64{}
			for _, p := range tps {
				start[p] = off
			}
		}
		if err != nil {
			return nil, err
		}
		end, err := listOffsets(tps, -1)
		if err != nil {
			return nil, err
		}
		f := &fetcher{
			meter: meter{pids: pids}, groups: consumers(tps, *conns, start, end), maxBytes: int32(*maxBytes), partMax: int32(*partMax), minBytes: int32(*minBytes),
			maxWait: int32(*maxWait), sessions: *sessions, verify: *verify, copyAll: *copyAll, follow: *follow, loop: *loop, limit: int64(*limit),
		}
		st, err := f.run(seconds(*warm), seconds(*secs), nil)
		if err != nil {
			return nil, err
		}
		o := f.report(st)
		f.meter.settle(o, *settle)
		return o, nil
	}
}
