package partition

import (
	"context"
	"errors"
	"fmt"

	"varve/tiering"
)

// Special timestamps of ListOffsets (KIP-734, 405, 1005, 1023).
const (
	Latest                = -1
	Earliest              = -2
	MaxTimestamp          = -3
	EarliestLocal         = -4
	LatestTiered          = -5
	EarliestPendingUpload = -6
)

// Found is an answer of ListOffset. Offset and Timestamp are -1 where there is none.
type Found struct {
	Offset, Timestamp int64
	Epoch             int32
}

// ListOffset finds an offset by timestamp (milliseconds) or by a special one, exactly over both
// tiers. committed bounds it by LSO instead of HW.
func (r *Replica) ListOffset(ctx context.Context, ts int64, committed bool) (Found, error) {
	l, err := r.Log()
	if err != nil {
		return Found{}, err
	}
	b := r.Bounds()
	end := b.HW
	if committed {
		end = b.LSO
	}
	none := Found{Offset: -1, Timestamp: -1, Epoch: -1}
	at := func(off int64) (Found, error) { return Found{off, -1, r.epochAt(ctx, off)}, nil }
	tiered := r.tierEnd.Load()
	switch ts {
	case Latest:
		return Found{end, -1, r.epoch.Load()}, nil
	case Earliest:
		return at(b.LogStart)
	case EarliestLocal:
		return at(max(b.LogStart, l.LocalStart()))
	case LatestTiered:
		if r.cold == nil || tiered <= b.LogStart {
			return none, nil
		}
		return at(tiered - 1)
	case EarliestPendingUpload:
		if r.cold == nil || !r.conf.Load().Tiered {
			return none, nil
		}
		return at(max(tiered, b.LogStart))
	case MaxTimestamp:
		return r.maxTimestamp(ctx, b.LogStart, end)
	}
	if ts < 0 {
		return none, nil
	}
	return r.byTimestamp(ctx, ts, b.LogStart, end)
}

// byTimestamp finds the first record with a timestamp of at least ts: in the tier below
// LocalStart, then in the local log.
func (r *Replica) byTimestamp(ctx context.Context, ts, start, end int64) (Found, error) {
	l, err := r.Log()
	if err != nil {
		return Found{}, err
	}
	local := max(start, l.LocalStart())
	if start < local && r.cold != nil {
		off, found, ok, err := r.cold.OffsetForTimestamp(ctx, ts)
		switch {
		case err != nil:
			return Found{}, fmt.Errorf("timestamp lookup in the tier of %s: %w: %w", r.cfg.ID, ErrStorage, err)
		case ok && off < local:
			return Found{off, found, r.epochAt(ctx, off)}, nil
		}
	}
	off, found, ok, err := l.OffsetForTimestamp(ts, local, end)
	if err != nil {
		return Found{}, fmt.Errorf("timestamp lookup in %s: %w: %w", r.cfg.ID, ErrStorage, err)
	}
	if !ok {
		return Found{-1, -1, -1}, nil
	}
	return Found{off, found, r.epochAt(ctx, off)}, nil
}

// maxTimestamp is the record with the greatest timestamp, the earliest of equals (KIP-734).
func (r *Replica) maxTimestamp(ctx context.Context, start, end int64) (Found, error) {
	l, err := r.Log()
	if err != nil {
		return Found{}, err
	}
	best := Found{-1, -1, -1}
	local := max(start, l.LocalStart())
	if start < local && r.cold != nil {
		off, ts, err := r.cold.MaxTimestamp(ctx)
		if err != nil {
			return Found{}, fmt.Errorf("maximum timestamp in the tier of %s: %w: %w", r.cfg.ID, ErrStorage, err)
		}
		if off >= start {
			best = Found{off, ts, 0}
		}
	}
	if local < end {
		off, ts, err := l.MaxTimestamp(local, end)
		if err != nil {
			return Found{}, fmt.Errorf("maximum timestamp in %s: %w: %w", r.cfg.ID, ErrStorage, err)
		}
		if off >= 0 && ts > best.Timestamp {
			best = Found{off, ts, 0}
		}
	}
	if best.Offset >= 0 {
		best.Epoch = r.epochAt(ctx, best.Offset)
	}
	return best, nil
}

// EpochEnd answers OffsetForLeaderEpoch (KIP-101, 320): the largest epoch not above the asked one
// that has records, and where it ends. (-1, -1) if none is known. The current epoch ends at LEO.
func (r *Replica) EpochEnd(ctx context.Context, epoch int32) (int32, int64, error) {
	l, err := r.Log()
	if err != nil {
		return -1, -1, err
	}
	if current := r.epoch.Load(); epoch == current && current >= 0 {
		return current, l.LEO(), nil
	}
	if epoch > r.epoch.Load() {
		return -1, -1, nil
	}
	if e, end := l.EpochEnd(epoch); e >= 0 {
		return e, end, nil
	}
	if r.cold == nil || r.tierEnd.Load() == 0 {
		return -1, -1, nil
	}
	e, end, err := r.cold.EpochEnd(ctx, epoch)
	if err != nil {
		return -1, -1, fmt.Errorf("epoch %d in the tier of %s: %w: %w", epoch, r.cfg.ID, ErrStorage, err)
	}
	return e, end, nil
}

// epochAt is the leader epoch of the batch at an offset; -1 where it is not known, which every
// client takes as "not told".
func (r *Replica) epochAt(ctx context.Context, offset int64) int32 {
	l := r.log.Load()
	if l == nil {
		return -1
	}
	if e := epochOf(l.Epochs(), offset); e >= 0 {
		return e
	}
	if r.cold == nil || offset >= r.tierEnd.Load() {
		return -1
	}
	epochs, err := r.cold.Epochs(ctx)
	if err != nil {
		return -1
	}
	e := int32(-1)
	for _, x := range epochs {
		if x.Start <= offset {
			e = x.Epoch
		}
	}
	return e
}

// IsRetriableCold tells whether a cold read may succeed when asked again without anybody's help.
func IsRetriableCold(err error) bool {
	var corrupt *tiering.CorruptError
	return !errors.Is(err, tiering.ErrMissing) && !errors.As(err, &corrupt)
}

// LocalBytes is what the local log takes, 0 if it cannot be opened.
func (r *Replica) LocalBytes() int64 {
	l, err := r.Log()
	if err != nil {
		return 0
	}
	return l.SizeBytes()
}

// TieredBytes is what the committed manifest covers, as stored in the bucket.
func (r *Replica) TieredBytes() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.assigned.Tier.Bytes
}
