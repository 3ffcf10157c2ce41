package coord

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"varve/broker/commitlog"
	"varve/broker/internal/vfs"
	"varve/broker/partition"
	"varve/broker/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// table is a Machine of plain keys and values, with transactions.
type table struct {
	now     map[string]string
	pending map[int64]map[string]string
	timer   time.Time
	ticked  chan struct{}
	refuse  string // a key that Apply does not take

	mu      sync.Mutex
	stopped int
	loads   int
}

func (m *table) Apply(r Record, info Info) error {
	if m.refuse != "" && string(r.Key) == m.refuse {
		return fmt.Errorf("key %s", r.Key)
	}
	to := m.now
	if info.ProducerID >= 0 {
		if m.pending[info.ProducerID] == nil {
			m.pending[info.ProducerID] = map[string]string{}
		}
		to = m.pending[info.ProducerID]
	}
	if r.Value == nil {
		delete(to, string(r.Key))
		return nil
	}
	to[string(r.Key)] = string(r.Value)
	return nil
}

func (m *table) Marker(id int64, _ int16, commit bool) error {
	if commit {
		maps.Copy(m.now, m.pending[id])
	}
	delete(m.pending, id)
	return nil
}

func (m *table) Loaded(time.Time) Step {
	m.mu.Lock()
	m.loads++
	m.mu.Unlock()
	return Step{}
}

func (m *table) NextTimer() time.Time { return m.timer }

func (m *table) Tick(time.Time) Step {
	m.timer = time.Time{}
	close(m.ticked)
	return Step{}
}

func (m *table) Stopped() {
	m.mu.Lock()
	m.stopped++
	m.mu.Unlock()
}

// world is one internal topic of one partition over a memory disk.
type world struct {
	t     testing.TB
	mem   *vfs.Mem
	fault *vfs.Fault
	env   *commitlog.Env
	r     *partition.Replica
	rt    *Runtime
	conf  *partition.TopicConfig
	epoch int32
	isr   int

	mu       sync.Mutex
	machines []*table
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, epoch: 4, isr: 1}
	w.conf = &partition.TopicConfig{
		Log:          commitlog.Config{SegmentBytes: 64 << 10, Internal: true},
		RetentionAge: -1, RetentionBytes: -1, LocalAge: -1, LocalBytes: -1, MinISR: 1, MaxBatchBytes: 1 << 20,
	}
	w.open(vfs.NewMem())
	t.Cleanup(func() { w.close() })
	return w
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// open starts a broker's worth of parts over a disk, in the next leader epoch.
func (w *world) open(mem *vfs.Mem) {
	w.t.Helper()
	w.mem, w.fault = mem, vfs.NewFault(mem)
	if err := errors.Join(mem.MkdirAll("data/topics"), mem.SyncDir("data"), mem.SyncDir(".")); err != nil {
		w.t.Fatal(err)
	}
	env, err := commitlog.NewEnv(commitlog.EnvConfig{FS: w.fault, Dir: "data", Log: quiet(), Fatal: func(error) {}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.env = env
	w.epoch++
	w.r = partition.New(partition.Config{
		ID: partition.ID{Topic: "__t", TopicID: [16]byte{1}, TopicIDText: "AQAAAAAAAAAAAAAAAAAAAA"}, NodeID: 1, Dir: "data/topics",
		Env: env, Log: quiet(), AppliedByAll: func() uint64 { return 0 },
	})
	w.assign(1)
	w.rt = New(Config{Topic: "__t", MaxQueue: 100, Log: quiet(), New: func(int32) Machine {
		m := &table{now: map[string]string{}, pending: map[int64]map[string]string{}, ticked: make(chan struct{})}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.machines = append(w.machines, m)
		return m
	}})
	w.lead()
}

// assign is what raft says of the replica; lead tells the runtime.
func (w *world) assign(leader int32) {
	w.r.Apply(partition.Assignment{Leader: leader, LeaderEpoch: w.epoch, Replicas: 1, ISR: w.isr, Partitions: 1, Config: w.conf})
}

func (w *world) lead() { w.rt.Apply(1, []*partition.Replica{w.r}) }

func (w *world) close() {
	w.t.Helper()
	if err := w.rt.Close(context.Background()); err != nil {
		w.t.Error(err)
	}
	if err := w.r.Stop(false); err != nil {
		w.t.Error(err)
	}
	if err := w.env.Close(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) restart() {
	w.t.Helper()
	w.close()
	w.open(w.mem)
}

func (w *world) machine() *table {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.machines[len(w.machines)-1]
}

func put(kv ...string) []Record {
	var out []Record
	for i := 0; i < len(kv); i += 2 {
		out = append(out, Record{Key: []byte(kv[i]), Value: []byte(kv[i+1])})
	}
	return out
}

// call runs an event that appends, asking again while the shard loads.
func (w *world) call(step Step) error {
	for {
		err := w.rt.Call(w.t.Context(), 0, func(Machine, time.Time) Step { return step })
		if !errors.Is(err, ErrLoading) {
			return err
		}
	}
}

func (w *world) put(kv ...string) {
	w.t.Helper()
	if err := w.call(Step{Records: put(kv...)}); err != nil {
		w.t.Fatal(err)
	}
}

// state is what a reader is shown once it is committed.
func (w *world) state() (now map[string]string, pending int) {
	w.t.Helper()
	for {
		err := w.rt.Call(w.t.Context(), 0, func(m Machine, _ time.Time) Step {
			now, pending = maps.Clone(m.(*table).now), len(m.(*table).pending)
			return Step{}
		})
		if err == nil {
			return now, pending
		}
		if !errors.Is(err, ErrLoading) {
			w.t.Fatal(err)
		}
	}
}

// batches reads the whole log.
func (w *world) batches() []record.Batch {
	w.t.Helper()
	var out []record.Batch
	for at := int64(0); at < w.r.HW(); {
		h, err := w.r.ReadHot(at, 1<<20, true, false)
		if err != nil {
			w.t.Fatal(err)
		}
		b, err := h.Span.ReadAll(nil)
		at = h.Span.Next
		h.Span.Release()
		if err != nil {
			w.t.Fatal(err)
		}
		for len(b) > 0 {
			batch, err := record.Parse(b)
			if err != nil {
				w.t.Fatal(err)
			}
			out = append(out, batch)
			b = b[batch.Len():]
		}
	}
	return out
}

// hold blocks the shard inside an event until release is called.
func (w *world) hold() (release func()) {
	w.t.Helper()
	w.state() // loaded
	in, out := make(chan struct{}), make(chan struct{})
	err := w.rt.Do(0, func(Machine, time.Time) Step { close(in); <-out; return Step{} }, func(error) {})
	if err != nil {
		w.t.Fatal(err)
	}
	<-in
	return func() { close(out) }
}
