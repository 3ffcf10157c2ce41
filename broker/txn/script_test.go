package txn

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"varve/broker/coord"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts show into testdata")

// TestScripts runs testdata/*.txt: a line is a command with key=value words; what it leads to follows
// it: records as the log gets them, replies, markers. `state` shows everything that is kept.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, want)
			if *rewrite {
				if err := os.WriteFile(name, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(got, want) {
				t.Errorf("script shows something else; -rewrite writes:\n%s", got)
			}
		})
	}
}

// bench runs one Machine the way coord does: records are applied when an event returns, replies
// leave when they are committed.
type bench struct {
	t       *testing.T
	m       *Machine
	now     time.Time
	log     []coord.Record
	out     bytes.Buffer
	held    []waiter // given back by the machine
	markers [][]Marker
	ids     []string
	nextID  int64
	timeout time.Duration
	lost    bool // appends fail: nothing is committed
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, now: time.UnixMilli(1_000_000).UTC(), nextID: 100, timeout: time.Hour}
	b.load()
	return b
}

// load is a coordinator that starts over what the log has.
func (b *bench) load() {
	b.m = &Machine{
		cfg: Config{
			MaxTimeout: func() time.Duration { return time.Hour }, Expiration: func() time.Duration { return 7 * 24 * time.Hour },
		},
		partition: 3, log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		send: func(_ *Machine, id string, markers []Marker) {
			b.markers, b.ids = append(b.markers, markers), append(b.ids, id)
			for _, m := range markers {
				b.printf("  marker %s/%d producer=%d:%d coordinator=%d commit=%v bumped=%v\n", m.Partition.Topic, m.Partition.Partition,
					m.ProducerID, m.ProducerEpoch, m.CoordinatorEpoch, m.Commit, m.Bumped)
			}
		},
		requeue: func(_ int32, w waiter) { b.held = append(b.held, w) },
		txns:    map[string]*txn{}, byID: map[int64]*txn{},
	}
	b.m.SetEpoch(7)
	for i, r := range b.log {
		if err := b.m.Apply(r, coord.Info{Offset: int64(i)}); err != nil {
			b.t.Fatal(err)
		}
	}
	b.step(b.m.Loaded(b.now))
	b.settle()
}

func (b *bench) printf(format string, args ...any) { fmt.Fprintf(&b.out, format, args...) }

func (b *bench) step(s coord.Step) {
	var err error
	if b.lost && len(s.Records) > 0 {
		err = coord.ErrNotCoordinator
	}
	for _, r := range s.Records {
		b.showRecord(r)
		if err == nil {
			b.log = append(b.log, r)
		}
		if err := b.m.Apply(r, coord.Info{}); err != nil {
			b.t.Fatal(err)
		}
	}
	if s.Then != nil {
		s.Then(err)
	}
}

func (b *bench) showRecord(r coord.Record) {
	id, _, err := decodeKey(r.Key)
	if err != nil {
		b.t.Fatal(err)
	}
	if r.Value == nil {
		b.printf("  record %s tombstone\n", id)
		return
	}
	s, err := decodeValue(r.Value)
	if err != nil {
		b.t.Fatal(err)
	}
	b.printf("  record %s %s\n", id, s.show())
}

func (s *status) show() string {
	parts := make([]string, len(s.parts))
	for i, p := range s.parts {
		parts[i] = fmt.Sprintf("%s/%d", p.Topic, p.Partition)
	}
	return fmt.Sprintf("%s %d:%d last=%d prev=%d next=%d v%d start=%d [%s]", s.state, s.producerID, s.epoch, s.lastEpoch, s.prevID, s.nextID,
		s.version, s.startMS, strings.Join(parts, " "))
}

// settle runs what the machine gave back, and ticks that are due.
func (b *bench) settle() {
	for range 100 {
		if len(b.held) > 0 {
			w := b.held[0]
			b.held = b.held[1:]
			b.step(w.retry(b.m, b.now))
			continue
		}
		at := b.m.NextTimer()
		if at.IsZero() || at.After(b.now) {
			return
		}
		b.step(b.m.Tick(b.now))
	}
	b.t.Fatal("machine does not come to rest")
}

type words map[string]string

func (w words) int(name string, without int64) int64 {
	v, ok := w[name]
	if !ok {
		return without
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func (w words) producer() Producer {
	p := Producer{TxnID: w["id"], ID: -1, Epoch: -1}
	if v, ok := w["producer"]; ok {
		id, epoch, _ := strings.Cut(v, ":")
		n, _ := strconv.ParseInt(id, 10, 64)
		e, _ := strconv.ParseInt(epoch, 10, 16)
		p.ID, p.Epoch = n, int16(e)
	}
	return p
}

func (w words) partitions() (out []Partition) {
	for _, s := range strings.Split(w["parts"], ",") {
		topic, n, _ := strings.Cut(s, "/")
		p, _ := strconv.Atoi(n)
		out = append(out, Partition{topic, int32(p)})
	}
	return out
}

func runScript(t *testing.T, script []byte) []byte {
	b := newBench(t)
	in := bufio.NewScanner(bytes.NewReader(script))
	for in.Scan() {
		line := in.Text()
		if strings.HasPrefix(line, "  ") {
			continue // what an earlier run showed
		}
		b.printf("%s\n", line)
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		w := words{}
		for _, f := range fields[1:] {
			k, v, _ := strings.Cut(f, "=")
			w[k] = v
		}
		b.run(fields[0], w)
		b.settle()
	}
	return b.out.Bytes()
}

func (b *bench) run(command string, w words) {
	producer := func(what string) func(Producer, error) {
		return func(p Producer, err error) {
			if err != nil {
				b.printf("  %s: %v\n", what, err)
				return
			}
			b.printf("  %s: %d:%d\n", what, p.ID, p.Epoch)
		}
	}
	plain := func(what string) func(error) {
		return func(err error) {
			if err == nil {
				err = errors.New("ok")
			}
			b.printf("  %s: %v\n", what, err)
		}
	}
	version := Version(w.int("v", 2))
	switch command {
	case "init":
		b.init(InitRequest{w.producer(), int32(w.int("timeout", 60000))}, producer("init "+w["id"]))
	case "add":
		b.step(b.m.addPartitions(w.producer(), w.partitions(), version, b.now, plain("add "+w["id"])))
	case "verify":
		parts := w.partitions()
		b.step(b.m.verify(w.producer(), parts, func(each []error, err error) {
			if err != nil {
				each = slices.Repeat([]error{err}, len(parts))
			}
			for i, err := range each {
				plain(fmt.Sprintf("verify %s/%d", parts[i].Topic, parts[i].Partition))(err)
			}
		}))
	case "commit", "abort":
		b.end(EndRequest{w.producer(), command == "commit", version}, producer(command+" "+w["id"]))
	case "written":
		b.written(w)
	case "sleep":
		d, err := time.ParseDuration(w["for"])
		if err != nil {
			b.t.Fatal(err)
		}
		b.now = b.now.Add(d)
	case "restart":
		b.m.Stopped()
		b.held, b.markers, b.ids = nil, nil, nil
		b.load()
	case "lose":
		b.lost = w["appends"] == "true"
	case "epoch": // as if the producer had been bumped that often
		t := b.m.txns[w["id"]]
		next := t.status
		next.epoch = int16(w.int("to", 0))
		b.step(coord.Step{Records: []coord.Record{next.record(t.id)}})
	case "state":
		b.state()
	default:
		b.t.Fatalf("command %q", command)
	}
}

func (b *bench) init(req InitRequest, reply func(Producer, error)) {
	b.step(b.m.initProducer(req, noID, b.now, func(p Producer, err error) {
		if errors.Is(err, errNeedID) {
			b.nextID++
			b.step(b.m.initProducer(req, b.nextID-1, b.now, reply))
			return
		}
		reply(p, err)
	}))
}

func (b *bench) end(req EndRequest, reply func(Producer, error)) {
	b.step(b.m.end(req, noID, b.now, func(p Producer, err error) {
		if errors.Is(err, errNeedID) {
			b.nextID++
			b.step(b.m.end(req, b.nextID-1, b.now, reply))
			return
		}
		reply(p, err)
	}))
}

// written is what became of the oldest markers under way: fail=topic/n names one that failed.
func (b *bench) written(w words) {
	if len(b.markers) == 0 {
		b.printf("  no markers are under way\n")
		return
	}
	markers, id := b.markers[0], b.ids[0]
	b.markers, b.ids = b.markers[1:], b.ids[1:]
	errs := make([]error, len(markers))
	for i, m := range markers {
		if w["fail"] == fmt.Sprintf("%s/%d", m.Partition.Topic, m.Partition.Partition) {
			errs[i] = errors.New("not leader")
		}
	}
	b.step(b.m.markersDone(id, markers, errs, b.now))
}

func (b *bench) state() {
	var ids []string
	for id := range b.m.txns {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		t := b.m.txns[id]
		due := "never"
		if t.slot >= 0 {
			due = t.at.Sub(b.now).String()
		}
		b.printf("  %s %s left=%d waiting=%d due=%s\n", id, t.show(), len(t.left), len(t.waiting), due)
	}
}
