package tiering

import (
	"context"
	"fmt"
	"time"

	"varve/tiering/object"
)

// Policy is what Retain decides by, all of it values of one moment: read after
// this replica has applied the command that made it leader.
type Policy struct {
	LeaderEpoch int32
	LogStart    int64         // raft's; what lies below goes whatever the rest says
	Age         time.Duration // retention.ms; negative: without limit
	Bytes       int64         // retention.bytes; negative: without limit
	// HotBytes are the bytes that only the local log has, from TieredEnd on. They
	// count against Bytes and stay where they are.
	HotBytes    int64
	TopicConfig map[string]string // nil keeps what the manifest has
	// ClockCheck may refuse the present time (it differs from the controller's);
	// nil allows it.
	ClockCheck func() error
}

// Retain drops what the policy does not keep from the manifest. It returns the
// commit to propose, or false if there is nothing to drop. Objects stay in the
// store until Collect; readers that hold them are safe.
//
// One run removes at most half of the partition's bytes by age or size, and so do
// all runs within an hour together, unless two runs an hour apart agree: a wrong
// clock or a wrong number must not empty a topic before somebody can look.
func (p *Partition) Retain(ctx context.Context, pol Policy) (Commit, bool, error) {
	ptr := p.Pointer()
	if ptr.Name == "" {
		return Commit{}, false, nil
	}
	c, ok, err := p.retain(ctx, ptr, &pol)
	if err != nil {
		return Commit{}, false, fmt.Errorf("retention of %s: %w", p.id, err)
	}
	return c, ok, nil
}

func (p *Partition) retain(ctx context.Context, ptr Pointer, pol *Policy) (Commit, bool, error) {
	v, err := p.current(ctx)
	if err != nil {
		return Commit{}, false, err
	}
	if v.m.Name != ptr.Name {
		return Commit{}, false, ErrStale
	}
	start := max(pol.LogStart, ptr.LogStart, v.m.LogStart)
	cut, clockErr := p.expired(ctx, v, start, pol)
	if cut.start <= v.m.LogStart || !cut.dropsAny {
		return Commit{}, false, clockErr
	}
	if p.room(v.m) == 0 { // no error: Collect must have its turn
		p.t.cfg.Log.Warn("retention waits: as many dropped objects as may wait for their deletion do",
			"partition", p.id.String(), "waiting", len(v.m.Deleted), "log_start", v.m.LogStart, "wanted", cut.start)
		return Commit{}, false, clockErr
	}
	ctx, cancel := context.WithCancel(p.label(ctx, object.PurposeManifest))
	defer cancel()
	defer context.AfterFunc(p.t.ctx, cancel)()
	c, err := p.writeNext(ctx, "retain", v, ptr, step{
		leaderEpoch: pol.LeaderEpoch, config: pol.TopicConfig, logStart: cut.start,
	})
	return c, err == nil, err
}

// cut is where retention puts the log start.
type cut struct {
	start    int64
	dropsAny bool // at least one entry lies below
}

// expired walks the entries from the oldest on. Those below start go; after them
// age and size decide, as Kafka's retention does: the oldest first, and nothing
// behind one that stays. The error is only about the clock.
func (p *Partition) expired(ctx context.Context, v *view, start int64, pol *Policy) (cut, error) {
	now := p.t.cfg.Now()
	maxAge := pol.Age
	var clockErr error
	if maxAge >= 0 {
		if clockErr = p.t.clockError(now, pol.ClockCheck); clockErr != nil {
			maxAge = -1
		}
	}
	total := v.m.RawBytes + pol.HotBytes
	out := cut{start: start}
	var byPolicy []candidate
	live := total
	err := p.eachEntry(ctx, v, func(e *Entry) bool {
		if e.Last < v.m.LogStart {
			return true // dropped before; its page still lists it
		}
		if e.Last < start {
			out.dropsAny = true
			live -= e.RawBytes
			return true
		}
		old := maxAge >= 0 && now.Sub(e.age()) > maxAge
		big := pol.Bytes >= 0 && live-e.RawBytes >= pol.Bytes
		if !old && !big {
			return false
		}
		live -= e.RawBytes
		byPolicy = append(byPolicy, candidate{e.Last + 1, e.RawBytes})
		return true
	})
	if err != nil {
		return cut{start: v.m.LogStart}, err
	}
	if allowed := p.brake.allow(now, start, total, byPolicy); allowed > start {
		out.start, out.dropsAny = allowed, true
	} else if len(byPolicy) > 0 {
		p.t.cfg.Log.Warn("retention would remove more than half of a partition at once; it waits for a second run an hour later",
			"partition", p.id.String(), "bytes", total, "up_to", byPolicy[len(byPolicy)-1].next)
	}
	return out, clockErr
}

// age is the time that retention.ms counts from: the largest timestamp, or when
// the object was made if its records have none.
func (e *Entry) age() time.Time {
	if e.MaxTimestamp < 0 {
		return time.UnixMilli(e.CreatedMS)
	}
	return time.UnixMilli(e.MaxTimestamp)
}

// eachEntry calls fn with every entry from the oldest on until it returns false.
func (p *Partition) eachEntry(ctx context.Context, v *view, fn func(*Entry) bool) error {
	walk := func(entries []Entry) bool {
		for i := range entries {
			if !fn(&entries[i]) {
				return false
			}
		}
		return true
	}
	for i := range v.m.Pages {
		entries, err := p.pageEntries(ctx, &v.m.Pages[i])
		if err != nil {
			return err
		}
		if !walk(entries) {
			return nil
		}
	}
	walk(v.m.Entries)
	return nil
}

// clockError reports a clock that jumped since the start, by comparing what the
// wall and the monotonic clock say has passed.
func (t *Tier) clockError(now time.Time, check func() error) error {
	drift := now.Round(0).Sub(t.started.Round(0)) - t.uptime(now)
	if drift.Abs() > maxClockDrift {
		return fmt.Errorf("%w: wall and monotonic clock differ by %s", ErrClock, drift)
	}
	if check != nil {
		if err := check(); err != nil {
			return fmt.Errorf("%w: %w", ErrClock, err)
		}
	}
	return nil
}

// candidate is an entry that age or size would drop: the log start after it, and
// its bytes.
type candidate struct {
	next  int64
	bytes int64
}

// brake limits what retention removes. It is the state of one leader; a new one
// starts with a new hour.
//
//	removed within brakeWindow of since <= half of base, unless the runs agree
type brake struct {
	since   time.Time // of the first run that was held back; zero: none
	last    time.Time // of the latest one that was
	wanted  int64     // log start that every held-back run since then asked for
	base    int64     // bytes of the partition at since
	removed int64     // bytes removed since then
}

// allow returns the highest log start that may be set now: start, or the end of a
// candidate.
func (b *brake) allow(now time.Time, start, total int64, candidates []candidate) int64 {
	if len(candidates) == 0 {
		*b = brake{}
		return start
	}
	want := candidates[len(candidates)-1].next
	if !b.since.IsZero() && (now.Sub(b.last) > brakeForget || now.Before(b.last)) {
		*b = brake{}
	}
	if !b.since.IsZero() && now.Sub(b.since) >= brakeWindow {
		// Two runs an hour apart: what both ask for may go.
		agreed := min(want, b.wanted)
		*b = brake{}
		if agreed > start {
			return agreed
		}
	}
	base, removed := total, int64(0)
	if !b.since.IsZero() {
		base, removed = b.base, b.removed
	}
	out := start
	for _, c := range candidates {
		if (removed+c.bytes)*2 > base {
			b.hold(now, want, base)
			break
		}
		removed += c.bytes
		out = c.next
	}
	b.removed = removed
	return out
}

func (b *brake) hold(now time.Time, want, base int64) {
	if b.since.IsZero() {
		b.since, b.base, b.wanted = now, base, want
	}
	b.last, b.wanted = now, min(b.wanted, want)
}
