package commitlog

import (
	"fmt"
	"math"

	"varve/broker/record"
)

// AppendInfo is the answer to a leader append.
type AppendInfo struct {
	First, Last   int64 // offsets, Last inclusive
	LogAppendTime int64 // ms if the (last) batch has LogAppendTime, else -1
	Duplicate     bool  // an idempotent retry: First and Last are those of the original
}

// maxAppendBytes bounds one append: a request frame's limit and room for batches that
// coordinators build.
const maxAppendBytes = 256 << 20

// AppendLeader appends one or more batches that were validated, CRC included, as the leader of
// epoch. Base offsets and leader epoch are patched into b in place. All of b is written by one
// pwrite into one segment, or nothing is appended; b is not kept. nowMS is the wall clock.
//
// Errors: ErrFull (retriable), ErrFailed, ErrClosed, ErrStaleEpoch, ErrTieredBelow, the producer
// errors, a *record.CorruptError if b is not whole batches.
func (l *Log) AppendLeader(b []byte, epoch int32, nowMS int64) (AppendInfo, error) {
	return l.appendLeader(b, epoch, nowMS, condition{})
}

func (l *Log) appendLeader(b []byte, epoch int32, nowMS int64, must condition) (AppendInfo, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.appendableLocked(len(b)); err != nil {
		return AppendInfo{}, err
	}
	if last := l.mu.epochs.last(); epoch < max(last, 0) {
		return AppendInfo{}, fmt.Errorf("append in epoch %d after %d: %w", epoch, last, ErrStaleEpoch)
	}
	info, err := l.assignLocked(b, epoch, must)
	if err != nil || info.Duplicate {
		return info, err
	}
	if err := l.appendLocked(b, info.Last+1, nowMS); err != nil {
		return AppendInfo{}, err
	}
	return info, nil
}

// appendableLocked checks what every append needs, and loads what a lazily opened log left.
func (l *Log) appendableLocked(n int) error {
	if err := l.usableLocked(); err != nil {
		return err
	}
	if n == 0 || n > maxAppendBytes {
		return fmt.Errorf("append of %d bytes: %w", n, record.ErrTooLarge)
	}
	if leo, tiered := l.leo.Load(), l.tieredEnd.Load(); leo < tiered {
		return fmt.Errorf("log end %d, tiered end %d: %w", leo, tiered, ErrTieredBelow)
	}
	if l.env.Full() && !l.config().Internal {
		return ErrFull
	}
	if s := l.activeLocked(); s != nil && !s.loaded {
		return l.loadActiveLocked(s)
	}
	return nil
}

// assignLocked checks the producer rules for every batch of b and patches offsets and epoch.
func (l *Log) assignLocked(b []byte, epoch int32, must condition) (AppendInfo, error) {
	next := l.leo.Load()
	info := AppendInfo{First: next, LogAppendTime: -1}
	var pending []pendingProducer
	for len(b) > 0 {
		batch, err := record.Parse(b)
		if err != nil {
			return AppendInfo{}, fmt.Errorf("append: %w", err)
		}
		b = b[len(batch):]
		if batch.ProducerID() >= 0 {
			dup, err := l.mu.producers.check(batch, pending, must)
			if err != nil {
				return AppendInfo{}, err
			}
			if dup != nil {
				return duplicateInfo(batch, dup), nil
			}
			if len(b) > 0 {
				pending = append(pending, pendingProducer{batch.ProducerID(), batch.ProducerEpoch(), batch.LastSequence(), batch.Attributes().Transactional() && !batch.Attributes().Control()})
			}
		}
		if next > math.MaxInt64-1-int64(batch.LastOffsetDelta()) {
			return AppendInfo{}, fmt.Errorf("append at offset %d: offsets are used up", next)
		}
		batch.SetBaseOffset(next)
		batch.SetLeaderEpoch(epoch)
		next = batch.NextOffset()
		if batch.Attributes().LogAppendTime() {
			info.LogAppendTime = batch.MaxTimestamp()
		}
	}
	if next-info.First > math.MaxUint32 {
		return AppendInfo{}, fmt.Errorf("append of %d offsets: %w", next-info.First, record.ErrTooLarge)
	}
	info.Last = next - 1
	return info, nil
}

func duplicateInfo(b record.Batch, dup *producerBatch) AppendInfo {
	info := AppendInfo{First: dup.lastOffset - int64(dup.delta), Last: dup.lastOffset, LogAppendTime: -1, Duplicate: true}
	if b.Attributes().LogAppendTime() {
		info.LogAppendTime = dup.timestamp
	}
	return info
}

// AppendFollower appends batches as the leader has them. The caller has checked their CRCs; here
// they must begin at LEO, be gapless, and their epochs must not go back. If it fails, some of the
// batches may have been appended: LEO tells.
func (l *Log) AppendFollower(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.appendableLocked(len(b)); err != nil {
		return err
	}
	if err := l.checkFollowerLocked(b); err != nil {
		return err
	}
	nowMS := l.env.cfg.Now().UnixMilli()
	for len(b) > 0 {
		n, next, err := l.fittingRun(b)
		if err != nil {
			return err
		}
		if err := l.appendLocked(b[:n], next, nowMS); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (l *Log) checkFollowerLocked(b []byte) error {
	next, epoch := l.leo.Load(), l.mu.epochs.last()
	for len(b) > 0 {
		batch, err := record.Parse(b)
		switch {
		case err != nil:
			return fmt.Errorf("append: %w", err)
		case batch.BaseOffset() != next:
			return fmt.Errorf("batch at offset %d, log end %d: %w", batch.BaseOffset(), next, ErrOffsetGap)
		case batch.LeaderEpoch() < max(epoch, 0):
			return fmt.Errorf("batch of epoch %d after %d: %w", batch.LeaderEpoch(), epoch, ErrStaleEpoch)
		}
		next, epoch = batch.NextOffset(), batch.LeaderEpoch()
		b = b[len(batch):]
	}
	return nil
}

// fittingRun is the longest run of whole batches of b that fits a segment, at least one batch.
func (l *Log) fittingRun(b []byte) (n int, next int64, err error) {
	var first int64
	room := l.config().SegmentBytes
	if s := l.activeLocked(); s != nil && s.meta.size < room {
		room -= s.meta.size
	}
	for n < len(b) {
		batch, err := record.Parse(b[n:])
		if err != nil {
			return 0, 0, fmt.Errorf("append: %w", err)
		}
		if n > 0 && (int64(n+len(batch)) > room || batch.NextOffset()-first > math.MaxInt32) {
			break
		}
		if n == 0 {
			first = batch.BaseOffset()
		}
		n, next = n+len(batch), batch.NextOffset()
	}
	return n, next, nil
}

// appendLocked writes b, whole batches up to next with their final offsets, rolling before if
// it does not fit. On an error the log is as before.
func (l *Log) appendLocked(b []byte, next, nowMS int64) error {
	s, err := l.segmentForLocked(int64(len(b)), next, nowMS)
	if err != nil {
		return err
	}
	if err := l.writeLocked(s, b); err != nil {
		return err
	}
	l.env.step("append.written")
	if s.meta.size == 0 {
		s.meta.createdMS = nowMS
	}
	l.takeLocked(s, b, nowMS)
	l.leo.Store(next)

	cfg := l.config()
	if cfg.WriteCaching && s.meta.size-s.synced < lazyFlushBytes {
		l.env.queue.pushLazy(l, l.env.cfg.Now())
		return nil
	}
	l.env.queue.push(l)
	return nil
}

// writeLocked is the one write of an append. A partial write for want of space is harmless: the
// positions stay, and the next append overwrites it.
func (l *Log) writeLocked(s *segment, b []byte) error {
	f, err := s.pinToWrite()
	if err != nil {
		return err
	}
	defer s.unpin()
	if err := s.allocate(f, s.meta.size+int64(len(b)), l.config().SegmentBytes); err != nil {
		return l.env.writeError(err)
	}
	at := l.env.watch.begin()
	_, err = f.WriteAt(b, s.meta.size)
	l.env.watch.end(at)
	if err != nil {
		return l.env.writeError(fmt.Errorf("append to segment %d at %d: %w", s.base, s.meta.size, err))
	}
	// A watchdog that gave up on this write has already told that nothing more is acknowledged.
	return l.env.Failed()
}

// takeLocked makes written batches part of index, epochs and producer state.
func (l *Log) takeLocked(s *segment, b []byte, nowMS int64) {
	interval := int64(l.config().IndexInterval)
	for len(b) > 0 {
		size, _ := record.PeekSize(b) // parsed before the write
		batch := record.Batch(b[:size])
		s.addBatch(headOf(batch, s.meta.size), interval)
		if e := batch.LeaderEpoch(); e > l.mu.epochs.last() {
			l.mu.epochs = l.mu.epochs.with(e, batch.BaseOffset())
		}
		if batch.ProducerID() >= 0 {
			l.takeProducerLocked(s, batch, nowMS)
			l.mu.producers.bound(l.config().MaxProducers)
		}
		b = b[size:]
	}
	s.grow.zero = max(s.grow.zero, s.meta.size)
}

func headOf(b record.Batch, pos int64) batchHead {
	return batchHead{
		pos: pos, size: len(b), base: b.BaseOffset(), next: b.NextOffset(), epoch: b.LeaderEpoch(),
		crc: b.CRC(), baseTime: baseTime(b), maxTime: b.MaxTimestamp(),
	}
}
