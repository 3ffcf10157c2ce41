package main

import (
	"bufio"
	"flag"
	"fmt"
	"hash/crc32"
	"log"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// leaders is the shared view of who leads what.
type leaders struct {
	sync.Mutex
	at time.Time
	m  map[int32]string
}

func (l *leaders) of(part int32, stale bool) string {
	l.Lock()
	defer l.Unlock()
	if stale && time.Since(l.at) > 50*time.Millisecond {
		if tps, err := metadata(brokers, topic); err == nil && len(tps) > 0 {
			for _, p := range tps {
				l.m[p.part] = p.leader
			}
		}
		l.at = time.Now()
	}
	return l.m[part]
}

type outage struct {
	From   float64 `json:"from_s"`
	Length float64 `json:"length_s"`
}

// failoverCmd writes one record at a time to each partition and follows the leaders; kill brokers meanwhile.
// Every try has a value of its own, so a broker that keeps a timed-out try makes no duplicate.
func failoverCmd(fs *flag.FlagSet) func() (obj, error) {
	parts := fs.Int("partitions", 3, "partitions of the topic (created if it is not there)")
	rf := fs.Int("rf", -1, "replication factor of a created topic (-1 = the broker's default)")
	secs := fs.Float64("seconds", 30, "duration")
	timeout := fs.Float64("timeout", 1, "seconds for one request or connect")
	every := fs.Float64("interval-ms", 5, "pause after an ack")
	recBytes := fs.Int("record-bytes", 100, "value size at least")
	ackedFile := fs.String("acked", "", "write each acked record here, for kbench verify")
	report := fs.Float64("report-s", 0.25, "list windows without an ack longer than this")
	return func() (obj, error) {
		tps, err := ensureTopic(brokers, topic, *parts, *rf)
		if err != nil {
			return nil, err
		}
		var out *bufio.Writer
		if *ackedFile != "" {
			f, err := os.Create(*ackedFile)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			out = bufio.NewWriter(f)
			defer out.Flush()
		}
		view := &leaders{m: map[int32]string{}}
		for _, p := range tps {
			view.m[p.part] = p.leader
		}
		run := fmt.Sprintf("%08x", rand.Uint32())
		begin, end := time.Now(), time.Now().Add(seconds(*secs))
		var mu sync.Mutex
		var acked, tries int64
		var lat hist
		errs, per, longest := map[string]int64{}, obj{}, 0.0
		var wg sync.WaitGroup
		for _, t := range tps {
			wg.Go(func() {
				var c *conn
				last, outs, worst := begin, []outage{}, outage{}
				gap := func(now time.Time) {
					o := outage{last.Sub(begin).Seconds(), now.Sub(last).Seconds()}
					if o.Length > worst.Length {
						worst = o
					}
					if o.Length > *report {
						outs = append(outs, o)
					}
					last = now
				}
				for seq, stale := 0, false; time.Now().Before(end); seq++ {
					key := fmt.Sprintf("%s-%d-%09d", run, t.part, seq)
					value := append([]byte(key+" "), payload(rand.New(rand.NewPCG(uint64(seq), uint64(t.part))), max(0, *recBytes-len(key)-1))...)
					sent := time.Now()
					off, err := tryProduce(&c, view.of(t.part, stale), t.part, value, seconds(*timeout))
					now := time.Now()
					mu.Lock()
					tries++
					if stale = err != nil; stale {
						errs[err.Error()]++
					} else {
						acked++
						lat.add(now.Sub(sent))
						if out != nil {
							fmt.Fprintf(out, "%d %d %s %08x\n", t.part, off, key, crc32.Checksum(value, castagnoli))
						}
					}
					mu.Unlock()
					if stale {
						time.Sleep(20 * time.Millisecond)
						continue
					}
					gap(now)
					time.Sleep(time.Duration(*every * float64(time.Millisecond)))
				}
				gap(time.Now())
				mu.Lock()
				per[strconv.Itoa(int(t.part))] = obj{"longest": worst, "windows": outs}
				longest = max(longest, worst.Length)
				mu.Unlock()
			})
		}
		wg.Wait()
		log.Printf("longest window without an ack: %.3f s", longest)
		return obj{"acked": acked, "tries": tries, "errors": errs, "longest_s": longest, "partitions": per, "ack_ms": lat.report(), "run": run}, nil
	}
}

// tryProduce writes one record with acks=all; on an error it drops the connection.
func tryProduce(cp **conn, addr string, part int32, value []byte, timeout time.Duration) (off int64, err error) {
	defer func() {
		if err != nil && *cp != nil {
			(*cp).Close()
			*cp = nil
		}
	}()
	if addr == "" {
		return 0, fmt.Errorf("no leader")
	}
	if *cp == nil {
		if *cp, err = dial(addr, 16<<10, timeout); err != nil {
			return 0, short(err, "connect")
		}
	}
	bt := newBatch([][]byte{value}, nil, nil)
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, int32(timeout.Milliseconds())
	rt, rp := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = part, bt.b
	rt.Topic, rt.Partitions = topic, append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	c := *cp
	c.SetDeadline(time.Now().Add(timeout))
	r, err := c.call(req)
	if err != nil {
		return 0, short(err, "request")
	}
	topics := r.(*kmsg.ProduceResponse).Topics
	if len(topics) == 0 || len(topics[0].Partitions) == 0 {
		return 0, fmt.Errorf("empty response")
	}
	p := topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		return 0, fmt.Errorf("code %d", p.ErrorCode)
	}
	return p.BaseOffset, nil
}

// short keeps the kinds of error few enough to count.
func short(err error, what string) error {
	if os.IsTimeout(err) {
		return fmt.Errorf("%s: timeout", what)
	}
	for _, s := range []string{"refused", "reset", "EOF", "broken pipe"} {
		if strings.Contains(err.Error(), s) {
			return fmt.Errorf("%s: %s", what, s)
		}
	}
	return fmt.Errorf("%s: other", what)
}
