// Package partition holds one replica of one topic partition: its role and leader epoch, its high
// watermark, the waiters parked on it, and the choice between the local log and the cold tier.
// It is told its role, its LogStart and its TieredEnd (from raft, by Apply) and proposes changes
// through one function in its Config; it never reads metadata itself, and refuses to know the wire
// protocol.
//
// A Replica may be used from any goroutine. Every offset range is half-open.
//
// Lock order: Replica.mu, then the log's own lock, then Replica.subs. Nothing is proposed, read
// from the object store or answered to a client under Replica.mu.
package partition

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"varve/broker/commitlog"
	"varve/tiering"
)

// What callers branch on. The api package alone knows which protocol code each one is.
var (
	ErrNotLeader          = errors.New("not the leader of this partition")
	ErrFencedEpoch        = errors.New("leader epoch is older than the partition's")
	ErrUnknownEpoch       = errors.New("leader epoch is newer than the partition's")
	ErrOffsetOutOfRange   = errors.New("offset out of range")
	ErrOffsetNotAvailable = errors.New("offset not available yet")
	ErrNotEnoughReplicas  = errors.New("fewer in-sync replicas than min.insync.replicas")
	ErrStorage            = errors.New("storage error")
	ErrStopped            = errors.New("replica is stopped")
)

// ID names a partition. TopicIDText is the id as users see it (unpadded base64url).
type ID struct {
	Topic       string
	TopicID     [16]byte
	TopicIDText string
	Partition   int32
}

func (id ID) String() string { return id.Topic + "/" + strconv.Itoa(int(id.Partition)) }

// Change is what a leader asks of the metadata log. Exactly one of Tier and LogStart is set.
type Change struct {
	LeaderEpoch int32
	Tier        *tiering.Commit
	LogStart    *int64
}

// Propose sends a change and returns when it is applied on this broker, or with the reason why it
// was refused. Its context ends an unknown outcome: the caller looks at the next Apply.
type Propose func(ctx context.Context, id ID, c Change) error

// TopicConfig is the part of a topic's configuration that a replica acts on.
type TopicConfig struct {
	Log commitlog.Config

	RetentionAge      time.Duration // negative: without limit
	RetentionBytes    int64         // negative: without limit
	Tiered            bool          // remote.storage.enable
	CopyDisabled      bool          // remote.log.copy.disable: no uploads, the local floor is held
	LocalAge          time.Duration // local.retention.ms resolved; negative: without limit
	LocalBytes        int64         // local.retention.bytes resolved; negative: without limit
	TierMaxDelay      time.Duration // varve.tier.max.delay.ms
	CopyLagAge        time.Duration // remote.copy.lag.ms
	CopyLagBytes      int64         // remote.copy.lag.bytes; 0: by age alone
	TierNoCompression bool          // varve.tier.compression=none
	MinISR            int
	MaxBatchBytes     int
	AppendTime        bool // message.timestamp.type=LogAppendTime
	TimeBefore        time.Duration
	TimeAfter         time.Duration
	Compacted         bool
	Compaction        CompactionConfig  // what decides when and what, if Compacted
	Compression       string            // compression.type: "producer" keeps batches as they are
	CompressionLevel  int               // of that codec, if it has levels
	Values            map[string]string // what the topic sets, for manifests
}

// CompactionConfig is what a topic says of its compaction.
type CompactionConfig struct {
	MinDirtyRatio   float64       // min.cleanable.dirty.ratio
	MinLag          time.Duration // min.compaction.lag.ms
	MaxLag          time.Duration // max.compaction.lag.ms; above 200 years: no bound
	DeleteRetention time.Duration // delete.retention.ms
}

// Assignment is what the metadata says of this replica. Only Apply takes one, in raft's order.
type Assignment struct {
	Leader      int32
	LeaderEpoch int32
	Replicas    int
	ISR         int // members of the committed ISR
	LogStart    int64
	Tier        tiering.Pointer
	TierIndex   uint64 // raft index of Tier's commit
	Partitions  int32  // of the topic
	Config      *TopicConfig
}

// Config is what a Replica is made from.
type Config struct {
	ID      ID
	NodeID  int32
	Dir     string // <data>/topics; the replica lives in <topicID>/<partition> below it
	Env     *commitlog.Env
	Tier    *tiering.Tier // nil where no store is configured
	Propose Propose
	States  *States
	Clean   bool // the broker's last stop was clean: checkpoints of it may be believed
	// AppliedByAll is the smallest raft index that any unfenced broker has applied; what is dropped
	// from a manifest is deleted only after it.
	AppliedByAll func() uint64
	Now          func() time.Time
	Log          *slog.Logger
}

// Replica is one replica. Between its fields, on a leader whose HW has reached its epoch's start:
//
//	LogStart <= LocalStart <= LEO    LSO <= HW <= LEO    Durable <= LEO    LogStart <= HW
//	LocalStart <= max(LogStart, TieredEnd)    TieredEnd <= LSO
//	without write.caching: HW <= Durable
//
// check verifies them; tests call it after every step.
type Replica struct {
	cfg  Config
	cold *tiering.Partition // nil where no store is configured

	conf      atomic.Pointer[TopicConfig]
	hw        atomic.Int64 // moved by advanceHWLocked alone
	logStart  atomic.Int64 // raft; moved by Apply alone
	tierEnd   atomic.Int64 // raft; moved by Apply alone
	epoch     atomic.Int32 // leader epoch; -1 while not the leader
	log       atomic.Pointer[commitlog.Log]
	described atomic.Pointer[TopicConfig] // the config that topic.json was last written for
	cachedHW  int64                       // from the state database; a floor, believed only below the recovered LEO

	mu struct {
		sync.Mutex
		assigned Assignment
		leader   bool
		stopped  bool
		acks     ackQueue
	}
	open      openState
	fault     atomic.Pointer[coldFault]
	damagedTo atomic.Int64 // local segments below it are damaged and tiered: the workers drop them
	subs      struct {
		sync.Mutex
		first *Sub
	}
	work  workState
	clean cleanState
	saved savedState
	kick  func()          // tells the Set's workers that there may be work; nil outside a Set
	life  context.Context // bounds what an open reads from the bucket; end ends it
	end   context.CancelFunc
}

// New makes a replica; nothing is opened before it is used.
func New(cfg Config) *Replica {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	r := &Replica{cfg: cfg}
	r.life, r.end = context.WithCancel(context.Background())
	r.epoch.Store(-1)
	r.mu.assigned.LeaderEpoch = -1
	if cfg.Tier != nil {
		r.cold = cfg.Tier.Partition(tiering.PartitionID{
			Topic: cfg.ID.Topic, TopicID: cfg.ID.TopicID,
			TopicIDText: cfg.ID.TopicIDText, Partition: cfg.ID.Partition,
		})
	}
	return r
}

func (r *Replica) ID() ID               { return r.cfg.ID }
func (r *Replica) HW() int64            { return r.hw.Load() }
func (r *Replica) LogStart() int64      { return r.logStart.Load() }
func (r *Replica) TieredEnd() int64     { return r.tierEnd.Load() }
func (r *Replica) LeaderEpoch() int32   { return r.epoch.Load() }
func (r *Replica) Config() *TopicConfig { return r.conf.Load() }
func (r *Replica) Cold() *tiering.Partition {
	return r.cold
}

// Dir is the directory of the local log.
func (r *Replica) Dir() string {
	return filepath.Join(r.cfg.Dir, r.cfg.ID.TopicIDText, strconv.Itoa(int(r.cfg.ID.Partition)))
}

// startHWLocked sets where HW begins: max(checkpoint, TieredEnd, LogStart), at most LEO (design 5).
func (r *Replica) startHWLocked(l *commitlog.Log) {
	hw := max(r.cachedHW, r.tierEnd.Load(), r.logStart.Load(), l.LocalStart())
	r.hw.Store(max(r.hw.Load(), min(hw, l.LEO())))
}

// State is what the state database keeps; ok is false while the log was never opened, or has
// nothing new since the last call. Taking it flushes the log.
func (r *Replica) State() (st State, ok bool) {
	l := r.log.Load()
	if l == nil || !r.saved.changed(r.hw.Load(), l.LEO(), l.LocalStart()) {
		return State{}, false
	}
	checkpoint, ok := l.Checkpoint()
	return State{HW: r.hw.Load(), Checkpoint: checkpoint}, ok
}

// Stop ends the replica: parked waiters are answered with ErrNotLeader, an upload is cancelled,
// and the log is closed after a last flush. With remove its directory is deleted too.
func (r *Replica) Stop(remove bool) error {
	r.halt()
	r.open.Lock()
	defer r.open.Unlock()
	l := r.log.Swap(nil)
	switch {
	case l == nil: // whoever removes a topic removes its directory with what was never opened
		return nil
	case remove:
		return l.Remove()
	}
	return l.Close()
}

func (r *Replica) halt() {
	r.depose()
	r.work.stop()
	r.clean.stop()
}

// depose ends the replica for clients, at once and without waiting: nothing more is appended or
// read, parked waiters are answered, an open that reads the bucket is cut off. Stop is to follow.
func (r *Replica) depose() {
	r.end()
	r.mu.Lock()
	r.mu.stopped = true
	done := r.resignLocked()
	r.mu.Unlock()
	done.finish(ErrNotLeader)
	r.wakeAll()
}

// closeForStop closes the log and returns its last state; opened is false if it never was open.
func (r *Replica) closeForStop() (st State, opened bool, err error) {
	r.halt()
	r.open.Lock()
	defer r.open.Unlock()
	l := r.log.Load()
	if l == nil {
		return State{}, false, nil
	}
	checkpoint, ok := l.Checkpoint()
	if err := l.Close(); err != nil {
		return State{}, false, err
	}
	r.log.Store(nil)
	return State{HW: l.Durable(), Checkpoint: checkpoint}, ok, nil
}
