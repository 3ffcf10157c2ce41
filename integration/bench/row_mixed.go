package main

import (
	"fmt"
	"runtime"
	"time"
)

// beside is the writer of a round together with what ran beside it.
type beside struct {
	p99, p50, mbs, replayMBs, cores float64
	report                          obj
}

func rowWriterBesideReplay(l *lab) (*result, error) {
	const (
		rounds = 3
		bytes  = 4 * gib
	)
	runtime.GOMAXPROCS(2)
	if err := l.touchMemory(); err != nil {
		return nil, err
	}
	m, err := l.startMinIO()
	if err != nil {
		return nil, err
	}
	b, err := l.startBroker(storeAt(m.addr))
	if err != nil {
		return nil, err
	}
	c, err := b.pour(m, coldLoad, bytes)
	if err != nil {
		return nil, err
	}
	var ratio, share, alone, writer, burner []float64
	var details []obj
	for range rounds {
		if err := b.restart(); err != nil {
			return nil, err
		}
		o, err := b.replay(m, c)
		if err != nil {
			return nil, err
		}
		cold := num(o, "mb_per_s")
		if err := b.restart(); err != nil {
			return nil, err
		}
		with, err := l.writeBesideReplay(b, m, c)
		if err != nil {
			return nil, err
		}
		if err := b.restart(); err != nil {
			return nil, err
		}
		without, err := l.writeBesideBurner(b, with.cores)
		if err != nil {
			return nil, err
		}
		ratio, share, alone = append(ratio, with.p99/without.p99), append(share, with.replayMBs/cold*100), append(alone, cold)
		writer, burner = append(writer, with.p99), append(burner, without.p99)
		details = append(details, obj{
			"cold_fetch_alone_mb_per_s": cold, "replay_mb_per_s": with.replayMBs, "consumer_and_store_cores": with.cores,
			"beside_replay": with.report, "beside_burner": without.report,
		})
	}
	r := newResult()
	r.atMost("writer p99 beside the replay, of that beside a CPU burner", median(ratio), "times", 2, median(burner), "ms beside the burner")
	r.atLeast("replay, of a cold fetch alone", median(share), "%", 60, median(alone), "MB/s alone")
	r.Details["writer_p99_ms"], r.Details["rounds"] = writer, details
	return r, nil
}

// slowWriter is 10 MB/s of 16 KiB batches, paced.
func slowWriter(b *broker) (*producer, error) {
	d := load{topic: "writer", partitions: 6, batchBytes: 16 << 10, recordBytes: 1024}
	tps, err := d.target(b.addr)
	if err != nil {
		return nil, err
	}
	bs, err := pool(16, recordsPer(d.batchBytes, d.recordBytes, false), int(d.recordBytes), false, "none")
	if err != nil {
		return nil, err
	}
	return &producer{
		meter: meter{pids: b.pids()}, targets: tps, pool: bs, conns: 4, inflight: 16, acks: -1, ppr: 1,
		rate: 10e6 / float64(len(bs[0].b)),
	}, nil
}

const writerWarm = time.Second

// writeBesideReplay measures the writer while a consumer process reads the whole cold topic: from
// the replay's first byte to its last.
func (l *lab) writeBesideReplay(b *broker, m *minioServer, c *coldTopic) (*beside, error) {
	p, err := slowWriter(b)
	if err != nil {
		return nil, err
	}
	consumer, err := startChild("replay", "-b", b.addr, "-t", coldLoad.topic, "-ends", offsetList(c))
	if err != nil {
		return nil, err
	}
	defer consumer.kill()
	replayed := make(chan error, 1)
	var mbs, cores float64
	go func() { // ends with the replay, at the latest when the consumer is killed
		var err error
		mbs, cores, err = l.watchReplay(consumer, m)
		p.stop.Store(true)
		replayed <- err
	}()
	st, err := p.run(writerWarm, 60*time.Second)
	if err != nil {
		return nil, err
	}
	if err := <-replayed; err != nil {
		return nil, err
	}
	return newBeside(p, st, mbs, cores)
}

func newBeside(p *producer, st *produceStats, mbs, cores float64) (*beside, error) {
	if len(st.errs) > 0 {
		return nil, fmt.Errorf("writer: error codes %v", st.errs)
	}
	o := p.report(st)
	return &beside{p99: st.lat.ms(.99), p50: st.lat.ms(.5), mbs: num(o, "mb_per_s"), replayMBs: mbs, cores: cores, report: brief("writer", o)}, nil
}

// writeBesideBurner measures the same writer beside a process that uses as many cores as the consumer
// and the store did: what the machine alone makes of it.
func (l *lab) writeBesideBurner(b *broker, cores float64) (*beside, error) {
	p, err := slowWriter(b)
	if err != nil {
		return nil, err
	}
	self, err := selfPath()
	if err != nil {
		return nil, err
	}
	burner, err := startProcess(nil, self, "burn", "-cores", fmt.Sprint(cores), "-procs", "2")
	if err != nil {
		return nil, err
	}
	defer burner.kill()
	st, err := p.run(writerWarm, 6*time.Second)
	if err != nil {
		return nil, err
	}
	return newBeside(p, st, 0, cores)
}
