package tiering

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"varve/tiering/object"
)

// Pointer is what raft says about a partition's cold range. Zero: nothing tiered.
//
//	LogStart <= TieredEnd
type Pointer struct {
	Name      string // of the manifest
	CRC       uint32 // CRC32C of the manifest's bytes
	LogStart  int64
	TieredEnd int64
	LastEpoch int32 // leader epoch of the last tiered batch
	Bytes     int64 // raw bytes of the live entries
}

// Commit is the change of a Pointer to propose: applied only if Prev is the
// current name. Retired are the keys that it drops, for the log.
type Commit struct {
	Prev, Name string
	CRC        uint32
	LogStart   int64
	TieredEnd  int64
	LastEpoch  int32
	Bytes      int64
	Retired    []string
}

// Pointer is what the partition's pointer is once c is applied.
func (c *Commit) Pointer() Pointer {
	return Pointer{
		Name: c.Name, CRC: c.CRC, LogStart: c.LogStart, TieredEnd: c.TieredEnd,
		LastEpoch: c.LastEpoch, Bytes: c.Bytes,
	}
}

// Partition is one partition's part of a Tier. Its methods may be called at once
// by any number of goroutines, but Upload, Retain and Collect one at a time.
type Partition struct {
	t        *Tier
	id       PartitionID
	dir      string // of its keys
	pointer  atomic.Pointer[Pointer]
	logStart atomic.Int64 // raft's, where it is told apart from the pointer's

	mu struct {
		sync.Mutex
		observed time.Time          // when the pointer took its present name here
		view     *view              // nil: not read, or dropped as idle
		written  []*view            // manifests written here, the newest last; at most maxWritten
		streams  []*stream          // at most maxStreams
		warming  map[int64]*warming // by offset; at most maxWarming
	}
	// Of the one goroutine that commits.
	brake      brake
	collected  map[string]bool // keys deleted since the manifest was written
	swept      time.Time       // last look for superseded manifests
	sweptAfter string          // the manifest that was current then
}

// SetPointer tells what raft has applied, on any replica. It is cheap and may be
// called with what is known already.
func (p *Partition) SetPointer(ptr Pointer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.pointer.Load(); old == nil || old.Name != ptr.Name {
		// Before the pointer shows: Collect must not date what the new one drops by the old one.
		p.mu.observed = p.t.cfg.Now()
	}
	p.pointer.Store(&ptr)
}

// SetLogStart raises what readers see as the first offset, where raft moved it
// without a new manifest.
func (p *Partition) SetLogStart(offset int64) {
	for {
		old := p.logStart.Load()
		if offset <= old || p.logStart.CompareAndSwap(old, offset) {
			return
		}
	}
}

// Pointer returns what SetPointer told last.
func (p *Partition) Pointer() Pointer {
	if ptr := p.pointer.Load(); ptr != nil {
		return *ptr
	}
	return Pointer{}
}

// Key is the full key of an entry's object, from the store's root on.
func (p *Partition) Key(e *Entry) string { return resolve(p.dir, e.Key) }

// ID returns the partition's names.
func (p *Partition) ID() PartitionID { return p.id }

// first is the first offset that may still be read.
func (p *Partition) first(v *view) int64 {
	start := max(p.logStart.Load(), v.m.LogStart)
	if ptr := p.pointer.Load(); ptr != nil {
		start = max(start, ptr.LogStart)
	}
	return start
}

func (p *Partition) label(ctx context.Context, purpose object.Purpose) context.Context {
	return object.WithPurpose(object.WithTopic(ctx, p.id.Topic), purpose)
}
