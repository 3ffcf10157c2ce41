package commitlog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// Compaction keeps the newest record of each key and drops what it supersedes (design 5). It works
// on the sealed segments of a log that lie below a bound, while appends and reads go on:
//
//	map     the newest offset of each key is gathered from the segments not compacted before
//	sweep   every segment from the start of the log on is rewritten without what the map supersedes,
//	        small neighbours into one file, and swapped in (compactswap.go), oldest first
//
// If the keys do not fit the map, the two are repeated from where the map ended. Offsets never
// change and ranges stay gapless: where batches went, the batch before them takes up their offsets if
// it has no producer, else an empty batch of their epoch stands for them. So every reader, recovery
// and follower sees one batch begin where the last one ended, and damage still shows as a hole.

// cleanMark says that a segment was compacted against all of the log up to its end.
type cleanMark struct {
	// horizon is the earliest delete horizon in it, ms since 1970: from then on another run would
	// remove a tombstone or a transaction marker. 0 for none.
	horizon int64
}

// mark is the cleanMark that an index footer holds, nil for none.
func (f *indexFooter) mark() *cleanMark {
	if f.flags&flagCleaned == 0 {
		return nil
	}
	return &cleanMark{f.horizon}
}

// note writes the mark into a checkpoint.
func (m *cleanMark) note(cs *CheckpointSegment) {
	if m != nil {
		cs.Cleaned, cs.Horizon = true, m.horizon
	}
}

// Dirt tells how much of a log waits for compaction.
type Dirt struct {
	CleanBytes int64
	DirtyBytes int64 // of segments that may be compacted and were not since they were written
	// OldestMS is the smallest base timestamp of the segments in DirtyBytes, -1 if there is none.
	OldestMS int64
	// HorizonMS is the earliest delete horizon in CleanBytes, 0 if there is none.
	HorizonMS int64
}

// Ratio is the share of the log that is dirty, 0 to 1.
func (d Dirt) Ratio() float64 {
	if d.DirtyBytes == 0 {
		return 0
	}
	return float64(d.DirtyBytes) / float64(d.CleanBytes+d.DirtyBytes)
}

// Dirt looks at the segments that Compact with the same bounds would take. It reads no file.
func (l *Log) Dirt(until int64, minLag time.Duration, now time.Time) Dirt {
	d := Dirt{OldestMS: -1}
	dirty := false
	for _, s := range l.cleanable(until, minLag, now) {
		m := s.cleaned.Load()
		dirty = dirty || m == nil
		if !dirty {
			d.CleanBytes += s.meta.size
			if m.horizon > 0 && (d.HorizonMS == 0 || m.horizon < d.HorizonMS) {
				d.HorizonMS = m.horizon
			}
			continue
		}
		d.DirtyBytes += s.meta.size
		if t := s.meta.baseTime; t >= 0 && (d.OldestMS < 0 || t < d.OldestMS) {
			d.OldestMS = t
		}
	}
	return d
}

// cleanable lists the segments from the start of the log that may be compacted: sealed, with a
// durable index file, wholly below until, and, as far as they were not compacted before, with no
// record younger than minLag.
func (l *Log) cleanable(until int64, minLag time.Duration, now time.Time) []*segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.list()
	n := 0
	for ; n < len(list); n++ {
		s := list[n]
		if !s.sealed.Load() || !s.persisted || s.sealing != nil || s.meta.next > until {
			break
		}
		if minLag > 0 && s.cleaned.Load() == nil && s.meta.maxTime > now.Add(-minLag).UnixMilli() {
			break
		}
	}
	return list[:n:n]
}

// IndexSealed writes the index files that are due, which the janitor does too in its own time: only
// segments that have one are compacted.
func (l *Log) IndexSealed() error { return l.sealDue() }

// CompactOptions bound one run of Compact.
type CompactOptions struct {
	Until           int64         // min(HW, LSO): only segments wholly below are touched
	MinLag          time.Duration // min.compaction.lag.ms
	DeleteRetention time.Duration // delete.retention.ms
	MapBytes        int64         // log.cleaner.dedupe.buffer.size, the memory of the offset map
	// Throttle is told of bytes read and written, and waits as long as it likes. May be nil.
	Throttle func(ctx context.Context, bytes int) error
}

// CompactStats is what a run of Compact did.
type CompactStats struct {
	Passes      int // of map and sweep
	ReadBytes   int64
	BytesBefore int64 // of the segments that were swapped out
	BytesAfter  int64 // of those swapped in
	Swapped     int   // segments that were swapped out
	Dropped     int64 // records
	Keys        int64 // that the maps held
}

// ErrCompacting says that another run is under way.
var ErrCompacting = errors.New("log is being compacted")

// errMoved ends a run because truncation or retention took segments away meanwhile.
var errMoved = errors.New("the segments changed")

// Compact compacts the log once, as far as the options allow. What it has swapped in when it fails or
// is cancelled stays; a later run goes on from there. That segments vanish meanwhile is not an error.
//
// Errors: ErrFull (nothing is lost, a later run may succeed), ErrFailed, ErrClosed, ErrCompacting,
// *DamagedError and record.ErrTooLarge, after which a later run would fail too, and those of ctx
// and Throttle.
func (l *Log) Compact(ctx context.Context, o CompactOptions) (CompactStats, error) {
	if !l.compacting.CompareAndSwap(false, true) {
		return CompactStats{}, ErrCompacting
	}
	defer l.compacting.Store(false)
	c := &cleaner{log: l, o: o, now: l.env.cfg.Now(), charge: o.Throttle}
	if c.charge == nil {
		c.charge = func(ctx context.Context, _ int) error { return ctx.Err() }
	}
	err := c.run(ctx)
	c.keys.release()
	if errors.Is(err, errMoved) || errors.Is(err, errRetired) {
		return c.stats, l.awaitChange() // nil, unless the log is gone or has failed
	}
	if err != nil {
		return c.stats, fmt.Errorf("compact %s: %w", l.dir, err)
	}
	return c.stats, nil
}

// run repeats map and sweep until the map has seen everything that may be compacted.
func (c *cleaner) run(ctx context.Context) error {
	segs := c.log.cleanable(c.o.Until, c.o.MinLag, c.now)
	if len(segs) == 0 {
		return nil
	}
	end := segs[len(segs)-1].meta.next
	from := end
	for _, s := range segs {
		if s.cleaned.Load() == nil {
			from = s.base
			break
		}
	}
	for {
		if err := c.prepare(segs[0].base, end); err != nil {
			return err
		}
		upTo, err := c.gather(ctx, segs, from)
		if err != nil {
			return err
		}
		if err := c.sweep(ctx, segs, upTo); err != nil {
			return err
		}
		c.stats.Passes++
		c.stats.Keys += int64(c.keys.used)
		if upTo >= end {
			return nil
		}
		from = upTo
		if segs = c.log.cleanable(end, c.o.MinLag, c.now); len(segs) == 0 || segs[len(segs)-1].meta.next != end {
			return errMoved
		}
	}
}

// gather fills the map from the records at from and above, and answers the offset below which it
// knows every key: the end of segs, unless it is full before.
func (c *cleaner) gather(ctx context.Context, segs []*segment, from int64) (upTo int64, err error) {
	end := segs[len(segs)-1].meta.next
	c.keys = newKeyMap(c.keys, c.o.MapBytes, end-from, from)
	for _, s := range segs {
		if s.meta.next <= from {
			continue
		}
		full := int64(-1)
		err := c.each(ctx, s, func(b batchAt) (more bool, err error) {
			if b.batch.Attributes().Control() || b.batch.NextOffset() <= from || c.txns.isAborted(b.batch) {
				return true, nil
			}
			full, err = c.gatherBatch(b, from)
			return full < 0, err
		})
		if err != nil || full >= 0 {
			return full, err
		}
	}
	return end, nil
}

// gatherBatch answers the offset of the first record that the map has no room for, -1 if it took all.
func (c *cleaner) gatherBatch(b batchAt, from int64) (full int64, err error) {
	if err := c.cur.Reset(b.batch, recordLimit); err != nil {
		return 0, b.damage(err)
	}
	c.look.begin(&c.cur)
	for {
		more, err := c.cur.Next()
		if err != nil {
			return 0, b.damage(err)
		}
		if !more {
			return -1, nil
		}
		key := c.look.next(c.keys)
		if c.cur.Offset >= from && c.cur.Key != nil && !c.keys.put(key, c.cur.Offset) {
			return c.cur.Offset, nil
		}
	}
}

// noHorizon is the horizon of a segment in which nothing waits to be deleted.
const noHorizon = math.MaxInt64
