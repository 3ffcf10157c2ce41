package partition

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"varve/broker/commitlog"
	"varve/tiering"
)

// due tells cheaply whether the workers should look at this replica; it opens nothing.
func (r *Replica) due(now time.Time, every time.Duration) bool {
	conf := r.conf.Load()
	if conf == nil || !r.IsLeader() {
		return false
	}
	r.work.mu.Lock()
	wait, last := now.Before(r.work.notBefore), r.work.retention
	r.work.mu.Unlock()
	if wait {
		return false
	}
	if now.Sub(last) >= every {
		return true
	}
	l := r.log.Load()
	if l == nil {
		return false
	}
	sealed := l.SealedEnd()
	if conf.Tiered && r.cold != nil && !conf.CopyDisabled && sealed > max(r.tierEnd.Load(), r.logStart.Load()) {
		return true
	}
	return sealed > l.LocalStart() && r.overBytes(l, conf)
}

// overBytes tells whether retention by size has something to drop, but for whole segments.
func (r *Replica) overBytes(l *commitlog.Log, conf *TopicConfig) bool {
	limit := conf.RetentionBytes
	if conf.Tiered {
		limit = conf.LocalBytes
	}
	return limit >= 0 && l.SizeBytes() >= limit+conf.Log.SegmentBytes
}

// doWork does what there is to do for a partition that this broker leads: roll what is old, retire
// what retention ends, upload what is sealed, and drop local bytes that the tier holds.
func (r *Replica) doWork(ctx context.Context, clock *clockGuard, every time.Duration) error {
	if !r.IsLeader() {
		return nil
	}
	l, err := r.logForWork(ctx)
	if err != nil {
		return err
	}
	now := r.cfg.Now()
	if err := r.rollOld(l, now); err != nil {
		return err
	}
	if err := r.retire(ctx, l, clock, now, every); err != nil {
		return err
	}
	if err := r.describe(ctx); err != nil {
		return err
	}
	for {
		more, err := r.uploadNext(ctx, l, now)
		if err != nil {
			return err
		}
		if err := r.dropLocal(l, clock, now); err != nil {
			return err
		}
		if !more {
			return nil
		}
	}
}

// rollOld seals an active segment that is older than segment.ms or, in a tiered topic, than
// varve.tier.max.delay.ms, which bounds the data at risk on local disks (design 8.3).
func (r *Replica) rollOld(l *commitlog.Log, now time.Time) error {
	if _, err := l.MaybeRollByAge(now); err != nil {
		return fmt.Errorf("roll %s: %w", r.cfg.ID, err)
	}
	conf := r.conf.Load()
	if !r.uploads(conf) || conf.TierMaxDelay <= 0 {
		return nil
	}
	first, ok := l.ActiveSince()
	if !ok || now.Sub(first).Abs() < conf.TierMaxDelay { // also what was begun by a clock that was far ahead
		return nil
	}
	if err := l.Roll("tier delay"); err != nil {
		return fmt.Errorf("roll %s: %w", r.cfg.ID, err)
	}
	return nil
}

func (r *Replica) uploads(conf *TopicConfig) bool {
	return r.cold != nil && conf.Tiered && !conf.CopyDisabled
}

// Blocked explains why nothing is uploaded at the moment; "" if there is something to do or done.
func (r *Replica) Blocked() string {
	conf := r.conf.Load()
	l := r.log.Load()
	switch {
	case conf == nil || !r.IsLeader():
		return "this broker does not lead the partition"
	case r.cold == nil:
		return "no object store is configured (--store)"
	case !conf.Tiered:
		return "remote.storage.enable is false"
	case conf.CopyDisabled:
		return "remote.log.copy.disable is true"
	case l == nil:
		return "the log is not open: nothing was appended since the start"
	case l.SealedEnd() <= max(r.tierEnd.Load(), r.logStart.Load()):
		return "no sealed segment: the active one rolls at segment.bytes, segment.ms or varve.tier.max.delay.ms"
	case r.Bounds().LSO < l.SealedEnd() && r.nextSealed(l) > r.Bounds().LSO:
		return fmt.Sprintf("the next segment ends at %d, above the last stable offset %d", r.nextSealed(l), r.Bounds().LSO)
	}
	return ""
}

// nextSealed is the end of the sealed segment that is uploaded next.
func (r *Replica) nextSealed(l *commitlog.Log) int64 {
	from := max(r.tierEnd.Load(), r.logStart.Load())
	for _, s := range l.Segments() {
		if s.Sealed && s.Next > from {
			return s.Next
		}
	}
	return -1
}

// uploadNext uploads the sealed segment that holds the tier border, if it lies wholly below LSO,
// and commits it. more is true if another may follow.
func (r *Replica) uploadNext(ctx context.Context, l *commitlog.Log, now time.Time) (more bool, err error) {
	conf := r.conf.Load()
	epoch := r.epoch.Load()
	from := max(r.tierEnd.Load(), r.logStart.Load())
	if !r.uploads(conf) || epoch < 0 || l.SealedEnd() <= from {
		return false, nil
	}
	if from < l.LocalStart() {
		return false, fmt.Errorf("upload %s: local log starts at %d, above the tier border %d: %w",
			r.cfg.ID, l.LocalStart(), from, ErrStorage)
	}
	src, err := l.SealedReader(from)
	if err != nil {
		return false, r.uploadFailed(err)
	}
	defer src.Close()
	info := src.Info()
	if info.Next > r.Bounds().LSO || tooFresh(l, info, conf, now) {
		return false, nil
	}
	r.work.doing("upload", now)
	rng, err := r.tierRange(src, from, epoch, conf)
	if err != nil {
		return false, r.uploadFailed(err)
	}
	commit, err := r.cold.Upload(ctx, rng, &batchSource{src: src})
	if err != nil {
		return false, r.uploadFailed(err)
	}
	if err := r.cfg.Propose(ctx, r.cfg.ID, Change{LeaderEpoch: epoch, Tier: &commit}); err != nil {
		// Refused or unknown: the object is an orphan unless the commit shows up in a later Apply.
		// The next try starts from whatever pointer raft then has.
		return false, fmt.Errorf("commit tier of %s: %w", r.cfg.ID, err)
	}
	r.work.mu.Lock()
	r.work.status.UploadAt = r.cfg.Now()
	r.work.mu.Unlock()
	return r.tierEnd.Load() > from, nil
}

// tooFresh holds an upload back by remote.copy.lag.ms and remote.copy.lag.bytes: a segment goes when
// either is reached (KIP-1241).
func tooFresh(l *commitlog.Log, info commitlog.SegmentInfo, conf *TopicConfig, now time.Time) bool {
	if conf.CopyLagAge <= 0 || now.Sub(time.UnixMilli(info.MaxTime)).Abs() >= conf.CopyLagAge { // or far in the future
		return false
	}
	if conf.CopyLagBytes <= 0 {
		return true
	}
	behind := int64(0)
	for _, s := range l.Segments() {
		if s.Base >= info.Next {
			behind += s.Bytes
		}
	}
	return behind < conf.CopyLagBytes
}

func (r *Replica) uploadFailed(err error) error {
	var damaged *commitlog.DamagedError
	if errors.As(err, &damaged) {
		r.cfg.Log.Error("a sealed segment is damaged and is not uploaded", "partition", r.cfg.ID.String(), "err", err)
		return fmt.Errorf("upload %s: %w: %w", r.cfg.ID, ErrStorage, err)
	}
	return fmt.Errorf("upload %s: %w", r.cfg.ID, err)
}

func (r *Replica) tierRange(src *commitlog.SegmentReader, from int64, epoch int32, conf *TopicConfig) (tiering.Range, error) {
	rng := tiering.Range{
		First: from, Next: src.Info().Next, LeaderEpoch: epoch, LogStart: r.logStart.Load(),
		TopicConfig: conf.Values, NoCompression: conf.TierNoCompression,
	}
	var err error
	if rng.Producers, err = src.Producers(); err != nil {
		return rng, err
	}
	aborted, err := src.Aborted()
	if err != nil {
		return rng, err
	}
	for _, e := range src.Epochs() {
		rng.Epochs = append(rng.Epochs, tiering.Epoch{Epoch: e.Epoch, Start: e.Start})
	}
	for _, t := range aborted {
		rng.Aborted = append(rng.Aborted, tiering.Aborted{ProducerID: t.ProducerID, First: t.First, Last: t.Last})
	}
	return rng, nil
}

// batchSource hands verified batches of a sealed segment to the tier as plain values.
type batchSource struct{ src *commitlog.SegmentReader }

// Next implements tiering.BatchReader.
func (b *batchSource) Next() (tiering.Batch, error) {
	batch, _, err := b.src.Next()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return tiering.Batch{}, io.EOF
		}
		return tiering.Batch{}, err
	}
	return tiering.Batch{
		Bytes: batch, First: batch.BaseOffset(), Last: batch.LastOffset(),
		BaseTimestamp: batch.BaseTimestamp(), MaxTimestamp: batch.MaxTimestamp(),
		MaxTimestampOffset: batch.LastOffset(), Records: batch.Count(),
		Compressed: batch.Attributes().Codec() != 0, Epoch: batch.LeaderEpoch(),
	}, nil
}

// dropLocal removes local segments below LogStart and, in a tiered topic, those that local
// retention ends and the committed tier holds. The raft commands that allow it are applied.
func (r *Replica) dropLocal(l *commitlog.Log, clock *clockGuard, now time.Time) error {
	floor := r.logStart.Load()
	conf := r.conf.Load()
	if r.uploads(conf) { // while copying is disabled the local floor is held
		floor = max(floor, min(r.localFloor(l, conf, clock, now), r.tierEnd.Load()))
	}
	floor = max(floor, min(r.damagedTo.Load(), r.tierEnd.Load())) // the cold copy is the only good one
	if floor <= l.LocalStart() {
		return nil
	}
	if _, _, err := l.DropBefore(floor); err != nil {
		return fmt.Errorf("drop local segments of %s below %d: %w", r.cfg.ID, floor, err)
	}
	return nil
}

// localFloor is the offset below which local.retention.* ends sealed segments, by Kafka's rules: a
// segment goes by size only if what stays is still at least local.retention.bytes.
func (r *Replica) localFloor(l *commitlog.Log, conf *TopicConfig, clock *clockGuard, now time.Time) int64 {
	age := conf.LocalAge
	if !clock.trusted() {
		age = -1
	}
	return retireFloor(l.Segments(), conf.LocalBytes, age, now)
}

// retireFloor is the end of the last sealed segment that a limit by size or age ends, or -1. A
// negative limit is none.
func retireFloor(segments []commitlog.SegmentInfo, limit int64, age time.Duration, now time.Time) int64 {
	total := int64(0)
	for _, s := range segments {
		total += s.Bytes
	}
	floor := int64(-1)
	for _, s := range segments {
		bySize := limit >= 0 && total-s.Bytes >= limit
		byAge := age >= 0 && s.MaxTime >= 0 && now.Sub(time.UnixMilli(s.MaxTime)) > age
		if !s.Sealed || !bySize && !byAge {
			break
		}
		floor = s.Next
		total -= s.Bytes
	}
	return floor
}
