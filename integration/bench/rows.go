package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A row measures one line of the table.
type row struct {
	name, what string
	needsMinIO bool
	run        func(l *lab) (*result, error)
}

var rows = []row{
	{"produce-recycled", "1 KiB records, 1 MiB batches, 6 partitions, acks=all, into recycled segments", false, rowProduceRecycled},
	{"produce-empty-dir", "the same from an empty directory, no warm-up", false, rowProduceEmptyDir},
	{"small-requests", "4 KiB batches, 24 partitions, 32 connections x 5 in flight, fdatasync", false, rowSmallRequests},
	{"latency", "one record a request at 5,000 a second, 4 connections, fdatasync", false, rowLatency},
	{"hot-fetch", "hot catch-up fetch, 6 partitions", false, rowHotFetch},
	{"cold-fetch", "cold fetch from MinIO, empty cache, one consumer, 8 partitions, compressed by the producer", true, rowColdFetch},
	{"first-record-gets", "first record of a never-touched cold object", true, rowFirstRecord},
	{"requests-per-segment", "requests per uploaded segment", true, rowRequestsPerSegment},
	{"partitions-10k", "10,000 partitions with one record each", false, rowPartitions},
	{"writer-beside-replay", "10 MB/s of 16 KiB, fdatasync, while one consumer replays everything cold", true, rowWriterBesideReplay},
	{"transactions", "one producer, 100 records each, durable", false, rowTransactions},
	{"compaction", "4 GiB with 10 million keys, one partition", false, rowCompaction},
	{"memory-4gib", "broker memory while 4 GiB pass through with 32 partitions", false, rowMemory},
}

// check is one value with its bar.
type check struct {
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Most  bool    `json:"at_most"` // the bar is an upper one; else a lower one
	Bar   float64 `json:"bar"`
	// Raw is what the machine or the simplest program does, measured in the same run, in the unit of
	// Value; RawWhat names it. "" means that there is none for this value.
	Raw     float64 `json:"raw,omitempty"`
	RawWhat string  `json:"raw_what,omitempty"`
	Pass    bool    `json:"pass"`
}

type result struct {
	Row     string  `json:"row"`
	What    string  `json:"what"`
	Checks  []check `json:"checks"`
	Details obj     `json:"details"` // what else was measured
	Seconds float64 `json:"seconds"`
}

func newResult() *result { return &result{Details: obj{}} }

func (r *result) atMost(what string, v float64, unit string, bar, raw float64, rawWhat string) {
	r.Checks = append(r.Checks, check{what, v, unit, true, bar, raw, rawWhat, v <= bar})
}

func (r *result) atLeast(what string, v float64, unit string, bar, raw float64, rawWhat string) {
	r.Checks = append(r.Checks, check{what, v, unit, false, bar, raw, rawWhat, v >= bar})
}

func (c check) String() string {
	word, verdict, raw := "at least", "MISS", "-"
	if c.Most {
		word = "at most"
	}
	if c.Pass {
		verdict = "PASS"
	}
	if c.RawWhat != "" {
		raw = fmt.Sprintf("%.3g (%s)", c.Raw, c.RawWhat)
	}
	return fmt.Sprintf("%s  %s: %.3g %s, bar %s %.3g, raw limit %s", verdict, c.What, c.Value, c.Unit, word, c.Bar, raw)
}

// lab is what a row works with: the programs, and a directory that goes away with the row.
type lab struct {
	varve, minio string
	root, dir    string
	settings     []string // of every broker

	mu   sync.Mutex
	ends []func()
}

// atEnd has f run when the row is over, last first.
func (l *lab) atEnd(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends = append(l.ends, f)
}

func (l *lab) close() {
	l.mu.Lock()
	ends := l.ends
	l.ends = nil
	l.mu.Unlock()
	for _, f := range slices.Backward(ends) {
		f()
	}
	if l.dir != "" {
		_ = os.RemoveAll(l.dir) // ignored by git and emptied at the next start too
	}
}

func (l *lab) tempFile(name string, b []byte) (string, error) {
	path := filepath.Join(l.dir, name)
	return path, os.WriteFile(path, b, 0o600)
}

// fresh empties the row's directory.
func (l *lab) fresh() error {
	if err := os.RemoveAll(l.dir); err != nil {
		return err
	}
	return os.MkdirAll(l.dir, 0o755)
}

// errMissed ends the program with 1 after all rows have told their verdict.
var errMissed = errors.New("a bar was missed")

func rowsCmd(fs *flag.FlagSet) func() (obj, error) {
	varve := fs.String("varve", "bin/varve", "the broker")
	minioBin := fs.String("minio", "bin/minio", "the MinIO server")
	out := fs.String("json", "", "write all results here")
	only := fs.String("row", "", "run only these rows, separated by commas")
	var settings listFlag
	fs.Var(&settings, "x", "key=value for every broker, to see what a setting does; repeat")
	dir := fs.String("dir", ".run/bench", "working directory, emptied before and after each row")
	return func() (obj, error) {
		var chosen []row
		for _, r := range rows {
			if *only == "" || slices.Contains(strings.Split(*only, ","), r.name) {
				chosen = append(chosen, r)
			}
		}
		if len(chosen) == 0 {
			return nil, fmt.Errorf("no row %q; there are %s", *only, rowNames())
		}
		var err error
		paths := []*string{varve, minioBin, dir}
		for _, p := range paths {
			if *p, err = filepath.Abs(*p); err != nil {
				return nil, err
			}
		}
		// Whatever an earlier run left there was measured with; a new row begins with nothing.
		return nil, runRows(chosen, &lab{varve: *varve, minio: *minioBin, root: *dir, settings: settings}, *out)
	}
}

func rowNames() string {
	var names []string
	for _, r := range rows {
		names = append(names, r.name)
	}
	return strings.Join(names, ", ")
}

func runRows(chosen []row, l *lab, out string) error {
	l.dir = filepath.Join(l.root, fmt.Sprint("row-", os.Getpid()))
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	go func() { // ends with the process
		<-stop
		l.close()
		os.Exit(130)
	}()
	var results []*result
	missed := false
	begin := time.Now()
	for _, r := range chosen {
		log.Printf("%s: %s", r.name, r.what)
		from := time.Now()
		res, err := runRow(r, l)
		if err != nil {
			// A row that does not end well is a miss with the reason in its place; the others still run.
			log.Printf("%s: %v", r.name, err)
			res = newResult()
			res.Checks = []check{{What: "the row ran to its end"}}
			res.Details["error"] = err.Error()
		}
		res.Row, res.What, res.Seconds = r.name, r.what, time.Since(from).Seconds()
		results = append(results, res)
		for _, c := range res.Checks {
			fmt.Printf("%-21s %s\n", r.name, c)
			missed = missed || !c.Pass
		}
	}
	log.Printf("%d rows in %.0f s", len(results), time.Since(begin).Seconds())
	if out != "" {
		b, err := json.MarshalIndent(obj{"at": begin.UTC().Format(time.RFC3339), "machine": machine(), "rows": results, "pass": !missed}, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(out, append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	if missed {
		return errMissed
	}
	return nil
}

// needDisk is what the largest row writes: 4 GiB produced, stored, cached and copied by MinIO, and the
// broker's reserve.
const needDisk = 20 << 30

func runRow(r row, l *lab) (*result, error) {
	defer l.close()
	if r.needsMinIO {
		if _, err := os.Stat(l.minio); err != nil {
			return nil, fmt.Errorf("%w: scripts/minio.sh build makes it", err)
		}
	}
	if err := l.fresh(); err != nil {
		return nil, err
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(l.dir, &disk); err != nil {
		return nil, err
	}
	if free := int64(disk.Bavail) * disk.Bsize; free < needDisk {
		return nil, fmt.Errorf("%d MiB free at %s, a row may need %d MiB", free>>20, l.root, needDisk>>20)
	}
	runtime.GOMAXPROCS(1)
	return r.run(l)
}

// machine says what the numbers were measured on.
func machine() obj {
	var u syscall.Utsname
	_ = syscall.Uname(&u)
	var release []byte
	for _, c := range u.Release {
		if c == 0 {
			break
		}
		release = append(release, byte(c))
	}
	return obj{"cpus": runtime.NumCPU(), "cpu": cpuModel(), "memory_mib": meminfo("MemTotal") >> 20, "linux": string(release), "go": runtime.Version()}
}

// median of a few rounds; the mean of the middle two if there is no middle one.
func median(xs []float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(xs))
	return (s[len(s)/2] + s[(len(s)-1)/2]) / 2
}

// num reads a number of a report.
func num(o obj, key string) float64 {
	switch v := o[key].(type) {
	case float64:
		return v
	case int64:
		return float64(v)
	}
	return 0
}
