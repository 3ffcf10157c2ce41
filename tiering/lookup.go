package tiering

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"sort"
	"time"

	"varve/tiering/object"
)

// eachTry runs fn on the current manifest, again if that was superseded and
// collected while fn read by it.
func (p *Partition) eachTry(ctx context.Context, what string, fn func(*view) error) error {
	for {
		v, err := p.current(ctx)
		if err == nil {
			err = fn(v)
		}
		switch {
		case err == nil:
			return nil
		case v != nil && p.superseded(v, err):
			continue
		}
		return fmt.Errorf("%s of %s: %w", what, p.id, p.lost(err))
	}
}

// OffsetForTimestamp finds the first record in the tier with a timestamp of at
// least ts: one binary search in the manifest, one in an index, and the batches of
// one chunk. ok is false if there is none. Config.Timestamps looks into batches.
func (p *Partition) OffsetForTimestamp(ctx context.Context, ts int64) (offset, timestamp int64, ok bool, err error) {
	if p.Pointer().Name == "" {
		return -1, -1, false, nil
	}
	err = p.eachTry(ctx, "timestamp lookup", func(v *view) error {
		offset, timestamp, ok, err = p.searchTime(ctx, v, ts)
		return err
	})
	return offset, timestamp, ok, err
}

// searchTime looks at candidates in order: the unit where the prefix maximum first
// reaches ts, the first entry and chunk in it that do. Only where LogStart hides
// part of a candidate may it fail and the next one be tried.
func (p *Partition) searchTime(ctx context.Context, v *view, ts int64) (int64, int64, bool, error) {
	from := p.first(v)
	units := len(v.m.Pages) + len(v.m.Entries)
	i := sort.Search(units, func(i int) bool { return v.prefixMax[i] >= ts })
	for ; i < units; i++ {
		entries, err := p.unit(ctx, v, i)
		if err != nil {
			return -1, -1, false, err
		}
		for j := range entries {
			e := &entries[j]
			if e.Last < from || e.MaxTimestamp < ts {
				continue
			}
			off, found, ok, err := p.searchEntry(ctx, e, ts, from)
			if err != nil || ok {
				return off, found, ok, err
			}
		}
	}
	return -1, -1, false, nil
}

// unit returns the entries of page i, or of the single entry that follows the pages.
func (p *Partition) unit(ctx context.Context, v *view, i int) ([]Entry, error) {
	if n := len(v.m.Pages); i >= n {
		return v.m.Entries[i-n : i-n+1], nil
	}
	if v.m.Pages[i].Last < p.first(v) {
		return nil, nil
	}
	return p.pageEntries(ctx, &v.m.Pages[i])
}

func (p *Partition) searchEntry(ctx context.Context, e *Entry, ts, from int64) (int64, int64, bool, error) {
	o, err := p.t.loadIndex(ctx, &p.id, resolve(p.dir, e.Key), e)
	if err != nil {
		return -1, -1, false, err
	}
	for n := range o.idx.Chunks {
		c := &o.idx.Chunks[n]
		if c.MaxTimestamp < ts || c.Last < from {
			continue
		}
		off, found, ok, err := p.searchChunk(ctx, place{o, n}, ts, from)
		if err != nil || ok {
			return off, found, ok, err
		}
	}
	return -1, -1, false, nil
}

func (p *Partition) searchChunk(ctx context.Context, pl place, ts, from int64) (offset, timestamp int64, ok bool, err error) {
	if p.t.cfg.Timestamps == nil {
		return -1, -1, false, errors.New("no timestamp search is configured")
	}
	held := p.t.hold(pl.o, pl.n, 1, true)
	defer releaseAll(held)
	if err := held[0].wait(ctx); err != nil {
		return -1, -1, false, err
	}
	raw := held[0].raw
	for len(raw) > 0 {
		size, _, last, err := p.split(pl, raw)
		if err != nil {
			return -1, -1, false, err
		}
		if last >= from {
			offset, timestamp, ok, err = p.t.cfg.Timestamps(raw[:size], ts, from)
			if err != nil {
				return -1, -1, false, corruptf(pl.o.key, pl.chunk().Pos, "batch that ends at %d: %v", last, err)
			}
			if ok {
				return offset, timestamp, true, nil
			}
		}
		raw = raw[size:]
	}
	return -1, -1, false, nil
}

// MaxTimestamp returns the record with the greatest timestamp in the tier, the
// earliest of equals; offset -1 if nothing is tiered.
func (p *Partition) MaxTimestamp(ctx context.Context) (offset, timestamp int64, err error) {
	offset, timestamp = -1, -1
	if p.Pointer().Name == "" {
		return offset, timestamp, nil
	}
	err = p.eachTry(ctx, "maximum timestamp", func(v *view) error {
		offset, timestamp = -1, -1
		ts, ok, err := p.maxTime(ctx, v)
		if err != nil || !ok {
			return err
		}
		// The indexes know the greatest timestamp, and of its place only the batch.
		off, found, ok, err := p.searchTime(ctx, v, ts)
		if err != nil || !ok {
			return err
		}
		offset, timestamp = off, found
		return nil
	})
	return offset, timestamp, err
}

// greatest is a running maximum of timestamps.
type greatest struct {
	ts int64
	ok bool
}

func (g *greatest) add(ts int64) {
	if !g.ok || ts > g.ts {
		g.ts, g.ok = ts, true
	}
}

// maxTime is the greatest timestamp at or after the first offset: from the sums of
// pages, entries and chunks that lie wholly there, and from the batches of the one
// chunk that LogStart cuts.
func (p *Partition) maxTime(ctx context.Context, v *view) (ts int64, ok bool, err error) {
	from, g := p.first(v), greatest{}
	entries := v.m.Entries
	for i := range v.m.Pages {
		r := &v.m.Pages[i]
		switch {
		case r.First >= from:
			g.add(r.MaxTimestamp)
		case r.Last >= from:
			paged, err := p.pageEntries(ctx, r)
			if err != nil {
				return 0, false, err
			}
			if err := p.maxOfEntries(ctx, paged, from, &g); err != nil {
				return 0, false, err
			}
		}
	}
	err = p.maxOfEntries(ctx, entries, from, &g)
	return g.ts, g.ok, err
}

func (p *Partition) maxOfEntries(ctx context.Context, entries []Entry, from int64, g *greatest) error {
	for i := range entries {
		e := &entries[i]
		switch {
		case e.First >= from:
			g.add(e.MaxTimestamp)
		case e.Last >= from:
			if err := p.maxOfCut(ctx, e, from, g); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *Partition) maxOfCut(ctx context.Context, e *Entry, from int64, g *greatest) error {
	o, err := p.t.loadIndex(ctx, &p.id, resolve(p.dir, e.Key), e)
	if err != nil {
		return err
	}
	for n := range o.idx.Chunks {
		c := &o.idx.Chunks[n]
		if c.First >= from {
			g.add(c.MaxTimestamp)
			continue
		}
		if c.Last < from {
			continue
		}
		for least := int64(0); ; least = g.ts + 1 {
			_, ts, ok, err := p.searchChunk(ctx, place{o, n}, least, from)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			g.add(ts)
		}
	}
	return nil
}

// Epochs returns the epoch history of the tiered range; the first epoch may start
// below it. Empty if nothing is tiered.
func (p *Partition) Epochs(ctx context.Context) ([]Epoch, error) {
	if p.Pointer().Name == "" {
		return nil, nil
	}
	v, err := p.current(ctx)
	if err != nil {
		return nil, fmt.Errorf("epochs of %s: %w", p.id, err)
	}
	return append([]Epoch(nil), v.m.Epochs...), nil
}

// EpochEnd returns the largest epoch not above epoch that has tiered batches and
// the offset after its last one (KIP-320); (-1, -1) if there is none. The last
// epoch ends at TieredEnd as far as the tier knows.
func (p *Partition) EpochEnd(ctx context.Context, epoch int32) (int32, int64, error) {
	if p.Pointer().Name == "" {
		return -1, -1, nil
	}
	v, err := p.current(ctx)
	if err != nil {
		return -1, -1, fmt.Errorf("end of epoch %d of %s: %w", epoch, p.id, err)
	}
	found, end := int32(-1), int64(-1)
	for i, e := range v.m.Epochs {
		if e.Epoch > epoch {
			break
		}
		found, end = e.Epoch, v.m.TieredEnd
		if i+1 < len(v.m.Epochs) {
			end = v.m.Epochs[i+1].Start
		}
	}
	return found, end, nil
}

// Aborted returns the aborted transactions that overlap [from, end), in the order
// of their markers. Objects without any are not touched.
func (p *Partition) Aborted(ctx context.Context, from, end int64) ([]Aborted, error) {
	if p.Pointer().Name == "" {
		return nil, nil
	}
	var out []Aborted
	err := p.eachTry(ctx, "aborted transactions", func(v *view) error {
		out = out[:0]
		seen := make(map[Aborted]bool)
		for at := max(from, p.first(v)); at < min(end, v.m.TieredEnd); {
			entries, j, err := p.entryAt(ctx, v, at)
			if err != nil {
				return err
			}
			e := &entries[j]
			at = e.Last + 1
			if e.Aborted == 0 {
				continue
			}
			o, err := p.t.loadIndex(ctx, &p.id, resolve(p.dir, e.Key), e)
			if err != nil {
				return err
			}
			for _, a := range o.idx.Aborted {
				if a.First < end && a.Last >= from && !seen[a] {
					seen[a] = true
					out = append(out, a)
				}
			}
		}
		return nil
	})
	sort.Slice(out, func(i, j int) bool { return out[i].Last < out[j].Last })
	return out, err
}

// Producers returns the producer-state snapshot of the newest object, which is as
// of TieredEnd; nil and 0 if there is no object.
func (p *Partition) Producers(ctx context.Context) (snapshot []byte, asOf int64, err error) {
	if p.Pointer().Name == "" {
		return nil, 0, nil
	}
	err = p.eachTry(ctx, "producer state", func(v *view) error {
		if v.m.LogStart == v.m.TieredEnd {
			return nil
		}
		entries, j, err := p.entryAt(ctx, v, v.m.TieredEnd-1)
		if err != nil {
			return err
		}
		o, err := p.t.loadIndex(ctx, &p.id, resolve(p.dir, entries[j].Key), &entries[j])
		if err != nil {
			return err
		}
		x := o.idx
		snapshot, asOf = make([]byte, x.ProducersLen), entries[j].Last+1
		if len(snapshot) == 0 {
			return nil
		}
		if _, err := p.t.getRange(p.label(ctx, object.PurposeColdRead), o.key, x.ProducersPos, snapshot); err != nil {
			return err
		}
		if got := crc32.Checksum(snapshot, castagnoli); got != x.ProducersCRC {
			p.t.stats.corrupt.Add(1)
			return corruptf(o.key, x.ProducersPos, "producer snapshot CRC32C %08x, index says %08x", got, x.ProducersCRC)
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return snapshot, asOf, nil
}

// Description sums a partition's cold range up.
type Description struct {
	Manifest            string
	LogStart, TieredEnd int64
	Objects             int64
	RawBytes            int64
	StoredBytes         int64
	Records             int64
	Oldest, Newest      time.Time // base and maximum timestamp; zero if nothing is tiered
	Deleted             int       // keys that wait for physical deletion
	DeletedBytes        int64
}

// Describe reads nothing but the manifest.
func (p *Partition) Describe(ctx context.Context) (Description, error) {
	if p.Pointer().Name == "" {
		return Description{}, nil
	}
	v, err := p.current(ctx)
	if err != nil {
		return Description{}, fmt.Errorf("describe tier of %s: %w", p.id, err)
	}
	m := v.m
	d := Description{
		Manifest: m.Name, LogStart: p.first(v), TieredEnd: m.TieredEnd, Objects: m.Count,
		RawBytes: m.RawBytes, StoredBytes: m.StoredBytes, Records: m.Records, Deleted: len(m.Deleted),
	}
	for i := range m.Deleted {
		d.DeletedBytes += m.Deleted[i].StoredBytes
	}
	if n := len(v.prefixMax); n > 0 {
		d.Newest = time.UnixMilli(v.prefixMax[n-1])
		if len(m.Pages) > 0 {
			d.Oldest = time.UnixMilli(m.Pages[0].BaseTimestamp)
		} else {
			d.Oldest = time.UnixMilli(m.Entries[0].BaseTimestamp)
		}
	}
	return d, nil
}

// Manifest returns the current manifest, which must not be changed; nil if
// nothing is tiered.
func (p *Partition) Manifest(ctx context.Context) (*Manifest, error) {
	if p.Pointer().Name == "" {
		return nil, nil
	}
	v, err := p.current(ctx)
	if err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", p.id, err)
	}
	return v.m, nil
}

// Entries iterates over the live entries, the oldest first. An error ends it.
func (p *Partition) Entries(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if p.Pointer().Name == "" {
			return
		}
		v, err := p.current(ctx)
		stopped := false
		if err == nil {
			from := p.first(v)
			err = p.eachEntry(ctx, v, func(e *Entry) bool {
				stopped = e.Last >= from && !yield(*e, nil)
				return !stopped
			})
		}
		if err != nil && !stopped {
			yield(Entry{}, fmt.Errorf("entries of %s: %w", p.id, err))
		}
	}
}
