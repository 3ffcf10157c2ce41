// Package coord is the one runtime of log-backed coordinators. A shard belongs to one partition of
// an internal topic in one leader epoch: it replays the log into a Machine, feeds it events on one
// goroutine, appends the records that events lead to, and calls back when they are committed. What
// a Machine decides is not known here, nor are Kafka's error codes.
//
// A Runtime may be used from any goroutine.
package coord

import (
	"errors"
	"log/slog"
	"time"

	"varve/broker/partition"
)

// What callers branch on.
var (
	// ErrNotCoordinator: the shard is not led here, or it was lost while the event waited; whether
	// its records are in the log is then not known.
	ErrNotCoordinator = errors.New("not the coordinator")
	// ErrLoading: the shard replays its log. Retry.
	ErrLoading = errors.New("coordinator is loading")
	// ErrOverloaded: the shard's queue is full, nothing was done. Retry.
	ErrOverloaded = errors.New("coordinator has too many requests")
	// ErrProducerFenced: the log knows a newer epoch of the producer of a transactional step.
	ErrProducerFenced = partition.ErrInvalidProducerEpoch
	// ErrTooLarge: the records of a step do not fit MaxStepBytes; nothing was done.
	ErrTooLarge = errors.New("coordinator record is too large")
)

// Record is one key and value of an internal topic; a nil Value is a tombstone.
type Record struct{ Key, Value []byte }

// Info says where a record stands in the log.
type Info struct {
	Offset    int64
	Timestamp int64 // ms
	// ProducerID is -1 outside a transaction. Else the record is pending until Marker.
	ProducerID    int64
	ProducerEpoch int16
}

// Machine is the state of one shard. Its methods, and the events given to Runtime.Do, are called on
// the shard's goroutine only. It reads no clock: time comes in.
type Machine interface {
	// Apply takes one record of the log into the state: at load in log order, and at once when a
	// Step of this leader epoch is appended (the same code path). The bytes are valid during the
	// call only. An error at load keeps the shard from serving; one of a record that the Machine
	// itself made drops the state.
	Apply(rec Record, info Info) error
	// Marker ends the transaction of a producer in this log.
	Marker(producerID int64, producerEpoch int16, commit bool) error
	// Loaded is called once, when the log was replayed.
	Loaded(now time.Time) Step
	// NextTimer is when Tick wants to be called (zero: never); asked after every event. Tick must
	// move it, or events get slow.
	NextTimer() time.Time
	Tick(now time.Time) Step
	// Stopped is the last call: leadership is gone, the broker stops, or the state is dropped.
	// Parked replies must be answered with ErrNotCoordinator.
	Stopped()
}

// Step is what an event leads to. Its Records become part of the state when the event returns, and
// are appended all or none. Then is called with nil once HW covers them and everything appended
// before, so that no reply shows what may still be lost; with an error if that will never be known
// to have happened. With no Records it waits only for what is already appended.
//
// Then runs on the shard's goroutine and must not block; it may be nil.
type Step struct {
	Records []Record
	// Transactional appends the Records as a batch of the producer's transaction: they go to Apply
	// with its id, and only if the log takes the batch. A producer that the log fences makes Then
	// get ErrProducerFenced.
	Transactional bool
	ProducerID    int64
	ProducerEpoch int16
	Then          func(err error)
}

// Event changes or reads the state of a shard.
type Event func(m Machine, now time.Time) Step

// Marker ends the transaction of a producer in a partition.
type Marker struct {
	ProducerID       int64
	ProducerEpoch    int16
	CoordinatorEpoch int32
	Commit           bool
}

// The limits of a shard. Each is what one shard may hold at a time.
const (
	// DefaultMaxQueue is how many events wait, and how many replies wait for the disk: 4,096 small
	// commits are a tenth of a second of work, far within any client's timeout.
	DefaultMaxQueue = 4096
	// DefaultReplayParallel shards are loaded at a time: replay is bound by the CPU.
	DefaultReplayParallel = 2
	// MaxStepBytes bounds the records of one step; a consumer group of 10,000 members with its
	// assignment fits.
	MaxStepBytes = 16 << 20
	// drainEvents is how many events go between two looks at the outside; beyond it batches get no
	// cheaper.
	drainEvents = 512
	// batchBytes is when a shared batch is closed; consumers of internal topics read it whole.
	batchBytes = 1 << 20
	// replayBytes is what a load reads at a time.
	replayBytes = 4 << 20
	// recordOverhead is more than what a record takes beside its key and value.
	recordOverhead = 32
	// reloadAfter is how long a shard whose log did not take or give records waits before it loads
	// again: clients retry ten times in that time, and a full disk does not become a busy loop.
	reloadAfter = time.Second
)

// Config is what a Runtime is made from.
type Config struct {
	Topic string // the internal topic, for log lines
	New   func(partition int32) Machine
	Now   func() time.Time // nil: time.Now
	Log   *slog.Logger     // nil: slog.Default

	MaxQueue       int // 0: DefaultMaxQueue
	ReplayParallel int // 0: DefaultReplayParallel
}

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.MaxQueue <= 0 {
		c.MaxQueue = DefaultMaxQueue
	}
	if c.ReplayParallel <= 0 {
		c.ReplayParallel = DefaultReplayParallel
	}
	return c
}
