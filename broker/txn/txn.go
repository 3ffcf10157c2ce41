// Package txn is the transaction coordinator: what is open, what was decided, and the markers that
// tell it to the partitions. Machine is the pure state of one partition of __transaction_state, run
// by coord; Coordinator is what the api package calls. It refuses to know how a marker reaches a
// partition (Markers) and Kafka's error codes.
//
// A transaction goes
//
//	Empty -> Ongoing -> PrepareCommit | PrepareAbort -> CompleteCommit | CompleteAbort -> Ongoing ...
//
// Prepare in the log is the decision: from then on markers are sent, again and again, also by the next
// coordinator, until every partition has one; then Complete is written. So LSO of a partition
// waits for the coordinator at most, never for the producer.
//
// A Coordinator may be used from any goroutine.
package txn

import (
	"errors"
	"time"

	"varve/broker/coord"
)

// Topic is the internal topic that holds the state.
const Topic = "__transaction_state"

// What callers branch on.
var (
	// ErrConcurrent: the transaction before is not finished. Retry.
	ErrConcurrent = errors.New("the transaction before is still being finished")
	// ErrFenced: a newer producer uses the transactional id.
	ErrFenced = errors.New("producer is fenced by a newer one of its transactional id")
	// ErrMapping: the transactional id is not known, or belongs to another producer id.
	ErrMapping = errors.New("producer id is not the one of the transactional id")
	// ErrInvalidState: not possible in the state that the transaction is in.
	ErrInvalidState = errors.New("not possible in this state of the transaction")
	// ErrNotAdded: the partition is not part of the transaction; the client has to abort it.
	ErrNotAdded = errors.New("partition is not part of the transaction")
	// ErrTimeout: a transaction.timeout.ms of 0 or less, or above transaction.max.timeout.ms.
	ErrTimeout = errors.New("transaction timeout is not between 1 and transaction.max.timeout.ms")
	// ErrNotFound: there is no such transactional id.
	ErrNotFound = errors.New("transactional id not found")
	// ErrNoID: an empty transactional id.
	ErrNoID = errors.New("transactional id is empty")
	// ErrTooMany: more partitions in a transaction, or transactional ids in a shard, than are kept.
	ErrTooMany = errors.New("too many partitions in a transaction, or too many transactional ids")

	// errNeedID asks the caller to come again with a fresh producer id: getting one takes raft, for
	// which no shard waits.
	errNeedID = errors.New("a new producer id is needed")
)

// The limits. Each bounds memory that clients can claim.
const (
	// maxPartitions of one transaction: its record is rewritten with each partition that is added.
	maxPartitions = 20_000
	// maxIDs of one shard: about 30 MiB; with 50 shards five million, beyond which something is
	// minting ids instead of reusing them.
	maxIDs = 100_000
	// maxWaiting requests are held for one transactional id while its last transaction is finished.
	maxWaiting = 8
	// maxDue is how much one tick does: the rest is due at once again.
	maxDue = 256
	// maxTickBytes bounds the records of one tick, a quarter of what a step may hold.
	maxTickBytes = coord.MaxStepBytes / 4

	// waitFor is how long a request waits for the end of the transaction before, which
	// takes two fdatasyncs, instead of being told to retry. Kafka waits as long (KIP-890,
	// add.partitions.to.txn.retry.backoff.max.ms).
	waitFor = 100 * time.Millisecond
	// retryMarkers is the pause before markers that a partition did not take are sent again.
	retryMarkers = 100 * time.Millisecond
)

// Version is a transaction version (KIP-1022).
type Version int16

// V1 are producers that add partitions themselves and keep their epoch; with V2 each end of a
// transaction bumps the epoch, so that nothing late gets into the next one (KIP-890).
const (
	V1 Version = 0 // Kafka writes 0 for both, 0 and 1
	V2 Version = 2
)

// Partition names a partition of a transaction.
type Partition struct {
	Topic     string
	Partition int32
}

// Producer is who asks: the transactional id, and the producer id and epoch that it believes in.
type Producer struct {
	TxnID string
	ID    int64 // -1 none
	Epoch int16 // -1 none
}

// Marker is one end marker for one partition. Its Bumped says that the epoch is above that of every
// batch of the transaction.
type Marker struct {
	coord.Marker
	Partition Partition
	Bumped    bool
}

// Markers brings markers to their partitions.
type Markers interface {
	// Write must not block. done is called once for each marker, from any goroutine, when it is
	// committed, or with why it is not: ErrGone if it never can nor need be, anything else is tried
	// again.
	Write(markers []Marker, done func(i int, err error))
}

// ErrGone says that a partition was deleted, or already knows a newer epoch of the producer: the
// transaction has nothing left to end there.
var ErrGone = errors.New("partition has no transaction to end")

// Config is what a Coordinator and its Machines are made from.
type Config struct {
	Markers Markers
	// NewProducerID gets a producer id that was never used.
	NewProducerID func() (int64, error)
	// MaxTimeout is transaction.max.timeout.ms, Expiration transactional.id.expiration.ms, as set now.
	MaxTimeout func() time.Duration
	Expiration func() time.Duration
}
