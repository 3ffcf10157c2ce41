package main

import (
	"fmt"
	"path/filepath"
	"runtime"
	"time"
)

const gib = 1 << 30

// load is what a producer does in a row.
type load struct {
	topic                     string
	partitions, conns, flight int
	batchBytes, recordBytes   int64
	compress                  string
	configs                   [][2]string
}

// bigBatches is the load of the produce rows.
var bigBatches = load{topic: "big", partitions: 6, conns: 2, flight: 3, batchBytes: 1 << 20, recordBytes: 1024}

func (d load) with(topic string, configs ...[2]string) load {
	d.topic, d.configs = topic, configs
	return d
}

// produce sends limit bytes, or for dur after warm, and fails if anything was refused.
func (d load) produce(addr string, pids []int, limit int64, warm, dur time.Duration) (obj, error) {
	tps, err := d.target(addr)
	if err != nil {
		return nil, err
	}
	bs, err := pool(16, recordsPer(d.batchBytes, d.recordBytes, false), int(d.recordBytes), false, d.compress)
	if err != nil {
		return nil, err
	}
	p := &producer{meter: meter{pids: pids}, targets: tps, pool: bs, conns: d.conns, inflight: d.flight, acks: -1, ppr: 1, limit: limit}
	st, err := p.run(warm, dur)
	if err != nil {
		return nil, err
	}
	if len(st.errs) > 0 {
		return nil, fmt.Errorf("produce to %s: error codes %v", d.topic, st.errs)
	}
	return p.report(st), nil
}

// target makes the topic; the sink has one already and knows no other request.
func (d load) target(addr string) ([]tp, error) {
	if tps, err := metadata(addr, d.topic); err == nil && len(tps) >= d.partitions {
		return tps[:d.partitions], nil
	}
	return ensureTopic(addr, d.topic, d.partitions, 1, d.configs...)
}

// rawProduce runs the same load against the sink, for the raw limit.
func (l *lab) rawProduce(d load, fresh bool, limit int64, warm, dur time.Duration) (obj, error) {
	args := []string{"sink", "-dir", filepath.Join(l.dir, "sink"), "-t", d.topic, "-partitions", fmt.Sprint(d.partitions), "-procs", "2"}
	if fresh {
		args = append(args, "-fresh")
	}
	s, err := startChild(args...)
	if err != nil {
		return nil, err
	}
	defer s.kill()
	return d.produce(s.addr, []int{s.pid()}, limit, warm, dur)
}

const rawSink = "a bare server: receive, CRC, pwrite, group fdatasync"

func rowProduceRecycled(l *lab) (*result, error) {
	const rounds = 3
	// The pool belongs to whoever rolled last, so later rounds warm up their topic again, shortly.
	first := [2]int64{3 * gib, gib}
	if err := l.touchMemory(); err != nil {
		return nil, err
	}
	b, err := l.startBroker("")
	if err != nil {
		return nil, err
	}
	recycled := [][2]string{{"segment.bytes", fmt.Sprint(64 << 20)}, {"retention.bytes", fmt.Sprint(256 << 20)}}
	synced := bigBatches.with("synced", recycled...)
	cached := bigBatches.with("cached", append([][2]string{{"write.caching", "true"}}, recycled...)...)
	var cpu, ratio, rawCPU []float64
	var rates []obj
	for round := range rounds {
		var mb [2]float64
		for i, d := range []load{cached, synced} {
			if _, err := d.produce(b.addr, b.pids(), first[min(round, 1)], 0, 0); err != nil {
				return nil, err
			}
			o, err := d.produce(b.addr, b.pids(), 0, 0, 4*time.Second)
			if err != nil {
				return nil, err
			}
			mb[i] = num(o, "mb_per_s")
			if i == 1 {
				cpu = append(cpu, num(o, "broker_cpu_s_per_gib"))
			}
			rates = append(rates, brief(d.topic, o))
		}
		ratio = append(ratio, mb[1]/mb[0]*100)
		o, err := l.rawProduce(bigBatches, false, 0, time.Second, 3*time.Second)
		if err != nil {
			return nil, err
		}
		rawCPU = append(rawCPU, num(o, "broker_cpu_s_per_gib"))
		rates = append(rates, brief("sink", o))
	}
	r := newResult()
	r.atMost("broker CPU", median(cpu), "s/GiB", 0.6, median(rawCPU), rawSink)
	r.atLeast("throughput with fdatasync, of that with write.caching", median(ratio), "%", 75, 0, "")
	r.Details["rounds"] = rates
	return r, nil
}

// brief is what a round leaves in bench.json.
func brief(what string, o obj) obj {
	out := obj{"what": what}
	for _, k := range []string{
		"mb_per_s", "requests_per_s", "broker_cpu_s_per_gib", "broker_cpu_s_per_mreq", "broker_user_s", "broker_sys_s",
		"broker_peak_rss_mib", "client_cpu_s", "other_cpu_s", "steal_s", "store_cpu_s", "seconds", "ack_ms", "e2e_ms", "fetch_ms",
	} {
		if v, ok := o[k]; ok {
			out[k] = v
		}
	}
	return out
}

func rowProduceEmptyDir(l *lab) (*result, error) {
	const (
		rounds = 3
		bytes  = 3 * gib
	)
	var cpu, rawCPU []float64
	var rates []obj
	for range rounds {
		if err := l.touchMemory(); err != nil {
			return nil, err
		}
		o, err := l.produceEmptyDir(bytes)
		if err != nil {
			return nil, err
		}
		cpu, rates = append(cpu, num(o, "broker_cpu_s_per_gib")), append(rates, brief("empty directory", o))
		if err := l.fresh(); err != nil {
			return nil, err
		}
		if o, err = l.rawProduce(bigBatches, true, bytes, 0, 0); err != nil {
			return nil, err
		}
		rawCPU, rates = append(rawCPU, num(o, "broker_cpu_s_per_gib")), append(rates, brief("sink", o))
		if err := l.fresh(); err != nil {
			return nil, err
		}
	}
	r := newResult()
	r.atMost("broker CPU", median(cpu), "s/GiB", 1.3, median(rawCPU), rawSink+" into new files")
	r.Details["rounds"] = rates
	return r, nil
}

func (l *lab) produceEmptyDir(bytes int64) (obj, error) {
	b, err := l.startBroker("")
	if err != nil {
		return nil, err
	}
	defer b.kill()
	return bigBatches.with("big", [2]string{"segment.bytes", fmt.Sprint(64 << 20)}).produce(b.addr, b.pids(), bytes, 0, 0)
}

func rowSmallRequests(l *lab) (*result, error) {
	const rounds = 3
	b, err := l.startBroker("")
	if err != nil {
		return nil, err
	}
	d := load{topic: "small", partitions: 24, conns: 32, flight: 5, batchBytes: 4096, recordBytes: 1024}
	var cpu, raw []float64
	var rates []obj
	for range rounds {
		o, err := d.produce(b.addr, b.pids(), 0, time.Second, 5*time.Second)
		if err != nil {
			return nil, err
		}
		cpu, rates = append(cpu, num(o, "broker_cpu_s_per_mreq")), append(rates, brief("broker", o))
		if o, err = l.rawProduce(d, false, 0, time.Second, 4*time.Second); err != nil {
			return nil, err
		}
		raw, rates = append(raw, num(o, "broker_cpu_s_per_mreq")), append(rates, brief("sink", o))
	}
	r := newResult()
	r.atMost("broker CPU", median(cpu), "s/M requests", 16, median(raw), rawSink)
	r.Details["rounds"] = rates
	return r, nil
}

func rowLatency(l *lab) (*result, error) {
	const rounds = 3
	runtime.GOMAXPROCS(2)
	b, err := l.startBroker("")
	if err != nil {
		return nil, err
	}
	d := latencyLoad{topic: "latency", partitions: 6, rate: 5000, perRequest: 1, recordBytes: 256, conns: 4, consumers: 1, inflight: 64, acks: -1}
	var p50, p99, over, behind []float64
	var rates []obj
	for range rounds {
		h, err := syncLoop(l.dir, false, time.Second)
		if err != nil {
			return nil, err
		}
		a, err := syncLoop(l.dir, true, time.Second)
		if err != nil {
			return nil, err
		}
		over, behind = append(over, h.ms(.5)), append(behind, a.ms(.5))
		o, err := d.run(b.addr, b.pids(), 2*time.Second, 6*time.Second)
		if err != nil {
			return nil, err
		}
		ack := o["ack_ms"].(obj)
		p50, p99, rates = append(p50, num(ack, "p50")), append(p99, num(ack, "p99")), append(rates, brief("broker", o))
	}
	r := newResult()
	raw := median(over)
	r.atMost("ack p50", median(p50), "ms", 0.4, raw, "p50 of a bare loop of write and fdatasync")
	r.atMost("ack p99", median(p99), "ms", 3*raw+1, raw, "the same; the bar is three times it and 1 ms")
	r.Details["rounds"], r.Details["fdatasync_p50_ms"], r.Details["fdatasync_append_p50_ms"] = rates, over, behind
	return r, nil
}
