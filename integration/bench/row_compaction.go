package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	compactionBytes   = 4 * gib
	compactionSegment = 128 << 20
	compactionKeys    = 10_000_000
	compactionValue   = 180
)

// rowCompaction fills one partition with records whose keys come in turn, so that each is there about
// twice, lets the broker compact what is sealed, and measures that one run.
func rowCompaction(l *lab) (*result, error) {
	before := l.settings
	l.settings = append(slices.Clone(before), "log.cleaner.backoff.ms=100ms")
	defer func() { l.settings = before }()
	b, err := l.startBroker("")
	if err != nil {
		return nil, err
	}
	tps, err := ensureTopic(b.addr, "compacted", 1, 1, [][2]string{
		{"cleanup.policy", "compact"}, {"segment.bytes", fmt.Sprint(compactionSegment)}, {"min.cleanable.dirty.ratio", "1"},
	}...)
	if err != nil {
		return nil, err
	}
	c, err := dial(tps[0].leader, 64<<10, 10*time.Second)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Minute))
	sent, records, err := fillKeyed(c, "compacted")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", b.pid()), []byte("5"), 0); err != nil { // the peak begins here
		return nil, err
	}
	user, sys := procCPU(b.pid())
	idle := procStatusMiB(b.pid(), "VmRSS")
	if err := alterTopic(c, "compacted", "min.cleanable.dirty.ratio", "0.01"); err != nil {
		return nil, err
	}
	var m map[string]float64
	for m["varve_commitlog_compactions_total"] < 1 {
		if m, err = b.metrics(); err != nil {
			return nil, err
		}
		time.Sleep(100 * time.Millisecond)
	}
	user2, sys2 := procCPU(b.pid())
	peak := procStatusMiB(b.pid(), "VmHWM")
	seconds := m["varve_commitlog_compaction_seconds_total"]
	sealed := float64(sent / compactionSegment * compactionSegment)
	cpu := user2 + sys2 - user - sys
	r := newResult()
	r.atLeast("compacted in a second of the run", sealed/1e6/seconds, "MB/s", 150, 0, "")
	r.atLeast("compacted in a second of the broker's CPU", sealed/1e6/cpu, "MB/s", 150, 0, "")
	r.atMost("resident memory, the peak of the run", peak, "MiB", 256, 0, "")
	r.Details = obj{
		"seconds": seconds, "cpu_s": cpu, "before_mib": idle, "sent_bytes": sent, "sent_records": records,
		"read_bytes": m["varve_commitlog_compaction_read_bytes_total"], "saved_bytes": m["varve_commitlog_compaction_saved_bytes_total"],
		"dropped_records": m["varve_commitlog_compaction_dropped_records_total"],
	}
	return r, nil
}

// fillKeyed produces to one partition, one request at a time: one batch of which keys and values change.
func fillKeyed(c *conn, topic string) (bytes, records int64, err error) {
	n := recordsPer(1<<20, compactionValue, true)
	var vs, ks [][]byte
	for range n {
		vs, ks = append(vs, make([]byte, compactionValue)), append(ks, make([]byte, 16))
	}
	bt := newBatch(vs, ks, nil)
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 30000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = topic
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = bt.b
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	for bytes < compactionBytes+compactionSegment {
		for _, v := range bt.values {
			// The value's length takes two bytes, and the key ends before it.
			copy(bt.b[v-2-16:], fmt.Appendf(nil, "%016x", uint64(records)*2654435761%compactionKeys))
			binary.BigEndian.PutUint64(bt.b[v:], uint64(records))
			records++
		}
		bt.seal()
		resp, err := c.call(req)
		if err != nil {
			return bytes, records, err
		}
		if e := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode; e != 0 {
			return bytes, records, fmt.Errorf("produce: %w", kerr.ErrorForCode(e))
		}
		bytes += int64(len(bt.b))
	}
	return bytes, records, nil
}

// alterTopic sets one config of a topic.
func alterTopic(c *conn, topic, key, value string) error {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	cfg := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	cfg.Name, cfg.Value = key, kmsg.StringPtr(value)
	res.Configs = append(res.Configs, cfg)
	req.Resources = append(req.Resources, res)
	resp, err := c.call(req)
	if err != nil {
		return err
	}
	if e := resp.(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode; e != 0 {
		return fmt.Errorf("alter %s: %w", key, kerr.ErrorForCode(e))
	}
	return nil
}

// metrics reads the broker's metrics that have no labels.
func (b *broker) metrics() (map[string]float64, error) {
	resp, err := http.Get("http://" + b.admin + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(body)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(name, "#") {
			if v, err := strconv.ParseFloat(value, 64); err == nil {
				out[name] = v
			}
		}
	}
	return out, err
}
