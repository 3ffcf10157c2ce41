package commitlog

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"varve/broker/record"
)

// cleaner is one run of Compact.
type cleaner struct {
	log    *Log
	o      CompactOptions
	now    time.Time
	charge func(ctx context.Context, bytes int) error
	keys   *keyMap
	txns   txnTrail
	last   map[int64]lastOfProducer
	cur    record.Cursor
	look   lookAhead
	stats  CompactStats
}

// lookAhead hashes the keys of a batch some records ahead of the cursor, so that their places in the
// map are read together. With maps that no cache holds it makes a run twice as fast.
type lookAhead struct {
	ahead record.Cursor // a copy, further on; its errors are those that the cursor will meet
	keys  [256]keyHash  // half is a little slower, double no faster
	at, n int
	sum   uint32 // keeps the reads of touch from being optimized away
}

// begin starts at a cursor that was just reset.
func (l *lookAhead) begin(c *record.Cursor) { l.ahead, l.at, l.n = *c, 0, 0 }

// next is the hash of the key of the next record.
func (l *lookAhead) next(m *keyMap) keyHash {
	if l.at == l.n {
		l.at, l.n = 0, 0
		for l.n < len(l.keys) {
			if more, err := l.ahead.Next(); err != nil || !more {
				break
			}
			l.keys[l.n] = m.hash(l.ahead.Key)
			l.n++
		}
		l.sum += m.touch(l.keys[:l.n])
	}
	l.at++
	return l.keys[l.at-1]
}

// batchAt is a verified batch and where it was found.
type batchAt struct {
	batch record.Batch // a view, valid during the call
	seg   *segment
	head  batchHead
}

// damage tells of records that cannot be decoded though the checksum of their batch is right.
func (b batchAt) damage(err error) error {
	if errors.Is(err, record.ErrCorrupt) {
		return damagedf(b.seg.logName(), b.head.pos, b.head.base, "%v", err)
	}
	return err
}

// chargeBytes is how often the throttle and the context are asked.
const chargeBytes = 1 << 20

// each calls f with the batches of a sealed segment, until it answers false.
func (c *cleaner) each(ctx context.Context, s *segment, f func(batchAt) (more bool, err error)) error {
	v, err := c.log.view(s)
	if err != nil {
		return err
	}
	defer s.unpin()
	w := newScanner(v.file, 0, v.size)
	defer w.close()
	base, owed := v.base, 0
	for w.pos < v.size {
		h, err := v.step(w, base)
		if err != nil {
			return err
		}
		b, err := v.read(w, h)
		if err != nil {
			return err
		}
		more, err := f(batchAt{b, s, h})
		if err != nil {
			return err
		}
		if owed += h.size; owed >= chargeBytes || w.pos+int64(h.size) == v.size {
			c.stats.ReadBytes += int64(owed)
			if err := c.charge(ctx, owed); err != nil {
				return err
			}
			owed = 0
		}
		if !more {
			return nil
		}
		base = h.next
		w.skip(h)
	}
	if base != v.next {
		return damagedf(s.logName(), v.size, base, "segment ends before offset %d", v.next)
	}
	return nil
}

// prepare notes what the producers and transactions of [start, end) are.
func (c *cleaner) prepare(start, end int64) error {
	aborted, err := c.log.Aborted(start, end)
	if err != nil {
		return err
	}
	c.txns = newTxnTrail(aborted)
	c.last = c.log.lastOfProducers()
	return nil
}

// sweep rewrites the segments that begin below upTo. The one that holds upTo, if it is not the end
// of one, is cleaned as far as the map knows and stays dirty.
func (c *cleaner) sweep(ctx context.Context, segs []*segment, upTo int64) error {
	for len(segs) > 0 && segs[0].base < upTo {
		n, err := c.sweepGroup(ctx, segs, upTo)
		if err != nil {
			return err
		}
		segs = segs[n:]
	}
	return nil
}

// sweepGroup makes one segment of the first ones of segs: of one, and of the next ones too as long as
// what is left of those before and all of them fits segment.bytes.
func (c *cleaner) sweepGroup(ctx context.Context, segs []*segment, upTo int64) (n int, err error) {
	out := newCleanOutput(c.log, segs[0])
	defer out.discard()
	whole := func(s *segment) bool { return s.meta.next <= upTo }
	limit := c.log.config().SegmentBytes
	for n < len(segs) {
		s := segs[n]
		if n > 0 && (!whole(segs[0]) || !whole(s) || out.size()+s.meta.size > limit || s.meta.next-out.seg.base > math.MaxInt32) {
			break
		}
		if n > 0 {
			if err := out.start(); err != nil {
				return 0, err
			}
		}
		if err := c.sweepSegment(ctx, s, out, upTo); err != nil {
			return 0, err
		}
		n++
	}
	mark := (*cleanMark)(nil)
	if whole(segs[n-1]) {
		mark = &cleanMark{}
		if out.horizon != noHorizon {
			mark.horizon = out.horizon
		}
	}
	if out.file == nil {
		return n, c.log.markCleaned(segs[0], mark)
	}
	if err := out.finish(); err != nil {
		return 0, err
	}
	if err := c.charge(ctx, int(out.seg.meta.size)); err != nil {
		return 0, err
	}
	before := int64(0)
	for _, s := range segs[:n] {
		before += s.meta.size
	}
	if err := c.log.swapIn(slices.Clone(segs[:n]), out, mark); err != nil {
		return 0, err
	}
	c.stats.Swapped += n
	c.stats.BytesBefore += before
	c.stats.BytesAfter += out.seg.meta.size
	return n, nil
}

func (c *cleaner) sweepSegment(ctx context.Context, s *segment, out *cleanOutput, upTo int64) error {
	return c.each(ctx, s, func(b batchAt) (bool, error) {
		if b.batch.Attributes().Control() {
			return true, c.sweepMarker(b, out, upTo)
		}
		if c.txns.isAborted(b.batch) {
			c.stats.Dropped += int64(b.batch.Count())
			return true, c.dropBatch(b, out)
		}
		return true, c.sweepBatch(b, out, upTo)
	})
}

// sweepMarker keeps a control batch while a batch of its transaction is left, from then on until its
// delete horizon, and for as long as it is the last that is known of its producer.
func (c *cleaner) sweepMarker(b batchAt, out *cleanOutput, upTo int64) error {
	if !c.txns.endedEmpty(b.batch) || c.isLast(b.batch) || b.head.next > upTo {
		return out.emit(b.batch, b.head)
	}
	horizon := c.now.Add(c.o.DeleteRetention).UnixMilli()
	if b.batch.Attributes().DeleteHorizon() {
		horizon = b.batch.BaseTimestamp()
		if horizon <= c.now.UnixMilli() {
			c.stats.Dropped += int64(b.batch.Count())
			return out.skip(b.head)
		}
		out.due(horizon)
		return out.emit(b.batch, b.head)
	}
	if err := c.cur.Reset(b.batch, markerLimit); err != nil {
		return b.damage(err)
	}
	for {
		more, err := c.cur.Next()
		if err != nil {
			return b.damage(err)
		}
		if !more {
			break
		}
		c.cur.Keep()
	}
	out.due(horizon)
	return out.rewrite(&c.cur, horizon, b.head)
}

// sweepBatch keeps of a data batch what no newer record supersedes.
func (c *cleaner) sweepBatch(b batchAt, out *cleanOutput, upTo int64) error {
	if b.batch.Count() == 0 {
		return c.dropBatch(b, out)
	}
	if err := c.cur.Reset(b.batch, recordLimit); err != nil {
		return b.damage(err)
	}
	marked := b.batch.Attributes().DeleteHorizon()
	expired := marked && b.batch.BaseTimestamp() <= c.now.UnixMilli()
	tombstones := false
	c.look.begin(&c.cur)
	for {
		more, err := c.cur.Next()
		if err != nil {
			return b.damage(err)
		}
		if !more {
			break
		}
		key := c.look.next(c.keys)
		switch {
		case c.cur.Offset >= upTo: // a later pass knows
		case c.cur.Key == nil: // written before the topic was compacted: nothing could ever supersede it
			continue
		case c.cur.Tombstone && expired, c.keys.newest(key) > c.cur.Offset:
			continue
		}
		tombstones = tombstones || c.cur.Tombstone
		c.cur.Keep()
	}
	kept := c.cur.Kept()
	c.stats.Dropped += int64(int(b.batch.Count()) - kept)
	if kept == 0 {
		return c.dropBatch(b, out)
	}
	c.txns.seen(b.batch)
	horizon := int64(-1)
	switch {
	case tombstones && marked:
		out.due(b.batch.BaseTimestamp())
	case tombstones && b.head.next <= upTo:
		horizon = max(c.now.Add(c.o.DeleteRetention).UnixMilli(), 0)
		out.due(horizon)
	}
	if horizon < 0 && kept == int(b.batch.Count()) {
		return out.emit(b.batch, b.head)
	}
	return out.rewrite(&c.cur, horizon, b.head)
}

// dropBatch leaves a batch without records out, but for the one that has its producer's last
// sequence: that stays as an empty batch. It belongs to no transaction any more, or it would open one.
func (c *cleaner) dropBatch(b batchAt, out *cleanOutput) error {
	empty := b.batch.Count() == 0
	if empty && out.file == nil && b.batch.ProducerID() < 0 {
		return out.emit(b.batch, b.head) // it stands for what went before: no reason to write anew
	}
	if !c.isLast(b.batch) {
		return out.skip(b.head)
	}
	if empty {
		return out.emit(b.batch, b.head)
	}
	e := record.Empty{
		First: b.head.base, Last: b.head.next - 1, LeaderEpoch: b.head.epoch, ProducerID: b.batch.ProducerID(),
		ProducerEpoch: b.batch.ProducerEpoch(), BaseSequence: b.batch.BaseSequence(),
	}
	return out.empty(e, b.head)
}
