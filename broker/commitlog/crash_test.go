package commitlog

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"varve/broker/internal/vfs"
	"varve/broker/record"
)

var crashSeeds = flag.Int("crash.seeds", 8, "random histories of the crash test")

// modelLog is the trivial log that a real one is compared with: a map.
//
// A batch is possible from just before its append until a truncation or reset that removes it has
// returned. Everything in [start, promised) must survive any crash; whatever else survives must
// be possible, gapless, and in its place.
type modelLog struct {
	possible map[int64]map[string]bool // base offset -> byte strings
	start    int64                     // LocalStart may be anything up to it
	floor    int64                     // promised so far, lowered by truncation and reset
	resetTo  int64                     // an offset that a reset under way may leave the log at, -1 none
	cks      []Checkpoint
	epoch    int32 // leader epoch, and the producer's
	seqEpoch int32
	seq      int32
}

type crashPoint struct {
	fs       *vfs.Mem
	killed   *vfs.Mem
	expected []crashExpect
	op       string
}

type crashExpect struct {
	possible map[int64]map[string]bool
	start    int64
	promised int64
	resetTo  int64
	ck       *Checkpoint
}

// crashRun drives several logs of one environment through a random history, and takes clones of
// the file system at its sync points.
type crashRun struct {
	t     *testing.T
	seed  uint64
	rng   *rand.Rand // of the history
	mem   *vfs.Mem
	env   *Env
	logs  []testLog
	steps *stepCount

	mu     sync.Mutex // the hook runs on flush workers too
	hook   *rand.Rand
	models []*modelLog
	points []crashPoint
	off    bool
}

const crashPartitions = 3

func (r *crashRun) open(ck bool, clean bool) {
	cfg := testEnvConfig(r.mem)
	cfg.OnStep = r.steps.note
	r.env = newTestEnv(r.t, cfg)
	r.logs = nil
	for p := range crashPartitions {
		o := Options{Dir: partitionDir(p), Clean: clean}
		m := r.models[p]
		if ck && len(m.cks) > 0 {
			o.Checkpoint = &m.cks[len(m.cks)-1]
		}
		l := openTestLog(r.t, r.env, o)
		r.mu.Lock()
		m.floor = max(m.floor, l.Durable())
		r.mu.Unlock()
		r.logs = append(r.logs, l)
	}
}

// observe is called at each sync point, on whatever goroutine reached it.
func (r *crashRun) observe(op, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.off || r.hook.IntN(8) != 0 || len(r.logs) < crashPartitions {
		return
	}
	p := crashPoint{op: fmt.Sprintf("%s %s", op, name)}
	for i, m := range r.models {
		x := crashExpect{possible: map[int64]map[string]bool{}, start: m.start, resetTo: m.resetTo}
		x.promised = m.floor
		if m.resetTo < 0 {
			x.promised = max(x.promised, min(r.logs[i].Durable(), r.limit(m)))
		}
		for at, v := range m.possible {
			x.possible[at] = map[string]bool{}
			for b := range v {
				x.possible[at][b] = true
			}
		}
		if n := len(m.cks); n > 0 && r.hook.IntN(3) > 0 {
			x.ck = &m.cks[r.hook.IntN(n)]
		}
		p.expected = append(p.expected, x)
	}
	var rng *rand.Rand
	if r.hook.IntN(4) > 0 {
		rng = rand.New(rand.NewPCG(r.hook.Uint64(), 1))
	}
	p.fs = r.mem.CrashClone(rng)
	if r.hook.IntN(3) == 0 {
		p.killed = r.mem.KillClone()
	}
	r.points = append(r.points, p)
}

// limit is how far Durable counts while a truncation is under way: noLimit otherwise.
func (r *crashRun) limit(m *modelLog) int64 {
	if l, ok := truncating[m]; ok {
		return l
	}
	return 1 << 62
}

// truncating is guarded by the run's lock; runs do not share models.
var truncating = map[*modelLog]int64{}

// stepCount counts the named steps that a test went through.
type stepCount struct {
	mu   sync.Mutex
	seen map[string]int
}

func (c *stepCount) note(step string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = make(map[string]int)
	}
	c.seen[step]++
}

func TestNoCrashLosesOrChangesWhatIsDurable(t *testing.T) {
	steps := &stepCount{}
	for seed := range uint64(*crashSeeds) {
		t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) { runCrashHistory(t, seed, steps) })
	}
	for _, s := range []string{
		"append.written", "flush.synced", "flush.dirs", "roll.created", "roll.before-index", "roll.index-written",
		"roll.renamed", "recycle.taken", "recycle.returned", "recycle.zeroed", "drop.before-unlink", "drop.unlinked",
		"truncate.marked", "truncate.removed", "truncate.cut", "reset.marked", "reset.removed", "reset.done", "checkpoint.taken",
	} {
		if steps.seen[s] == 0 && *crashSeeds >= 8 {
			t.Errorf("no history went through %s: %v", s, steps.seen)
		}
	}
}

func runCrashHistory(t *testing.T, seed uint64, steps *stepCount) {
	r := &crashRun{t: t, steps: steps, seed: seed, rng: newRand(seed), hook: newRand(seed + 1000), mem: vfs.NewMem()}
	for range crashPartitions {
		r.models = append(r.models, &modelLog{possible: map[int64]map[string]bool{}, resetTo: -1})
	}
	r.open(false, false)
	r.mem.OnSync(r.observe)
	for step := range 120 {
		r.step(step)
		r.verifyPoints(fmt.Sprintf("seed %d step %d", seed, step))
		if t.Failed() {
			return
		}
	}
	for p := range r.logs {
		r.verifyLive(p)
	}
}

func (r *crashRun) step(step int) {
	p := r.rng.IntN(crashPartitions)
	switch k := r.rng.IntN(100); {
	case k < 55:
		r.append(p, 1+r.rng.IntN(12), step)
	case k < 65:
		r.logs[p].w.wait(r.logs[p].LEO())
	case k < 70:
		mustNot(r.t, r.logs[p].Roll("test"))
	case k < 82:
		r.drop(p)
	case k < 87:
		r.truncate(p)
	case k < 89:
		r.reset(p)
	case k < 96:
		r.checkpoint(p)
	default:
		r.restart()
	}
}

func (r *crashRun) append(p, n, step int) {
	l, m := r.logs[p], r.models[p]
	if r.rng.IntN(6) == 0 {
		m.epoch++
	}
	for i := range n {
		// Equal sizes in all partitions: positions and lengths line up in recycled files.
		value := fmt.Sprintf("p%d step %03d batch %02d %s", p, step, i, bytes.Repeat([]byte("x"), 100))
		if m.seqEpoch != m.epoch {
			m.seqEpoch, m.seq = m.epoch, 0
		}
		b := producedBatch(value, int64(step), 77, int16(m.epoch), m.seq)
		m.seq++
		b.SetBaseOffset(l.LEO())
		b.SetLeaderEpoch(m.epoch)
		r.mu.Lock()
		m.add(b)
		r.mu.Unlock()
		l.mustAppend(r.t, m.epoch, b)
	}
}

func (m *modelLog) add(b record.Batch) {
	if m.possible[b.BaseOffset()] == nil {
		m.possible[b.BaseOffset()] = map[string]bool{}
	}
	m.possible[b.BaseOffset()][string(b)] = true
}

func (r *crashRun) drop(p int) {
	l, m := r.logs[p], r.models[p]
	to := l.LocalStart() + r.rng.Int64N(l.LEO()-l.LocalStart()+1)
	r.mu.Lock()
	m.start = max(m.start, to)
	r.mu.Unlock()
	if r.rng.IntN(3) == 0 && to > l.LocalStart() {
		if s, err := l.Read(l.LocalStart(), l.LEO(), 100, true); err == nil {
			s.MarkSent()
			defer s.Release()
		}
	}
	_, _, err := l.DropBefore(to)
	mustNot(r.t, err)
}

func (r *crashRun) truncate(p int) {
	l, m := r.logs[p], r.models[p]
	l.w.wait(l.LEO())
	if l.LEO() == l.LocalStart() {
		return
	}
	to := max(l.LocalStart(), l.LEO()-r.rng.Int64N(20))
	r.mu.Lock()
	m.floor, truncating[m] = min(m.floor, to), to
	r.mu.Unlock()
	if r.rng.IntN(2) == 0 {
		if s, err := l.Read(l.LocalStart(), l.LEO(), 1<<20, true); err == nil {
			before, err := s.ReadAll(nil)
			mustNot(r.t, err)
			defer func() {
				after, err := s.ReadAll(nil)
				if err != nil || !bytes.Equal(before, after) {
					r.t.Errorf("a held span changed: %v", err)
				}
				s.Release()
			}()
		}
	}
	mustNot(r.t, l.TruncateTo(to))
	l.w.reset(l.Durable())
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(truncating, m)
	m.start = min(m.start, l.LEO())
	for at := range m.possible {
		if at >= l.LEO() {
			delete(m.possible, at)
		}
	}
	m.epoch++
}

func (r *crashRun) reset(p int) {
	l, m := r.logs[p], r.models[p]
	to := l.LEO() + r.rng.Int64N(40) - 10
	if to < 0 {
		return
	}
	r.mu.Lock()
	m.resetTo, m.floor = to, 0
	r.mu.Unlock()
	m.epoch++
	mustNot(r.t, l.ResetTo(to, []EpochStart{{m.epoch - 1, 0}}, nil))
	l.w.reset(to)
	r.mu.Lock()
	defer r.mu.Unlock()
	m.possible, m.start, m.floor, m.resetTo = map[int64]map[string]bool{}, to, to, -1
}

func (r *crashRun) checkpoint(p int) {
	ck, ok := r.logs[p].Checkpoint()
	if !ok {
		r.t.Fatal("no checkpoint")
	}
	r.mu.Lock()
	r.models[p].cks = append(r.models[p].cks, ck)
	r.mu.Unlock()
}

// restart stops cleanly or not, and opens again, with or without the newest checkpoint.
func (r *crashRun) restart() {
	clean := r.rng.IntN(2) == 0
	for p, l := range r.logs {
		mustNot(r.t, l.Close())
		if clean {
			r.checkpoint(p)
		}
	}
	mustNot(r.t, r.env.Close())
	if !clean && r.rng.IntN(2) == 0 {
		for _, m := range r.models {
			m.cks = nil
		}
	}
	r.mu.Lock()
	r.off = true // the lists of logs are not whole
	r.mu.Unlock()
	r.open(true, clean)
	for p, m := range r.models {
		m.epoch++ // each start is a new leader epoch
		if r.logs[p].LEO() > r.logs[p].LocalStart() {
			r.verifyLive(p)
		}
	}
	r.mu.Lock()
	r.off = false
	r.mu.Unlock()
}

func (r *crashRun) verifyPoints(when string) {
	r.mu.Lock()
	points := r.points
	r.points = nil
	r.mu.Unlock()
	for _, p := range points {
		for _, fs := range []*vfs.Mem{p.fs, p.killed} {
			if fs != nil {
				verifyClone(r.t, fs, p, when)
			}
		}
	}
}

// verifyLive reads a whole log and finds each batch possible.
func (r *crashRun) verifyLive(p int) {
	l := r.logs[p]
	x := crashExpect{possible: r.models[p].possible, start: r.models[p].start, promised: l.LEO(), resetTo: -1}
	if err := x.check(l.Log); err != nil {
		r.t.Errorf("partition %d: %v", p, err)
	}
}

func (x crashExpect) check(l *Log) error {
	if x.resetTo >= 0 && l.LocalStart() == x.resetTo && l.LEO() == x.resetTo {
		return nil
	}
	if l.LocalStart() > x.start {
		return fmt.Errorf("log starts at %d, must not lie above %d", l.LocalStart(), x.start)
	}
	if l.LEO() < x.promised || l.Durable() > l.LEO() {
		return fmt.Errorf("log ends at %d (durable %d), durable before the crash was %d", l.LEO(), l.Durable(), x.promised)
	}
	batches, err := readAll(l, l.LocalStart(), l.LEO())
	if err != nil {
		return fmt.Errorf("read [%d, %d): %w", l.LocalStart(), l.LEO(), err)
	}
	for _, b := range batches {
		if !x.possible[b.BaseOffset()][string(b)] {
			return fmt.Errorf("%v was never there: %q", b, b[record.HeaderLen:])
		}
		if e, ok := epochHistory(l.Epochs()).at(b.BaseOffset()); !ok || e != b.LeaderEpoch() {
			return fmt.Errorf("%v: the history says epoch %d: %v", b, e, l.Epochs())
		}
	}
	return nil
}

// verifyClone opens what a crash left, checks it, then crashes again: what was readable once must be
// readable, and the same, ever after.
func verifyClone(t *testing.T, fs *vfs.Mem, p crashPoint, when string) {
	t.Helper()
	for i, x := range p.expected {
		end, first, err := openAndCheck(fs, i, x)
		if err != nil {
			t.Errorf("%s, crash after %q, partition %d: %v", when, p.op, i, err)
			return
		}
		again := crashExpect{possible: x.possible, start: x.start, promised: end, resetTo: x.resetTo}
		for _, fs2 := range []*vfs.Mem{fs.CrashClone(nil), fs.KillClone()} {
			end2, second, err := openAndCheck(fs2, i, again)
			if err != nil || end2 != end || len(second) != len(first) {
				t.Errorf("%s, crash after %q and after recovery, partition %d: end %d, then %d: %v", when, p.op, i, end, end2, err)
				return
			}
		}
	}
}

func openAndCheck(fs *vfs.Mem, p int, x crashExpect) (end int64, batches []record.Batch, err error) {
	if err := makeDataDir(fs, testDir); err != nil {
		return 0, nil, err
	}
	cfg := testEnvConfig(fs)
	cfg.FlushParallel = 1
	e, err := NewEnv(cfg)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	l, err := Open(e, Options{Dir: partitionDir(p), Config: testConfig(), Checkpoint: x.ck})
	if err != nil {
		return 0, nil, err
	}
	if err := x.check(l); err != nil {
		return 0, nil, err
	}
	batches, err = readAll(l, l.LocalStart(), l.LEO())
	if err == nil && len(batches) > 0 && batches[len(batches)-1].ProducerID() >= 0 {
		err = checkProducer(l, batches[len(batches)-1])
	}
	return l.LEO(), batches, errors.Join(err, l.Close())
}

// checkProducer finds the producer state that of exactly the log: the last batch is known as a
// duplicate, and the one that never made it into the log is not.
func checkProducer(l *Log, last record.Batch) error {
	info, err := l.AppendLeader(bytes.Clone(last), l.mu.epochs.last(), 0)
	if err != nil || !info.Duplicate || info.First != last.BaseOffset() {
		return fmt.Errorf("retry of %v: %+v, %w", last, info, err)
	}
	p := l.mu.producers.byID[77]
	if p == nil || p.lastSeq() != last.LastSequence() || p.epoch != last.ProducerEpoch() {
		return fmt.Errorf("producer state %+v after %v", p, last)
	}
	return nil
}
