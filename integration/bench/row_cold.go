package main

import (
	"fmt"
	"runtime"
)

// tiered are the configs of a topic that leaves the local disk as soon as it is in the store.
func tiered(segmentBytes int64) [][2]string {
	return [][2]string{
		{"remote.storage.enable", "true"}, {"segment.bytes", fmt.Sprint(segmentBytes)}, {"local.retention.bytes", "1"},
	}
}

// localShare bounds what may stay on local disk beside the cold bytes before a cold read is measured:
// a segment a partition can, and only the cold range is read.
const localShare = 0.25

// coldTopic is a topic whose records are in the store and nowhere else.
type coldTopic struct {
	tps       []tp
	from, end map[tp]int64
	bytes     int64
	objects   []object
}

// pour produces a topic and waits until it is cold.
func (b *broker) pour(m *minioServer, d load, bytes int64) (*coldTopic, error) {
	if _, err := d.produce(b.addr, b.pids(), bytes, 0, 0); err != nil {
		return nil, err
	}
	t, err := b.settle(d.topic, localShare)
	if err != nil {
		return nil, err
	}
	c := new(coldTopic)
	if c.tps, err = metadata(b.addr, d.topic); err != nil {
		return nil, err
	}
	c.from, c.end, c.bytes = t.coldRange(c.tps)
	c.objects, err = coldObjects(m.addr, d.topic)
	return c, err
}

// replay reads the cold range of a topic once with one consumer.
func (b *broker) replay(m *minioServer, c *coldTopic) (obj, error) {
	f := newFetcher(b.pids(), c.tps, 1, c.from, c.end)
	user, sys := procCPU(m.pid())
	st, err := f.run(0, 0, nil)
	if err != nil {
		return nil, err
	}
	if err := st.faults(); err != nil {
		return nil, err
	}
	if st.bytes < c.bytes*9/10 {
		return nil, fmt.Errorf("the replay got %d of %d cold bytes", st.bytes, c.bytes)
	}
	o := f.report(st)
	userEnd, sysEnd := procCPU(m.pid())
	o["store_cpu_s"] = userEnd + sysEnd - user - sys
	// What is still written to the disk cache belongs to the read.
	f.meter.settle(o, 0.5)
	o["broker_cpu_s_per_gib"] = (num(o, "broker_cpu_s") + num(o, "broker_settle_cpu_s")) / (float64(st.bytes) / gib)
	return o, nil
}

// coldLoad is a topic of lz4 batches, so that its objects have the bytes that a consumer gets.
var coldLoad = load{topic: "cold", partitions: 8, conns: 2, flight: 4, batchBytes: 256 << 10, recordBytes: 1024, compress: "lz4", configs: tiered(32 << 20)}

func rowColdFetch(l *lab) (*result, error) {
	const (
		rounds = 3
		bytes  = 2 * gib
	)
	runtime.GOMAXPROCS(1)
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
	compressed, err := b.pour(m, coldLoad, bytes)
	if err != nil {
		return nil, err
	}
	plain := coldLoad
	plain.topic, plain.compress = "plain", "none"
	uncompressed, err := b.pour(m, plain, bytes)
	if err != nil {
		return nil, err
	}
	var cpu, share, relayed, plainRate []float64
	var rates []obj
	for range rounds {
		if err := b.restart(); err != nil {
			return nil, err
		}
		o, err := b.replay(m, compressed)
		if err != nil {
			return nil, err
		}
		ro, err := l.runRelay(m, compressed.objects)
		if err != nil {
			return nil, err
		}
		relay := num(ro, "mb_per_s")
		relayed, share = append(relayed, relay), append(share, num(o, "mb_per_s")/relay*100)
		cpu = append(cpu, num(o, "broker_cpu_s_per_gib"))
		rates = append(rates, brief("compressed", o), brief("relay", ro))
		if err := b.restart(); err != nil {
			return nil, err
		}
		if o, err = b.replay(m, uncompressed); err != nil {
			return nil, err
		}
		plainRate, rates = append(plainRate, num(o, "mb_per_s")), append(rates, brief("uncompressed", o))
	}
	r := newResult()
	r.atLeast("throughput, of the relay's", median(share), "%", 60, median(relayed), "MB/s of the relay")
	r.atMost("broker CPU", median(cpu), "s/GiB", 1.0, 0, "")
	r.Details["uncompressed_mb_per_s"] = median(plainRate)
	r.Details["cold_bytes"], r.Details["objects"], r.Details["rounds"] = compressed.bytes, len(compressed.objects), rates
	fmt.Printf("%-21s       the same with uncompressed batches: %.0f MB/s\n", "cold-fetch", median(plainRate))
	return r, nil
}
