package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"
)

// replayCmd is the consumer of writer-beside-replay: a process of its own, so that its cores can be
// told from the writer's. At the first byte of a connection it reads the topic once, from the start
// to the given ends, and answers with one JSON line.
func replayCmd(fs *flag.FlagSet) func() (obj, error) {
	listen := fs.String("listen", "127.0.0.1:0", "host:port")
	ends := fs.String("ends", "", "partition:start:end,...")
	return func() (obj, error) {
		tps, err := metadata(brokers, topic)
		if err != nil {
			return nil, err
		}
		from, end := map[tp]int64{}, map[tp]int64{}
		for text := range strings.SplitSeq(*ends, ",") {
			var part int32
			var a, z int64
			if _, err := fmt.Sscanf(text, "%d:%d:%d", &part, &a, &z); err != nil || int(part) >= len(tps) {
				return nil, fmt.Errorf("ends %q: %w", text, err)
			}
			from[tps[part]], end[tps[part]] = a, z
		}
		return nil, serveEach(*listen, func(nc *net.TCPConn) error {
			if _, err := nc.Read(make([]byte, 1)); err != nil {
				return nil
			}
			f := newFetcher(nil, tps, 1, from, end)
			st, err := f.run(0, 0, nil)
			if err != nil {
				return err
			}
			out := f.report(st)
			if err := st.faults(); err != nil {
				out["fault"] = err.Error()
			}
			return json.NewEncoder(nc).Encode(out)
		})
	}
}

func offsetList(c *coldTopic) string {
	var out []string
	for _, x := range c.tps {
		out = append(out, fmt.Sprintf("%d:%d:%d", x.part, c.from[x], c.end[x]))
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// watchReplay lets the writer warm up, starts the replay, and measures the cores that consumer and
// store use until it has ended.
func (l *lab) watchReplay(consumer *child, m *minioServer) (mbs, cores float64, err error) {
	nc, err := net.Dial("tcp", consumer.addr)
	if err != nil {
		return 0, 0, err
	}
	defer nc.Close()
	time.Sleep(writerWarm) // the writer's own warm-up, which it does not measure either
	mt := meter{pids: []int{consumer.pid(), m.pid()}}
	mt.start()
	if _, err := nc.Write([]byte{1}); err != nil {
		return 0, 0, err
	}
	line, err := bufio.NewReader(nc).ReadBytes('\n')
	mt.stop()
	if err != nil {
		return 0, 0, fmt.Errorf("replay: %w: %s", err, consumer.log)
	}
	var out struct {
		MBs   float64 `json:"mb_per_s"`
		Fault string  `json:"fault"`
	}
	if err := json.Unmarshal(line, &out); err != nil {
		return 0, 0, err
	}
	if out.Fault != "" {
		return 0, 0, errors.New(out.Fault)
	}
	return out.MBs, num(mt.report(0, 0, 0), "broker_cpu_s") / mt.seconds(), nil
}

func selfPath() (string, error) { return os.Executable() }
