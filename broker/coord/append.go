package coord

import (
	"errors"

	"varve/broker/partition"
	"varve/broker/record"
)

// step takes the records of a step into the state and into the open batch.
func (s *shard) step(st Step) {
	if st.Then == nil {
		st.Then = func(error) {}
	}
	if s.failed {
		st.Then(ErrNotCoordinator)
		return
	}
	if len(st.Records) == 0 {
		s.afterAppended(st.Then)
		return
	}
	size := 0
	for _, r := range st.Records {
		size += len(r.Key) + len(r.Value) + recordOverhead
	}
	if size > MaxStepBytes {
		st.Then(ErrTooLarge)
		return
	}
	if st.Transactional {
		s.appendTransactional(st)
		return
	}
	if s.batch.Count() > 0 && s.batch.Len()+size > batchBytes {
		if s.flush(); s.failed {
			st.Then(ErrNotCoordinator)
			return
		}
	}
	now := s.rt.cfg.Now().UnixMilli()
	s.open = append(s.open, waiter{0, st.Then})
	for _, r := range st.Records {
		info := Info{Offset: s.next + int64(s.batch.Count()), Timestamp: now, ProducerID: record.NoProducerID, ProducerEpoch: -1}
		s.batch.Append(record.Record{Timestamp: now, Key: r.Key, Value: r.Value})
		s.apply(r, info)
	}
}

// apply takes one record that this shard made into the state.
func (s *shard) apply(r Record, info Info) {
	if err := s.machine.Apply(r, info); err != nil {
		s.rt.cfg.Log.Error("coordinator refuses its own record, state dropped and loaded anew",
			"topic", s.rt.cfg.Topic, "partition", s.partition, "err", err)
		s.failed = true
	}
}

// afterAppended calls then when everything that was appended, or is about to be, is committed.
func (s *shard) afterAppended(then func(error)) {
	switch {
	case s.batch.Count() > 0:
		s.open = append(s.open, waiter{0, then})
	case s.committed.Load() < s.next:
		s.parked = append(s.parked, waiter{s.next, then})
	default:
		then(nil)
	}
}

// flush appends the open batch.
func (s *shard) flush() {
	if s.failed || s.batch.Count() == 0 {
		return
	}
	b, err := s.batch.Build()
	if err == nil {
		err = s.append(b)
	}
	if err != nil {
		// The state holds what the log refused. Machines need no undo: the state is loaded anew.
		s.failed = true
		s.rt.cfg.Log.Warn("coordinator append failed, state dropped", "topic", s.rt.cfg.Topic,
			"partition", s.partition, "epoch", s.epoch, "err", err)
		return
	}
	s.batch.Reset()
	for i := range s.open {
		s.open[i].end = s.next
	}
	s.parked = append(s.parked, s.open...)
	clear(s.open)
	s.open = s.open[:0]
}

// append writes one batch at s.next in this shard's epoch.
func (s *shard) append(b record.Batch) error {
	info, parked, err := s.replica.AppendIn(s.epoch, b, &partition.Ack{Owner: s})
	if err != nil {
		return err
	}
	if info.First != s.next {
		return errors.New("somebody else writes to the partition of a coordinator")
	}
	s.next = info.Last + 1
	if !parked {
		s.raise(s.next)
	}
	return nil
}

// appendTransactional appends the records of a step as a batch of their own. The log may fence the
// producer, so they are applied after it, not before.
func (s *shard) appendTransactional(st Step) {
	if s.flush(); s.failed {
		st.Then(ErrNotCoordinator)
		return
	}
	now := s.rt.cfg.Now().UnixMilli()
	build := record.NewBuilder(record.None)
	build.SetProducer(st.ProducerID, st.ProducerEpoch, -1) // coordinators take no sequence numbers
	build.SetTransactional()
	for _, r := range st.Records {
		build.Append(record.Record{Timestamp: now, Key: r.Key, Value: r.Value})
	}
	first := s.next
	b, err := build.Build()
	if err == nil {
		err = s.append(b)
	}
	if err != nil {
		st.Then(s.refused(err))
		return
	}
	for i, r := range st.Records {
		s.apply(r, Info{Offset: first + int64(i), Timestamp: now, ProducerID: st.ProducerID, ProducerEpoch: st.ProducerEpoch})
	}
	s.parked = append(s.parked, waiter{s.next, st.Then})
}

func (s *shard) writeMarker(m Marker, then func(error)) {
	if s.flush(); s.failed {
		then(ErrNotCoordinator)
		return
	}
	now := s.rt.cfg.Now().UnixMilli()
	err := s.append(record.NewEndTxnMarker(m.Commit, m.ProducerID, m.ProducerEpoch, m.CoordinatorEpoch, now))
	if err != nil {
		then(s.refused(err))
		return
	}
	s.parked = append(s.parked, waiter{s.next, then})
	if err := s.machine.Marker(m.ProducerID, m.ProducerEpoch, m.Commit); err != nil {
		s.rt.cfg.Log.Error("coordinator refuses a marker, state dropped and loaded anew",
			"topic", s.rt.cfg.Topic, "partition", s.partition, "err", err)
		s.failed = true
	}
}

// refused is what a caller gets whose own batch the log did not take; the state is as before. What
// ends the epoch or the log ends the state too.
func (s *shard) refused(err error) error {
	if errors.Is(err, partition.ErrInvalidProducerEpoch) || errors.Is(err, partition.ErrCoordinatorFenced) ||
		errors.Is(err, partition.ErrInvalidTxnState) {
		return err
	}
	s.failed = true
	s.rt.cfg.Log.Warn("coordinator append failed, state dropped", "topic", s.rt.cfg.Topic,
		"partition", s.partition, "epoch", s.epoch, "err", err)
	return ErrNotCoordinator
}

// complete answers everything that HW covers.
func (s *shard) complete() {
	committed := s.committed.Load()
	n := 0
	for n < len(s.parked) && s.parked[n].end <= committed {
		s.parked[n].then(nil)
		n++
	}
	if n == 0 {
		return
	}
	rest := copy(s.parked, s.parked[n:])
	clear(s.parked[rest:])
	s.parked = s.parked[:rest]
}
