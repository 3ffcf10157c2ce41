package coord

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"varve/broker/partition"
	"varve/broker/record"
)

// slowLoad is from when on a load is worth a line: a client that was refused meanwhile noticed.
const slowLoad = time.Second

var errHalted = errors.New("shard stopped")

// load replays the log into a new Machine; false if there is nothing to serve from.
func (s *shard) load() bool {
	select {
	case s.rt.loads <- struct{}{}:
	case <-s.stop:
		return false
	}
	defer func() { <-s.rt.loads }()
	start := time.Now()
	m := s.rt.cfg.New(s.partition)
	if e, ok := m.(interface{ SetEpoch(epoch int32) }); ok {
		e.SetEpoch(s.epoch)
	}
	records, err := s.replay(m)
	if err != nil {
		m.Stopped()
		if !errors.Is(err, errHalted) && s.replica.LeaderEpoch() == s.epoch {
			s.rt.cfg.Log.Error("coordinator not loaded; its clients wait", "topic", s.rt.cfg.Topic,
				"partition", s.partition, "epoch", s.epoch, "err", err)
		}
		return false
	}
	s.machine = m
	level := slog.LevelDebug // 50 lines a start would say nothing
	if took := time.Since(start); took >= slowLoad {
		level = slog.LevelInfo
	}
	s.rt.cfg.Log.Log(context.Background(), level, "coordinator loaded", "topic", s.rt.cfg.Topic, "partition", s.partition,
		"epoch", s.epoch, "records", records, "took", time.Since(start).Round(time.Millisecond).String())
	return true
}

// replay takes everything from LogStart to the LEO of the election, once HW covers it: state that
// could still be lost is never served.
func (s *shard) replay(m Machine) (records int, err error) {
	l, err := s.replica.Log()
	if err != nil {
		return 0, fmt.Errorf("open log: %w", err)
	}
	// The shard is the only writer of its epoch, so this is the end that the epoch began with.
	end := l.LEO()
	if err := s.awaitHW(end); err != nil {
		return 0, err
	}
	s.next = end
	s.committed.Store(end)
	buf := make([]byte, 0, 64<<10)
	for at := s.replica.LogStart(); at < end; {
		if s.halted() {
			return records, errHalted
		}
		h, err := s.replica.ReadHot(at, replayBytes, true, false)
		switch {
		case errors.Is(err, partition.ErrOffsetOutOfRange) && at < s.replica.LogStart():
			at = s.replica.LogStart()
			continue
		case err != nil:
			return records, fmt.Errorf("read at %d: %w", at, err)
		case h.Cold || h.Span == nil:
			return records, fmt.Errorf("read at %d: not on local disk", at)
		}
		buf, err = h.Span.ReadAll(buf[:0])
		next := h.Span.Next
		h.Span.Release()
		if err != nil {
			return records, fmt.Errorf("read at %d: %w", at, err)
		}
		n, err := replayBatches(m, buf)
		records += n
		if err != nil {
			return records, err
		}
		if next <= at {
			return records, fmt.Errorf("read at %d: no batch, the log ends at %d", at, end)
		}
		at = next
	}
	return records, nil
}

// awaitHW waits until HW covers end, in this shard's epoch.
func (s *shard) awaitHW(end int64) error {
	var sub partition.Sub
	sub.Owner = s
	s.replica.Subscribe(&sub)
	defer sub.Unsubscribe()
	for {
		if s.replica.LeaderEpoch() != s.epoch {
			return errHalted
		}
		if s.replica.HW() >= end {
			return nil
		}
		select {
		case <-s.wake:
		case <-s.stop:
			return errHalted
		}
	}
}

// replayBatches applies whole batches in log order.
func replayBatches(m Machine, b []byte) (records int, err error) {
	for len(b) > 0 {
		batch, err := record.Parse(b)
		if err == nil {
			err = batch.CheckCRC()
		}
		if err != nil {
			return records, fmt.Errorf("replay: %w", err)
		}
		b = b[batch.Len():]
		n, err := replayBatch(m, batch)
		records += n
		if err != nil {
			return records, fmt.Errorf("replay batch at %d: %w", batch.BaseOffset(), err)
		}
	}
	return records, nil
}

func replayBatch(m Machine, b record.Batch) (n int, err error) {
	info := Info{ProducerID: record.NoProducerID, ProducerEpoch: -1}
	if b.Attributes().Transactional() {
		info.ProducerID, info.ProducerEpoch = b.ProducerID(), b.ProducerEpoch()
	}
	for r, err := range b.Records(record.MaxBatchBytes) {
		if err != nil {
			return n, err
		}
		if b.Attributes().Control() {
			kind, err := record.ParseControl(r)
			if err != nil {
				return n, err
			}
			if kind == record.ControlCommit || kind == record.ControlAbort {
				if err := m.Marker(b.ProducerID(), b.ProducerEpoch(), kind == record.ControlCommit); err != nil {
					return n, err
				}
			}
			continue
		}
		info.Offset, info.Timestamp = r.Offset, r.Timestamp
		if err := m.Apply(Record{Key: r.Key, Value: r.Value}, info); err != nil {
			return n, fmt.Errorf("record at %d: %w", r.Offset, err)
		}
		n++
	}
	return n, nil
}
