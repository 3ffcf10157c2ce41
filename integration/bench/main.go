// Command bench measures one Kafka-protocol broker from outside: throughput, latency percentiles and
// the broker's CPU per GiB and per million requests.
//
// "bench rows" runs the rows of the README's table. Each row starts its own broker (and MinIO, where
// it needs one) on free loopback ports, measures a raw limit in the same run, and tells PASS or MISS
// against its bar. The other commands measure one thing on a broker that runs already; "relay",
// "sink", "send" and "burn" are the raw limits, which rows start as processes of their own.
//
// It runs on Linux only: it reads /proc and paces with timerfd.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

type obj = map[string]any

// A command registers its flags and returns the function that runs it.
type command func(fs *flag.FlagSet) func() (obj, error)

var commands = map[string]command{
	"produce": produceCmd, "fetch": fetchCmd, "latency": latencyCmd, "mixed": mixedCmd,
	"partitions": partitionsCmd, "failover": failoverCmd, "verify": verifyCmd,
	"topic": topicCmd, "wait": waitCmd, "touch": touchCmd, "table": tableCmd,
	"rows": rowsCmd, "relay": relayCmd, "sink": sinkCmd, "send": sendCmd, "burn": burnCmd, "replay": replayCmd,
}

var (
	brokers string // -b
	topic   string // -t
	pids    intsFlag
	procs   int
)

func main() {
	// Children are killed when the thread that started them ends (Pdeathsig), so it must be the one
	// that lives as long as the process.
	runtime.LockOSThread()
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	log.SetPrefix("bench ")
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: bench", strings.Join(slices.Sorted(maps.Keys(commands)), "|"), "[flags]")
		os.Exit(2)
	}
	name := os.Args[1]
	fs := flag.NewFlagSet(name, flag.ExitOnError)
	fs.StringVar(&brokers, "b", "127.0.0.1:9092", "bootstrap brokers, host:port[,host:port]")
	fs.StringVar(&topic, "t", "bench", "topic")
	fs.Var(&pids, "pid", "broker process ids to measure, PID[,PID]")
	fs.IntVar(&procs, "procs", 1, "GOMAXPROCS of this client")
	tag := fs.String("tag", "", "free text copied to the result (compare.sh: NAME/SCENARIO/ROUND)")
	run := commands[name](fs)
	_ = fs.Parse(os.Args[2:]) // it exits by itself
	runtime.GOMAXPROCS(procs)
	out, err := run()
	if errors.Is(err, errMissed) {
		os.Exit(1)
	}
	if err != nil {
		log.Fatalf("%s: %v", name, err)
	}
	if out == nil {
		return
	}
	in := obj{}
	fs.VisitAll(func(f *flag.Flag) { in[f.Name] = f.Value.String() })
	out["inputs"], out["cmd"], out["tag"] = in, name, *tag
	out["at"] = time.Now().UTC().Format(time.RFC3339)
	b, err := json.Marshal(out)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(b))
}

type intsFlag []int

func (v *intsFlag) String() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint([]int(*v)), " ", ","), "[]")
}

func (v *intsFlag) Set(s string) error {
	for p := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(p))
		if err != nil {
			return err
		}
		*v = append(*v, n)
	}
	return nil
}

// listFlag collects a flag that may be given more than once.
type listFlag []string

func (v *listFlag) String() string { return strings.Join(*v, ",") }
func (v *listFlag) Set(s string) error {
	*v = append(*v, s)
	return nil
}

// sizeFlag is a byte count: 4096, 64KiB, 2GiB, 10MB.
type sizeFlag int64

func (v *sizeFlag) String() string { return strconv.FormatInt(int64(*v), 10) }
func (v *sizeFlag) Set(s string) error {
	mul := 1.0
	for i, u := range []string{"KiB", "MiB", "GiB", "KB", "MB", "GB"} {
		if t, ok := strings.CutSuffix(s, u); ok {
			s, mul = t, []float64{1 << 10, 1 << 20, 1 << 30, 1e3, 1e6, 1e9}[i]
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	*v = sizeFlag(f * mul)
	return err
}

func sizeVar(fs *flag.FlagSet, name string, def int64, help string) *sizeFlag {
	v := sizeFlag(def)
	fs.Var(&v, name, help)
	return &v
}

func seconds(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }

// waitCmd polls until the broker answers ApiVersions and Metadata.
func waitCmd(fs *flag.FlagSet) func() (obj, error) {
	secs := fs.Float64("seconds", 30, "give up after this long")
	return func() (obj, error) {
		start := time.Now()
		for {
			_, err := metadata(brokers)
			if err == nil {
				return obj{"ready_s": time.Since(start).Seconds()}, nil
			}
			if time.Since(start) > seconds(*secs) {
				return nil, err
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// touchCmd makes the VM's memory resident, so that the first broker to run does not pay for it.
func touchCmd(fs *flag.FlagSet) func() (obj, error) {
	n := sizeVar(fs, "bytes", 8<<30, "memory to touch")
	return func() (obj, error) {
		b := make([]byte, *n)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		return nil, nil
	}
}
