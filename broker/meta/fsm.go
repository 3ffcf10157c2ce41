package meta

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// fsm is the replicated state machine: raft feeds it entries from one goroutine, readers take the
// image. Apply is deterministic, does no I/O and reads no clock.
type fsm struct {
	log *slog.Logger
	// fatal is told once of an entry or a snapshot that this program cannot apply: going on
	// without it would fork the state.
	fatal func(error)

	image atomic.Pointer[Image]

	// windows by broker and failed belong to raft's FSM goroutine.
	windows map[NodeID]*window
	failed  error

	watch struct {
		sync.Mutex // held while watchers run: they see every image once and in order
		list       []*watcher
	}
}

type watcher struct {
	f func(old, new *Image, d *Delta)
}

func newFSM(log *slog.Logger, fatal func(error)) *fsm {
	f := &fsm{log: log, fatal: fatal, windows: map[NodeID]*window{}}
	f.image.Store(newImage())
	return f
}

// errFailed is the response to entries after one that could not be applied.
var errFailed = errors.New("metadata state machine has stopped")

// Apply implements raft.FSM.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies entries and publishes one image for all of them before raft answers any.
// A response is a []Result, or an error if the state machine has stopped.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	responses := make([]any, len(logs))
	old := f.image.Load()
	t := &tx{img: *old}
	for i, l := range logs {
		switch {
		case l.Type != raft.LogCommand: // a raft configuration
		case f.failed != nil:
			responses[i] = f.failed
		default:
			responses[i] = f.applyEntry(t, l.Index, l.Data)
		}
	}
	if t.img.Index != old.Index {
		img := t.img
		t.delta.Index = img.Index
		f.publish(old, &img, &t.delta)
	}
	return responses
}

func (f *fsm) applyEntry(t *tx, index uint64, data []byte) any {
	p, err := decodeProposal(data)
	if err != nil {
		f.stop(fmt.Errorf("apply raft entry %d: %w", index, err))
		return f.failed
	}
	t.img.Index, t.index, t.timeMS = index, index, p.TimeMS
	t.broker, t.epoch = p.Broker, p.Epoch
	entry := f.decide(t, p)
	results := make([]Result, len(entry.Results))
	for i, o := range entry.Results {
		results[i] = o.result(entry.Index)
	}
	return results
}

// decide applies a proposal once, and gives the kept outcome when it comes again.
func (f *fsm) decide(t *tx, p *proposal) windowEntry {
	if p.Epoch == 0 {
		return f.register(t, p)
	}
	b := t.img.Broker(p.Broker)
	w := f.windows[p.Broker]
	if b == nil || b.Epoch != p.Epoch || w == nil || w.epoch != p.Epoch {
		return refuseAll(t, p, refuse(ErrStaleBrokerEpoch, "proposal of broker %d in epoch %d", p.Broker, p.Epoch))
	}
	if i, ok := w.find(p.Sequence); ok {
		return w.entries[i]
	}
	if p.Sequence <= w.floor {
		return refuseAll(t, p, refuse(ErrStaleSequence, "sequence %d, window begins after %d", p.Sequence, w.floor))
	}
	entry := windowEntry{Sequence: p.Sequence, Index: t.index, Results: make([]outcome, 0, len(p.Commands))}
	for _, c := range p.Commands {
		if _, ok := c.(*RegisterBroker); ok {
			entry.Results = append(entry.Results, newOutcome(0, refuse(ErrInvalidCommand, "registration inside an incarnation")))
			continue
		}
		entry.Results = append(entry.Results, newOutcome(t.run(c)))
	}
	w.add(entry)
	return entry
}

// register applies a proposal without broker epoch: it may hold one registration and nothing else.
func (f *fsm) register(t *tx, p *proposal) windowEntry {
	c, ok := p.Commands[0].(*RegisterBroker)
	if !ok || len(p.Commands) != 1 {
		return refuseAll(t, p, refuse(ErrStaleBrokerEpoch, "proposal of broker %d without a broker epoch", p.Broker))
	}
	epoch, err := t.run(c)
	if err == nil {
		if w := f.windows[c.Broker]; w == nil || w.epoch != epoch {
			f.windows[c.Broker] = &window{epoch: epoch}
		}
	}
	return windowEntry{Index: t.index, Results: []outcome{newOutcome(epoch, err)}}
}

func refuseAll(t *tx, p *proposal, err *CommandError) windowEntry {
	return windowEntry{Index: t.index, Results: slices.Repeat([]outcome{newOutcome(0, err)}, len(p.Commands))}
}

// stop latches the first fault: nothing is applied any more and the image stays as it is.
func (f *fsm) stop(err error) {
	f.failed = fmt.Errorf("%w: %w", errFailed, err)
	f.log.Error("metadata state machine stops", "error", err)
	f.fatal(err)
}

func (f *fsm) publish(old, fresh *Image, d *Delta) {
	f.watch.Lock()
	defer f.watch.Unlock()
	f.image.Store(fresh)
	if d.Empty() {
		return
	}
	for _, w := range f.watch.list {
		w.f(old, fresh, d)
	}
}

// subscribe calls w with the present image, then with every change, in order.
func (f *fsm) subscribe(w *watcher) (cancel func()) {
	f.watch.Lock()
	defer f.watch.Unlock()
	img := f.image.Load()
	w.f(newImage(), img, &Delta{Index: img.Index, Reset: true})
	f.watch.list = append(slices.Clone(f.watch.list), w)
	return func() {
		f.watch.Lock()
		defer f.watch.Unlock()
		f.watch.list = slices.DeleteFunc(slices.Clone(f.watch.list), func(o *watcher) bool { return o == w })
	}
}

// Snapshot implements raft.FSM: the image is immutable, only the windows are copied.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if f.failed != nil {
		return nil, f.failed
	}
	s := &snapshot{image: f.image.Load(), windows: make(map[NodeID]*window, len(f.windows))}
	for id, w := range f.windows {
		s.windows[id] = w.clone()
	}
	return s, nil
}

// Restore implements raft.FSM.
func (f *fsm) Restore(rc io.ReadCloser) error {
	defer rc.Close() // read only
	s, err := decodeSnapshot(rc)
	if err != nil {
		return fmt.Errorf("restore metadata snapshot: %w", err)
	}
	f.windows = s.windows
	f.publish(f.image.Load(), s.image, &Delta{Index: s.image.Index, Reset: true})
	return nil
}
