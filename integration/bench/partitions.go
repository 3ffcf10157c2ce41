package main

import (
	"flag"
	"fmt"
	"log"
	"time"
)

// partitionsCmd measures what many partitions cost: to create, to write to once, and to keep idle.
func partitionsCmd(fs *flag.FlagSet) func() (obj, error) {
	n := fs.Int("n", 1000, "partitions in all")
	per := fs.Int("per-topic", 1000, "partitions per topic (topics are named TOPIC-0, TOPIC-1, ...)")
	rf := fs.Int("rf", 1, "replication factor")
	conns := fs.Int("conns", 4, "producer connections")
	idle := fs.Float64("idle-seconds", 10, "length of each idle measurement")
	return func() (obj, error) {
		vitals := func() obj {
			o := obj{}
			for _, p := range pids {
				o["rss_mib"], o["fds"] = procStatusMiB(p, "VmRSS"), procFDs(p)
			}
			return o
		}
		out := obj{"before": vitals()}
		m := meter{pids: pids}
		m.start()
		var tps []tp
		for i := 0; len(tps) < *n; i++ {
			ps, err := ensureTopic(brokers, fmt.Sprintf("%s-%d", topic, i), min(*per, *n-len(tps)), *rf)
			if err != nil {
				return nil, err
			}
			tps = append(tps, ps...)
		}
		m.stop()
		out["create"], out["created"] = m.report(0, 0, 0), vitals()
		log.Printf("created %d partitions in %.2f s", len(tps), m.seconds())

		bs, _ := pool(16, 1, 100, false, "none")
		p := &producer{meter: meter{pids: pids}, targets: tps, pool: bs, conns: *conns, inflight: 5, acks: -1, ppr: 1, rounds: 1}
		st, err := p.run(0, 0)
		if err != nil {
			return nil, err
		}
		out["produce"], out["written"] = p.report(st), vitals()

		quiet := func() obj {
			m.start()
			time.Sleep(seconds(*idle))
			m.stop()
			return m.report(0, 0, 0)
		}
		time.Sleep(time.Second)
		out["idle"] = quiet()
		end, err := listOffsets(tps, -1)
		if err != nil {
			return nil, err
		}
		var missing int
		for _, e := range end {
			if e < 1 {
				missing++
			}
		}
		f := &fetcher{meter: meter{pids: pids}, groups: consumers(tps, 1, end, end), maxBytes: 50 << 20, partMax: 1 << 20, minBytes: 1, maxWait: 500, follow: true, sessions: true}
		halt, fetched := make(chan struct{}), make(chan *fetchStats, 1)
		go func() {
			st, err := f.run(0, 0, halt)
			if err != nil {
				log.Print("session: ", err)
			}
			fetched <- st
		}()
		time.Sleep(time.Second)
		busy := quiet()
		close(halt)
		if st := <-fetched; st != nil {
			busy["session"], busy["requests"], busy["empty_responses"], busy["errors"] = st.session, st.reqs, st.empty, st.errs
		}
		out["idle_with_consumer"], out["end"], out["without_record"] = busy, vitals(), missing
		return out, nil
	}
}
