package partition

import (
	"context"
	"fmt"
	"time"

	"varve/broker/commitlog"
	"varve/tiering"
)

// retire moves LogStart by retention.ms and retention.bytes: first in raft, then on disk. In a
// tiered topic the manifest is cut first; what is expired and was never uploaded is dropped
// without uploading.
func (r *Replica) retire(ctx context.Context, l *commitlog.Log, clock *clockGuard, now time.Time, every time.Duration) error {
	conf := r.conf.Load()
	r.work.mu.Lock()
	timed := now.Sub(r.work.retention) >= every
	if timed {
		r.work.retention = now
	}
	r.work.mu.Unlock()
	if !timed && (conf.Tiered || !r.overBytes(l, conf)) {
		return r.dropLocal(l, clock, now)
	}
	age := conf.RetentionAge
	if !clock.trusted() {
		age = -1
	}
	live := r.cold != nil && r.tierEnd.Load() > r.logStart.Load()
	if live {
		if err := r.retireCold(ctx, l, conf, age, now); err != nil {
			return err
		}
	}
	if r.cold == nil || r.tierEnd.Load() <= r.logStart.Load() { // nothing cold is left below
		if err := r.retireLocal(ctx, l, conf, age, now); err != nil {
			return err
		}
	}
	if timed {
		if !live && r.cold != nil && r.cold.Pointer().Name != "" { // all of it lies below LogStart: its objects go
			if err := r.retireCold(ctx, l, conf, age, now); err != nil {
				return err
			}
		}
		if err := r.collect(ctx); err != nil {
			return err
		}
	}
	return r.dropLocal(l, clock, now)
}

// collect deletes the objects that committed manifests dropped, after the reader grace.
func (r *Replica) collect(ctx context.Context) error {
	if r.cold == nil || r.tierEnd.Load() == 0 || r.cfg.AppliedByAll == nil {
		return nil
	}
	r.mu.Lock()
	index := r.mu.assigned.TierIndex
	r.mu.Unlock()
	_, err := r.cold.Collect(ctx, tiering.CollectInput{AppliedByAll: r.cfg.AppliedByAll(), PointerIndex: index})
	return err
}

// describe keeps topic.json true: the leader of partition 0 writes it before the first upload and
// after each change of the topic.
func (r *Replica) describe(ctx context.Context) error {
	conf := r.conf.Load()
	if r.cfg.ID.Partition != 0 || !r.uploads(conf) || r.described.Load() == conf {
		return nil
	}
	r.mu.Lock()
	partitions := r.mu.assigned.Partitions
	r.mu.Unlock()
	err := r.cfg.Tier.WriteTopicDescriptor(ctx, tiering.TopicDescriptor{
		Topic: r.cfg.ID.Topic, TopicID: r.cfg.ID.TopicIDText, Partitions: partitions, Config: conf.Values,
	})
	if err != nil {
		return fmt.Errorf("describe topic %s: %w", r.cfg.ID.Topic, err)
	}
	r.described.Store(conf)
	return nil
}

// retireLocal proposes a new LogStart for what lies on local disk alone. By size what stays is at
// least retention.bytes by construction; by age at most half of the bytes go in one run, so that a
// wrong clock cannot take everything at once.
func (r *Replica) retireLocal(ctx context.Context, l *commitlog.Log, conf *TopicConfig, age time.Duration, now time.Time) error {
	segments := l.Segments()
	floor := max(retireFloor(segments, conf.RetentionBytes, -1, now),
		halfAtMost(segments, retireFloor(segments, -1, age, now)))
	if floor <= r.logStart.Load() || floor > r.hw.Load() {
		return nil
	}
	if err := r.cfg.Propose(ctx, r.cfg.ID, Change{LeaderEpoch: r.epoch.Load(), LogStart: &floor}); err != nil {
		return fmt.Errorf("set log start of %s to %d: %w", r.cfg.ID, floor, err)
	}
	return nil
}

// halfAtMost lowers floor so that at most half of the bytes go, but at least one segment.
func halfAtMost(segments []commitlog.SegmentInfo, floor int64) int64 {
	total := int64(0)
	for _, s := range segments {
		total += s.Bytes
	}
	gone := int64(0)
	for i, s := range segments {
		gone += s.Bytes
		if s.Next > floor {
			return floor
		}
		if gone > total/2 {
			if i == 0 {
				return s.Next
			}
			return segments[i-1].Next
		}
	}
	return floor
}

func (r *Replica) retireCold(ctx context.Context, l *commitlog.Log, conf *TopicConfig, age time.Duration, now time.Time) error {
	r.work.doing("retention", now)
	hot := int64(0) // bytes that are not in the tier count towards retention.bytes
	for _, s := range l.Segments() {
		if s.Base >= r.tierEnd.Load() {
			hot += s.Bytes
		}
	}
	epoch := r.epoch.Load()
	commit, any, err := r.cold.Retain(ctx, tiering.Policy{
		LeaderEpoch: epoch, LogStart: r.logStart.Load(), Age: age, Bytes: conf.RetentionBytes, HotBytes: hot,
		TopicConfig: conf.Values,
	})
	if err != nil || !any {
		return err
	}
	if err := r.cfg.Propose(ctx, r.cfg.ID, Change{LeaderEpoch: epoch, Tier: &commit}); err != nil {
		return fmt.Errorf("commit retention of %s: %w", r.cfg.ID, err)
	}
	return nil
}

// DeleteRecords moves LogStart to offset (-1: to HW) and returns it once that is applied.
func (r *Replica) DeleteRecords(ctx context.Context, offset int64) (int64, error) {
	if _, err := r.Log(); err != nil {
		return -1, err
	}
	epoch := r.epoch.Load()
	if epoch < 0 {
		return -1, ErrNotLeader
	}
	hw := r.hw.Load()
	if offset == -1 {
		offset = hw
	}
	start := r.logStart.Load()
	switch {
	case offset < 0 || offset > hw:
		return -1, ErrOffsetOutOfRange
	case offset <= start:
		return start, nil
	}
	if err := r.cfg.Propose(ctx, r.cfg.ID, Change{LeaderEpoch: epoch, LogStart: &offset}); err != nil {
		return -1, fmt.Errorf("delete records of %s before %d: %w", r.cfg.ID, offset, err)
	}
	if r.kick != nil {
		r.kick()
	}
	return max(offset, r.logStart.Load()), nil
}
