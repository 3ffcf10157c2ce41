package meta

import (
	"errors"
	"fmt"
)

// What a command can be refused with. A Result's Err wraps one of these.
var (
	ErrTopicExists       = errors.New("topic exists")
	ErrTopicCollision    = errors.New("topic name collides with another topic's")
	ErrInvalidTopicName  = errors.New("invalid topic name")
	ErrIDInUse           = errors.New("topic id is in use")
	ErrUnknownTopic      = errors.New("unknown topic")
	ErrUnknownPartition  = errors.New("unknown partition")
	ErrInvalidPartitions = errors.New("invalid partitions")
	ErrInvalidReplicas   = errors.New("invalid replica assignment")
	ErrStaleEpoch        = errors.New("leader epoch is not current")
	ErrNotLeader         = errors.New("proposer does not lead the partition")
	ErrStaleBrokerEpoch  = errors.New("broker epoch is not current")
	ErrPartitionChanged  = errors.New("partition epoch is not current")
	ErrIneligibleReplica = errors.New("replica is not eligible")
	ErrPrevMismatch      = errors.New("manifest to replace is not the current one")
	ErrGoesBack          = errors.New("offset would go back")
	ErrUnknownBroker     = errors.New("unknown broker")
	ErrBrokerLive        = errors.New("another live process has this node id")
	ErrClusterMismatch   = errors.New("broker belongs to another cluster")
	ErrConfigChanged     = errors.New("config is not what the change was computed from")
	ErrLimit             = errors.New("limit exceeded")
	ErrInvalidCommand    = errors.New("invalid command")
	ErrStaleSequence     = errors.New("proposal is older than the result window")
)

// What Propose and Register return themselves.
var (
	// ErrUnknownOutcome: the proposal may or may not have been, or be, applied. It is answered as a
	// timeout, never as a failure.
	ErrUnknownOutcome = errors.New("outcome is unknown")
	// ErrNotRegistered: this process has no broker epoch yet. Nothing was proposed.
	ErrNotRegistered = errors.New("broker is not registered")
	// ErrTooLarge: the proposal does not fit into a raft entry. Nothing was proposed.
	ErrTooLarge = errors.New("proposal is too large")
	// ErrClosed: the node was closed. Nothing was proposed.
	ErrClosed = errors.New("metadata node is closed")
)

// What Open returns.
var (
	// ErrInUse: another process has the data directory open.
	ErrInUse = errors.New("data directory is in use by another process")
	// ErrStateLost: the identity says that raft/ had state, but there is none.
	ErrStateLost = errors.New("raft state is gone")
)

// code is the name of a refusal in result windows and on the wire. Codes are never reused.
type code string

var codeErrors = map[code]error{
	"topic_exists":       ErrTopicExists,
	"topic_collision":    ErrTopicCollision,
	"invalid_topic_name": ErrInvalidTopicName,
	"id_in_use":          ErrIDInUse,
	"unknown_topic":      ErrUnknownTopic,
	"unknown_partition":  ErrUnknownPartition,
	"invalid_partitions": ErrInvalidPartitions,
	"invalid_replicas":   ErrInvalidReplicas,
	"stale_epoch":        ErrStaleEpoch,
	"not_leader":         ErrNotLeader,
	"stale_broker_epoch": ErrStaleBrokerEpoch,
	"partition_changed":  ErrPartitionChanged,
	"ineligible_replica": ErrIneligibleReplica,
	"prev_mismatch":      ErrPrevMismatch,
	"goes_back":          ErrGoesBack,
	"unknown_broker":     ErrUnknownBroker,
	"broker_live":        ErrBrokerLive,
	"cluster_mismatch":   ErrClusterMismatch,
	"config_changed":     ErrConfigChanged,
	"limit":              ErrLimit,
	"invalid_command":    ErrInvalidCommand,
	"stale_sequence":     ErrStaleSequence,
}

var errorCodes = func() map[error]code {
	m := make(map[error]code, len(codeErrors))
	for c, err := range codeErrors {
		m[err] = c
	}
	return m
}()

// CommandError is the refusal of one command: a sentinel and the numbers behind it.
type CommandError struct {
	kind   error
	Detail string
}

func (e *CommandError) Error() string {
	if e.Detail == "" {
		return e.kind.Error()
	}
	return e.kind.Error() + ": " + e.Detail
}

// Unwrap is the sentinel.
func (e *CommandError) Unwrap() error { return e.kind }

// refuse makes the refusal of a command. kind must be a key of errorCodes.
func refuse(kind error, format string, args ...any) *CommandError {
	return &CommandError{kind, fmt.Sprintf(format, args...)}
}

// Result is the outcome of one command.
type Result struct {
	// Err is nil if the command was applied, else a *CommandError.
	Err error
	// Value is what the command gave: broker epoch, first producer id, new LogStart, else 0.
	Value int64
	// Index is the raft index at which it was decided.
	Index uint64
}

// outcome is a Result as the window and the snapshot keep it.
type outcome struct {
	Code   code   `json:"c,omitempty"`
	Detail string `json:"d,omitempty"`
	Value  int64  `json:"n,omitempty"`
}

func newOutcome(value int64, err *CommandError) outcome {
	if err == nil {
		return outcome{Value: value}
	}
	return outcome{Code: errorCodes[err.kind], Detail: err.Detail, Value: value}
}

func (o outcome) result(index uint64) Result {
	if o.Code == "" {
		return Result{Value: o.Value, Index: index}
	}
	return Result{Err: &CommandError{codeErrors[o.Code], o.Detail}, Value: o.Value, Index: index}
}
