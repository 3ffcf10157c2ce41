package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// producer sends prebuilt batches over raw, pipelined connections.
type producer struct {
	targets  []tp
	pool     []batch
	conns    int
	inflight int
	acks     int
	ppr      int     // partitions per request
	rate     float64 // requests per second over all connections; 0 = as fast as acks come
	limit    int64   // bytes over all connections; 0 = none
	rounds   int     // passes over the partitions; 0 = no limit
	stamp    bool    // each value begins with its nanoseconds since epoch0

	stop, measuring atomic.Bool
	sent            atomic.Int64
	meter           meter
}

var epoch0 = time.Now()

type produceStats struct {
	reqs, recs, bytes int64
	lat, lag          hist // from the scheduled moment to the ack; and to the write
	errs              map[string]int64
}

// sending is one request on its way.
type sending struct {
	due   time.Time
	bytes int64
	parts int
}

// produceConn is one connection: its requests are encoded once, only the correlation id
// and the lengths change.
type produceConn struct {
	*conn
	p       *producer
	version int16
	groups  []group
	pool    []batch
	turn    int
	inUse   chan sending
	iov     [][]byte
	st      produceStats
}

// group is one request's partitions: its header, and for each partition its index and length.
type group struct {
	head  []byte
	parts [][8]byte
}

func (p *producer) open(tps []tp) (*produceConn, error) {
	c, err := dial(tps[0].leader, 16<<10, 10*time.Second)
	if err != nil {
		return nil, err
	}
	pc := &produceConn{conn: c, p: p, pool: p.pool, version: min(8, c.max[0]), st: produceStats{errs: map[string]int64{}}}
	if p.stamp { // batches are changed in place, so each connection has its own
		pc.pool = nil
		for _, b := range p.pool {
			b.b = append([]byte(nil), b.b...)
			pc.pool = append(pc.pool, b)
		}
	}
	for i := 0; i < len(tps); {
		var g group
		req := kmsg.NewPtrProduceRequest()
		req.Version, req.Acks, req.TimeoutMillis = pc.version, int16(p.acks), 30000
		t := kmsg.NewProduceRequestTopic()
		t.Topic = tps[i].topic
		req.Topics = append(req.Topics, t)
		g.head = formatter.AppendRequest(nil, req, 0) // ends in the count of partitions
		for j := i; i < len(tps) && i-j < p.ppr && tps[i].topic == t.Topic; i++ {
			var h [8]byte
			be.PutUint32(h[:], uint32(tps[i].part))
			g.parts = append(g.parts, h)
		}
		be.PutUint32(g.head[len(g.head)-4:], uint32(len(g.parts)))
		pc.groups = append(pc.groups, g)
	}
	return pc, nil
}

func (c *produceConn) send(due time.Time) {
	g := &c.groups[c.turn%len(c.groups)]
	size, payload := len(g.head)-4, int64(0)
	iov := append(c.iov[:0], g.head)
	for i := range g.parts {
		b := &c.pool[(c.turn+i)%len(c.pool)]
		if c.p.stamp {
			for _, v := range b.values {
				be.PutUint64(b.b[v:], uint64(due.Sub(epoch0)))
			}
			b.seal()
		}
		be.PutUint32(g.parts[i][4:], uint32(len(b.b)))
		iov = append(iov, g.parts[i][:], b.b)
		size += 8 + len(b.b)
		payload += int64(len(b.b))
	}
	c.iov = iov
	be.PutUint32(g.head, uint32(size))
	be.PutUint32(g.head[8:], uint32(c.turn))
	c.turn++
	s := sending{due, payload, len(g.parts)}
	if c.p.acks != 0 {
		c.inUse <- s
	}
	if c.p.rate > 0 && c.p.measuring.Load() {
		c.st.lag.add(time.Since(due))
	}
	bufs := net.Buffers(iov)
	if _, err := bufs.WriteTo(c.TCPConn); err != nil && c.err == nil {
		c.fail(err)
	}
	if c.p.limit > 0 && c.p.sent.Add(payload) >= c.p.limit {
		c.p.stop.Store(true)
	}
	if c.p.acks == 0 && c.p.measuring.Load() {
		c.st.reqs++
		c.st.recs += int64(s.parts * c.pool[0].n)
		c.st.bytes += s.bytes
	}
}

// fail ends the connection; the other half of it then fails too.
func (c *produceConn) fail(err error) {
	c.CloseRead()
	c.CloseWrite()
	c.p.stop.Store(true)
	fmt.Fprintln(os.Stderr, "produce connection:", err)
}

// receive reads one response; s is the request it answers.
func (c *produceConn) receive(s sending) {
	if c.err != nil {
		return
	}
	c.frame()
	ok := 0
	for nt := c.i32(); nt > 0 && c.err == nil; nt-- {
		c.str()
		for np := c.i32(); np > 0 && c.err == nil; np-- {
			c.i32()
			if code := c.i16(); code == 0 {
				ok++
			} else {
				c.st.errs[strconv.Itoa(int(code))]++
			}
			c.skip(8 + 8 + 8)
			if c.version >= 8 {
				for ne := c.i32(); ne > 0 && c.err == nil; ne-- {
					c.i32()
					c.str()
				}
				c.str()
			}
		}
	}
	c.i32()
	if c.err != nil {
		c.st.errs["connection"]++
		c.fail(c.err)
		return
	}
	if c.p.measuring.Load() {
		c.st.lat.add(time.Since(s.due))
		c.st.reqs++
		c.st.recs += int64(ok * c.pool[0].n)
		c.st.bytes += s.bytes * int64(ok) / int64(s.parts)
	}
}

func (c *produceConn) done() bool {
	return c.p.stop.Load() || c.p.rounds > 0 && c.turn >= c.p.rounds*len(c.groups)
}

// loop keeps inflight requests on their way from a single goroutine.
func (c *produceConn) loop() {
	c.inUse = make(chan sending, c.p.inflight)
	for {
		for len(c.inUse) < c.p.inflight && !c.done() {
			c.send(time.Now())
		}
		if len(c.inUse) == 0 {
			return
		}
		c.receive(<-c.inUse)
	}
}

// paced sends on a fixed schedule, whatever the acks do, up to inflight requests.
func (c *produceConn) paced(interval, first time.Duration) {
	c.inUse = make(chan sending, c.p.inflight-1) // the reader holds one more
	read := make(chan bool)
	go func() {
		for s := range c.inUse {
			c.receive(s)
		}
		close(read)
	}()
	for pc := newPacer(interval, first); !c.done(); {
		c.send(pc.next())
	}
	close(c.inUse)
	<-read
}

// run produces for dur (0 = until the byte limit or the rounds are done) after warm.
func (p *producer) run(warm, dur time.Duration) (*produceStats, error) {
	groups := assign(p.targets, p.conns)
	var cs []*produceConn
	for _, g := range groups {
		c, err := p.open(g)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		cs = append(cs, c)
		if dur > 0 {
			c.SetDeadline(time.Now().Add(warm + dur + 30*time.Second))
		}
	}
	if warm == 0 {
		p.meter.start()
		p.measuring.Store(true)
	}
	var wg sync.WaitGroup
	for i, c := range cs {
		wg.Go(func() {
			if p.rate > 0 {
				each := time.Duration(float64(time.Second) * float64(len(cs)) / p.rate)
				c.paced(each, each*time.Duration(i+1)/time.Duration(len(cs)))
			} else {
				c.loop()
			}
		})
	}
	if warm > 0 {
		time.Sleep(warm)
		p.meter.start()
		p.measuring.Store(true)
	}
	if dur > 0 {
		t := time.AfterFunc(dur, func() { p.stop.Store(true) })
		defer t.Stop()
	}
	wg.Wait()
	p.meter.stop()
	all := &produceStats{errs: map[string]int64{}}
	for _, c := range cs {
		all.reqs, all.recs, all.bytes = all.reqs+c.st.reqs, all.recs+c.st.recs, all.bytes+c.st.bytes
		all.lat.merge(&c.st.lat)
		all.lag.merge(&c.st.lag)
		for k, v := range c.st.errs {
			all.errs[k] += v
		}
	}
	return all, nil
}

func (p *producer) report(s *produceStats) obj {
	o := merge(p.meter.report(s.bytes, s.recs, s.reqs), obj{
		"ack_ms": s.lat.report(), "errors": s.errs,
		"batch_records": p.pool[0].n, "batch_bytes": len(p.pool[0].b),
	})
	if p.rate > 0 {
		o["send_lag_ms"] = s.lag.report()
	}
	return o
}

// pacer is a timerfd: exact, and it wakes the Go poller without a spinning or blocked thread.
type pacer struct {
	f        *os.File
	at       time.Time
	interval time.Duration
	ready    uint64
}

func newPacer(interval, first time.Duration) *pacer {
	fd, _, e := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, 1, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if e != 0 {
		panic(e)
	}
	spec := [2]syscall.Timespec{syscall.NsecToTimespec(int64(interval)), syscall.NsecToTimespec(int64(max(first, 1)))}
	at := time.Now().Add(first - interval)
	if _, _, e = syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, fd, 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0); e != 0 {
		panic(e)
	}
	return &pacer{f: os.NewFile(fd, "timerfd"), at: at, interval: interval}
}

// next waits for the next moment of the schedule and returns it.
func (p *pacer) next() time.Time {
	for p.ready == 0 {
		var b [8]byte
		if _, err := p.f.Read(b[:]); err != nil {
			panic(err)
		}
		p.ready = binary.NativeEndian.Uint64(b[:])
	}
	p.ready--
	p.at = p.at.Add(p.interval)
	return p.at
}

func produceCmd(fs *flag.FlagSet) func() (obj, error) {
	parts := fs.Int("partitions", 1, "partitions of the topic (created if it is not there)")
	rf := fs.Int("rf", 1, "replication factor of a created topic")
	recBytes := sizeVar(fs, "record-bytes", 1024, "value size")
	batchBytes := sizeVar(fs, "batch-bytes", 65536, "batch size")
	inflight := fs.Int("inflight", 5, "requests on their way per connection")
	conns := fs.Int("conns", 1, "connections")
	acks := fs.Int("acks", -1, "-1, 1 or 0")
	limit := sizeVar(fs, "bytes", 0, "stop after this many bytes")
	secs := fs.Float64("seconds", 0, "stop after this long (10 if -bytes is not given)")
	warm := fs.Float64("warmup", 0, "seconds before measuring")
	settle := fs.Float64("settle", 0, "seconds after the run in which to take the broker's deferred CPU")
	rate := fs.Float64("rate", 0, "MB/s, 0 = max")
	keys := fs.Bool("keys", false, "records have 16-byte keys")
	compress := fs.String("compress", "none", "none or lz4")
	ppr := fs.Int("ppr", 1, "partitions per request")
	distinct := fs.Int("pool", 16, "distinct batches, sent in turn")
	return func() (obj, error) {
		tps, err := ensureTopic(brokers, topic, *parts, *rf)
		if err != nil {
			return nil, err
		}
		bs, err := pool(*distinct, recordsPer(int64(*batchBytes), int64(*recBytes), *keys), int(*recBytes), *keys, *compress)
		if err != nil {
			return nil, err
		}
		if *secs == 0 && *limit == 0 {
			*secs = 10
		}
		p := &producer{
			meter: meter{pids: pids}, targets: tps, pool: bs, conns: *conns, inflight: *inflight, acks: *acks, ppr: *ppr, limit: int64(*limit),
			rate: *rate * 1e6 / float64(len(bs[0].b)**ppr),
		}
		st, err := p.run(seconds(*warm), seconds(*secs))
		if err != nil {
			return nil, err
		}
		o := p.report(st)
		p.meter.settle(o, *settle)
		return o, nil
	}
}
