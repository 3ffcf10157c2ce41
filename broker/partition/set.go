package partition

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"varve/broker/commitlog"
	"varve/tiering"
)

// SetConfig is what a Set is made from.
type SetConfig struct {
	NodeID  int32
	Dir     string // <data>/topics
	Env     *commitlog.Env
	Tier    *tiering.Tier // nil where no store is configured
	Propose Propose
	States  *States
	Clean   bool // checkpoints of the last stop may be believed

	AppliedByAll func() uint64        // see Config
	Cleaner      func() CleanerConfig // asked before each run; nil: defaults

	Workers        int           // partitions whose segments are uploaded or retired at a time
	RetentionEvery time.Duration // log.retention.check.interval.ms
	Now            func() time.Time
	Log            *slog.Logger
}

const (
	// tickEvery is how soon a sealed segment is seen by the workers: well below the second or so
	// that an upload takes, and at 10,000 partitions still under 1 % of a core.
	tickEvery = 250 * time.Millisecond
	// saveEvery is how much of the log a start after kill -9 may have to scan again, in time. A
	// checkpoint is a hint, so half or double changes only that.
	saveEvery = 5 * time.Second
)

// Topic is the replicas of one topic on this broker, by partition; nil where this broker has none.
type Topic struct {
	Name  string
	ID    [16]byte
	parts []*Replica
}

// Partition returns a replica, or nil if the topic or this broker has none of that number.
func (t *Topic) Partition(i int32) *Replica {
	if i < 0 || int(i) >= len(t.parts) {
		return nil
	}
	return t.parts[i]
}

// Count is how many partitions the topic has, here or elsewhere.
func (t *Topic) Count() int32 { return int32(len(t.parts)) }

// Partitions lists the replicas of this broker.
func (t *Topic) Partitions() []*Replica {
	out := make([]*Replica, 0, len(t.parts))
	for _, r := range t.parts {
		if r != nil {
			out = append(out, r)
		}
	}
	return out
}

// table is the immutable topic table; lookups take no lock.
type table struct {
	byName map[string]*Topic
	byID   map[[16]byte]*Topic
}

// Set holds every replica of a broker, and the goroutines that work for them: the workers
// (upload, retention, deletion), the cleaner, the ticker, and the saver of checkpoints. Close ends them.
type Set struct {
	cfg   SetConfig
	table atomic.Pointer[table]
	clock clockGuard

	mu struct { // serialises changes of table
		sync.Mutex
		closed bool
	}
	queue   workQueue
	cleaner cleaner
	ctx     context.Context
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

// NewSet makes an empty set; Start starts its goroutines.
func NewSet(cfg SetConfig) *Set {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Set{cfg: cfg}
	s.clock.start(cfg.Now())
	s.table.Store(&table{byName: map[string]*Topic{}, byID: map[[16]byte]*Topic{}})
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.queue.init()
	s.initCleaner()
	return s
}

// Start starts the workers, the cleaner, the ticker and the saver.
func (s *Set) Start() {
	for range max(s.cfg.Workers, 1) {
		s.done.Go(func() { s.workLoop(storeLane) })
	}
	s.done.Go(s.cleanLoop)
	s.done.Go(func() { s.workLoop(localLane) })
	s.done.Go(s.tickLoop)
	s.done.Go(s.saveLoop)
}

// ByName finds a topic; nil if there is none.
func (s *Set) ByName(name string) *Topic { return s.table.Load().byName[name] }

// ByID finds a topic by its id; nil if there is none.
func (s *Set) ByID(id [16]byte) *Topic { return s.table.Load().byID[id] }

// Topics lists the topics in no order.
func (s *Set) Topics() []*Topic {
	t := s.table.Load()
	out := make([]*Topic, 0, len(t.byID))
	for _, topic := range t.byID {
		out = append(out, topic)
	}
	return out
}

// Update is what the metadata says of one topic. Assign returns false for a partition of which
// this broker holds no replica.
type Update struct {
	Name       string
	ID         [16]byte
	IDText     string
	Partitions int32
	Assign     func(i int32) (Assignment, bool)
	// Only lists the partitions that changed; nil: any may have. It says nothing of a topic that the
	// set does not have, or has with another number of partitions: there all are new.
	Only []int32
}

// Apply takes over a batch of new and changed topics and of deleted ids. Deleted topics leave the
// table at once; their replicas are returned for the caller to Stop, which does I/O.
func (s *Set) Apply(updates []Update, deleted [][16]byte) (gone []*Replica) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return nil
	}
	old := s.table.Load()
	next, cloned := &table{old.byName, old.byID}, false
	clone := func() { // most updates move a partition of a topic that is there: nothing to copy
		if !cloned {
			next.byName, next.byID, cloned = maps.Clone(old.byName), maps.Clone(old.byID), true
		}
	}
	for _, id := range deleted {
		t := next.byID[id]
		if t == nil {
			continue
		}
		clone()
		delete(next.byID, id)
		if next.byName[t.Name] == t {
			delete(next.byName, t.Name)
		}
		gone = append(gone, t.Partitions()...)
	}
	for _, u := range updates {
		t := next.byID[u.ID]
		if t != nil && len(t.parts) == int(u.Partitions) && s.applyInPlace(t, u) {
			continue
		}
		clone()
		t = s.topic(t, u)
		next.byID[u.ID], next.byName[u.Name] = t, t
	}
	s.table.Store(next)
	for _, r := range gone { // after the table: whoever is woken looks there and finds it no more
		r.depose()
	}
	return gone
}

// applyInPlace applies an update that changes no replica's existence; false if it does.
func (s *Set) applyInPlace(t *Topic, u Update) bool {
	only := u.Only
	if only == nil {
		only = make([]int32, len(t.parts))
		for i := range only {
			only[i] = int32(i)
		}
	}
	for _, i := range only {
		if _, mine := u.Assign(i); mine != (t.Partition(i) != nil) {
			return false
		}
	}
	for _, i := range only {
		if r := t.Partition(i); r != nil {
			a, _ := u.Assign(i)
			if r.Apply(a) {
				s.Kick(r)
			}
		}
	}
	return true
}

// topic makes the new Topic of an update from the old one and applies the assignments.
func (s *Set) topic(old *Topic, u Update) *Topic {
	t := &Topic{Name: u.Name, ID: u.ID, parts: make([]*Replica, u.Partitions)}
	if old != nil {
		copy(t.parts, old.parts)
	}
	for i := range t.parts {
		a, mine := u.Assign(int32(i))
		if !mine {
			continue
		}
		if t.parts[i] == nil {
			t.parts[i] = s.newReplica(u, int32(i))
		}
		if t.parts[i].Apply(a) {
			s.Kick(t.parts[i])
		}
	}
	return t
}

func (s *Set) newReplica(u Update, i int32) *Replica {
	r := New(Config{
		ID:     ID{Topic: u.Name, TopicID: u.ID, TopicIDText: u.IDText, Partition: i},
		NodeID: s.cfg.NodeID, Dir: s.cfg.Dir, Env: s.cfg.Env, Tier: s.cfg.Tier, Propose: s.cfg.Propose,
		States: s.cfg.States, Clean: s.cfg.Clean, AppliedByAll: s.cfg.AppliedByAll, Now: s.cfg.Now, Log: s.cfg.Log,
	})
	r.kick = func() { s.Kick(r) }
	return r
}

// Each calls f for every replica.
func (s *Set) Each(f func(*Replica)) {
	for _, t := range s.table.Load().byID {
		for _, r := range t.parts {
			if r != nil {
				f(r)
			}
		}
	}
}

// Recover opens every log, parallel at a time, as a start after an unclean stop does before the
// broker calls itself ready. It returns the first error that is not a single partition's damage.
func (s *Set) Recover(ctx context.Context, parallel int) error {
	work := make(chan *Replica)
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			for r := range work {
				if _, err := r.Log(); err != nil {
					s.cfg.Log.Error("log not recovered", "partition", r.ID().String(), "err", err)
				}
			}
		})
	}
	s.Each(func(r *Replica) {
		if ctx.Err() == nil {
			work <- r
		}
	})
	close(work)
	wg.Wait()
	return ctx.Err()
}

// saveLoop keeps the checkpoints of replicas that moved.
func (s *Set) saveLoop() {
	t := time.NewTicker(saveEvery)
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
			if err := s.save(); err != nil {
				s.cfg.Log.Warn("checkpoints not kept; a start after a crash scans more", "err", err)
			}
		}
	}
}

// saveBatch bounds the memory of one write of checkpoints.
const saveBatch = 1000

func (s *Set) save() error {
	if s.cfg.States == nil {
		return nil
	}
	batch := map[ID]State{}
	var err error
	s.Each(func(r *Replica) {
		st, ok := r.State()
		if !ok || err != nil {
			return
		}
		batch[r.ID()] = st
		if len(batch) == saveBatch {
			err = s.cfg.States.Put(batch)
			clear(batch)
		}
	})
	if err == nil && len(batch) > 0 {
		err = s.cfg.States.Put(batch)
	}
	return err
}

// Close ends the goroutines, closes every log after a last flush, and keeps the last checkpoints.
// An error means that the stop was not clean.
func (s *Set) Close() error {
	s.mu.Lock()
	s.mu.closed = true
	s.mu.Unlock()
	s.cancel()
	s.queue.close()
	s.Each(func(r *Replica) { r.end() }) // a worker may be opening a log from the bucket
	s.done.Wait()
	var first error
	states := map[ID]State{}
	s.Each(func(r *Replica) {
		st, opened, err := r.closeForStop()
		if err != nil && first == nil {
			first = fmt.Errorf("close %s: %w", r.ID(), err)
		}
		if opened {
			states[r.ID()] = st
		} else if st, ok := s.cfg.States.Get(r.ID()); ok && !s.cfg.Clean {
			st.Unproven = true // recovery failed: the marker that follows does not speak of this log
			states[r.ID()] = st
		}
	})
	if first != nil || s.cfg.States == nil {
		return first
	}
	if err := s.cfg.States.Put(states); err != nil {
		return err
	}
	return s.cfg.States.Sync()
}
