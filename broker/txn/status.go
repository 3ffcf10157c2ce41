package txn

import (
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// State is the state of a transaction, by Kafka's numbers.
type State = kmsg.TransactionState

const (
	empty          State = 0
	ongoing        State = 1
	prepareCommit  State = 2
	prepareAbort   State = 3
	completeCommit State = 4
	completeAbort  State = 5
)

const (
	noID    int64 = -1
	noEpoch int16 = -1
)

// status is what the log says of one transactional id. Its transitions return the next status and
// change nothing; the log's record makes it so.
type status struct {
	state      State
	producerID int64
	prevID     int64 // producer id before the last transition, -1 none
	nextID     int64 // producer id that follows this transaction, when its epochs are used up; -1 none
	epoch      int16
	lastEpoch  int16 // the epoch that the producer had before the last bump it asked for, -1 none
	timeoutMS  int32
	parts      []Partition // sorted; never changed in place
	startMS    int64       // of the transaction, -1 outside one
	updateMS   int64
	version    Version
}

// exhausted: the last epoch is kept for the coordinator, so that it can always fence.
func exhausted(epoch int16) bool { return epoch >= math.MaxInt16-1 }

func (s *status) timeout() time.Duration { return time.Duration(s.timeoutMS) * time.Millisecond }

func (s *status) has(p Partition) bool {
	_, ok := slices.BinarySearchFunc(s.parts, p, comparePartitions)
	return ok
}

// then is the status after a transition to state: as before, but for what the caller changes.
func (s *status) then(state State, nowMS int64) status {
	next := *s
	next.state, next.prevID, next.updateMS = state, s.producerID, nowMS
	return next
}

// initialised is the status after InitProducerId, in the same producer id (KIP-360: expected is the
// epoch that the producer names, -1 none).
func (s *status) initialised(expected int16, timeoutMS int32, nowMS int64) (status, error) {
	next := s.then(empty, nowMS)
	next.timeoutMS, next.parts, next.startMS, next.nextID = timeoutMS, nil, -1, noID
	switch {
	case expected == noEpoch:
		next.epoch, next.lastEpoch = s.epoch+1, noEpoch
	case s.epoch == noEpoch || expected == s.epoch:
		next.epoch, next.lastEpoch = s.epoch+1, s.epoch
	case expected == s.lastEpoch: // a retry: its answer got lost
	default:
		return next, ErrFenced
	}
	return next, nil
}

// rotated is the status after InitProducerId when the epochs of the producer id are used up.
func (s *status) rotated(id int64, keepLast bool, timeoutMS int32, nowMS int64) status {
	next := s.then(empty, nowMS)
	next.producerID, next.epoch, next.lastEpoch, next.nextID = id, 0, noEpoch, noID
	if keepLast {
		next.lastEpoch = s.epoch
	}
	next.timeoutMS, next.parts, next.startMS = timeoutMS, nil, -1
	return next
}

func (s *status) withPartitions(parts []Partition, v Version, nowMS int64) status {
	next := s.then(ongoing, nowMS)
	if s.state != ongoing {
		next.startMS = nowMS
	}
	next.parts = slices.Concat(s.parts, parts)
	sortPartitions(next.parts)
	next.parts = slices.Compact(next.parts)
	next.version = v
	return next
}

// prepared is the decision. With V2 it bumps the epoch: markers carry the new one, so that the
// partitions fence what comes late; nextID then is the id to go on with when the epochs are used up.
func (s *status) prepared(commit bool, v Version, nextID int64, nowMS int64) status {
	state := prepareAbort
	if commit {
		state = prepareCommit
	}
	next := s.then(state, nowMS)
	next.version, next.nextID = v, nextID
	if s.state != ongoing {
		next.startMS = nowMS // an abort of nothing, which V2 allows
	}
	if v >= V2 {
		next.lastEpoch = s.epoch
		if s.epoch < math.MaxInt16 {
			next.epoch++
		}
	}
	return next
}

// fenced is prepared for an abort that the producer did not ask for: its epoch ends first.
func (s *status) fenced(nowMS int64) status {
	f := *s
	if f.epoch < math.MaxInt16 {
		f.epoch++
	}
	next := f.prepared(false, V2, noID, nowMS)
	next.prevID = s.producerID
	return next
}

// completed is the status once every partition has its marker.
func (s *status) completed(nowMS int64) status {
	state := completeAbort
	if s.state == prepareCommit {
		state = completeCommit
	}
	next := s.then(state, nowMS)
	if s.version >= V2 && s.nextID != noID {
		next.producerID, next.epoch = s.nextID, 0
	}
	next.nextID, next.parts = noID, nil
	return next
}

func (s *status) preparing() bool { return s.state == prepareCommit || s.state == prepareAbort }

func (s *status) commits() bool { return s.state == prepareCommit }
