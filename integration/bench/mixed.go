package main

import (
	"flag"
	"log"
)

// mixedCmd measures a writer alone (A), then beside replay consumers that read from the start at full speed (B).
func mixedCmd(fs *flag.FlagSet) func() (obj, error) {
	parts := fs.Int("partitions", 6, "partitions of the topic (created if it is not there)")
	rf := fs.Int("rf", 1, "replication factor of a created topic")
	preload := sizeVar(fs, "preload", 1<<30, "bytes written before, for the replay")
	rate := fs.Float64("rate", 10, "writer's MB/s")
	recBytes := sizeVar(fs, "record-bytes", 1024, "value size")
	batchBytes := sizeVar(fs, "batch-bytes", 16384, "writer's batch size")
	conns := fs.Int("conns", 4, "writer's connections")
	inflight := fs.Int("inflight", 16, "writer's requests on their way per connection")
	replays := fs.Int("consumers", 2, "replay consumers, each reads all partitions on its own connection")
	secsA := fs.Float64("seconds-a", 5, "phase A")
	secsB := fs.Float64("seconds-b", 5, "phase B")
	warm := fs.Float64("warmup", 1, "seconds before measuring, in each phase")
	copyAll := fs.Bool("copy", false, "replay consumers copy record bytes too")
	return func() (obj, error) {
		tps, err := ensureTopic(brokers, topic, *parts, *rf)
		if err != nil {
			return nil, err
		}
		big, err := pool(8, recordsPer(256<<10, int64(*recBytes), false), int(*recBytes), false, "none")
		if err != nil {
			return nil, err
		}
		if *preload > 0 {
			p := &producer{meter: meter{pids: pids}, targets: tps, pool: big, conns: 2, inflight: 4, acks: -1, ppr: 1, limit: int64(*preload)}
			st, err := p.run(0, 0)
			if err != nil {
				return nil, err
			}
			log.Printf("preloaded %d MiB at %.0f MB/s, errors %v", st.bytes>>20, float64(st.bytes)/1e6/p.meter.seconds(), st.errs)
		}
		small, _ := pool(16, recordsPer(int64(*batchBytes), int64(*recBytes), false), int(*recBytes), false, "none")
		write := func(secs float64) (*producer, *produceStats, error) {
			p := &producer{meter: meter{pids: pids}, targets: tps, pool: small, conns: *conns, inflight: *inflight, acks: -1, ppr: 1, rate: *rate * 1e6 / float64(len(small[0].b))}
			st, err := p.run(seconds(*warm), seconds(secs))
			return p, st, err
		}
		pa, sa, err := write(*secsA)
		if err != nil {
			return nil, err
		}
		start, err := listOffsets(tps, -2)
		if err != nil {
			return nil, err
		}
		end, err := listOffsets(tps, -1)
		if err != nil {
			return nil, err
		}
		f := &fetcher{meter: meter{pids: pids}, maxBytes: 50 << 20, partMax: 1 << 20, minBytes: 1, maxWait: 500, loop: true, copyAll: *copyAll}
		for range *replays {
			f.groups = append(f.groups, consumers(tps, 1, start, end)...)
		}
		halt, fetched := make(chan struct{}), make(chan *fetchStats, 1)
		go func() {
			st, err := f.run(seconds(*warm), 0, halt)
			if err != nil {
				log.Print("replay: ", err)
			}
			fetched <- st
		}()
		pb, sb, err := write(*secsB)
		close(halt)
		fst := <-fetched
		if err != nil || fst == nil {
			return nil, err
		}
		ratio := obj{}
		for name, q := range map[string]float64{"p50": .5, "p99": .99, "p999": .999} {
			ratio[name] = sb.lat.ms(q) / max(sa.lat.ms(q), 1e-6)
		}
		replay := obj{"bytes": fst.bytes, "mb_per_s": float64(fst.bytes) / 1e6 / f.meter.seconds(), "fetch_ms": fst.lat.report(), "errors": fst.errs}
		return obj{"a": pa.report(sa), "b": pb.report(sb), "ratio_b_to_a": ratio, "replay": replay}, nil
	}
}
