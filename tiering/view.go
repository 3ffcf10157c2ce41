package tiering

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync/atomic"

	"varve/tiering/object"
)

// view is a manifest and what lookups derive from it. It is immutable but for the
// time of its last use.
type view struct {
	m      *Manifest
	weight int64
	used   atomic.Int64 // unix nanoseconds; 0: written here and not used yet
	// prefixMax[i] is the greatest max timestamp of units 0 to i, a unit being a
	// page or, after the pages, an entry. It never falls, so it can be searched.
	prefixMax []int64
}

func newView(m *Manifest, weight int64) *view {
	v := &view{m: m, weight: weight, prefixMax: make([]int64, 0, len(m.Pages)+len(m.Entries))}
	add := func(ts int64) {
		if n := len(v.prefixMax); n > 0 {
			ts = max(ts, v.prefixMax[n-1])
		}
		v.prefixMax = append(v.prefixMax, ts)
	}
	for i := range m.Pages {
		add(m.Pages[i].MaxTimestamp)
	}
	for i := range m.Entries {
		add(m.Entries[i].MaxTimestamp)
	}
	return v
}

// entryAt returns the entries of the unit that covers offset and the position of
// the one that does. A page may have to be read.
func (p *Partition) entryAt(ctx context.Context, v *view, offset int64) ([]Entry, int, error) {
	m, entries := v.m, v.m.Entries
	i := sort.Search(len(m.Pages), func(i int) bool { return m.Pages[i].Last >= offset })
	if i < len(m.Pages) {
		var err error
		if entries, err = p.pageEntries(ctx, &m.Pages[i]); err != nil {
			return nil, 0, err
		}
	}
	j := sort.Search(len(entries), func(j int) bool { return entries[j].Last >= offset })
	if j == len(entries) || entries[j].First > offset {
		return nil, 0, fmt.Errorf("find %d in manifest %s: %w", offset, m.Name, ErrOutOfRange)
	}
	return entries, j, nil
}

func (p *Partition) pageEntries(ctx context.Context, ref *PageRef) ([]Entry, error) {
	pg, err := p.t.loadPage(object.WithTopic(ctx, p.id.Topic), resolve(p.dir, ref.Key), ref)
	if err != nil {
		return nil, err
	}
	return pg.Entries, nil
}

// current returns the manifest that the pointer names, reading it if need be.
func (p *Partition) current(ctx context.Context) (*view, error) {
	for {
		ptr := p.pointer.Load()
		if ptr == nil || ptr.Name == "" {
			return nil, fmt.Errorf("read tier of %s: %w", p.id, ErrNoPointer)
		}
		if v := p.heldView(ptr.Name); v != nil {
			return v, nil
		}
		v, err := p.fetchView(ctx, ptr)
		if err == nil {
			p.holdView(ptr.Name, v)
			return v, nil
		}
		// Between the pointer and the read the manifest may have been superseded and
		// collected: then the new pointer decides (design 8.5).
		if now := p.pointer.Load(); !errors.Is(err, object.ErrNotFound) || now.Name == ptr.Name {
			return nil, p.missing(resolve(p.dir, manifestDir+ptr.Name), err)
		}
	}
}

// missing turns "not found" for a key of the current manifest into ErrMissing.
func (p *Partition) missing(key string, err error) error {
	if !errors.Is(err, object.ErrNotFound) {
		return err
	}
	p.t.stats.missing.Add(1)
	return &MissingError{Key: key, Err: err}
}

func (p *Partition) fetchView(ctx context.Context, ptr *Pointer) (*view, error) {
	key, crc, name := resolve(p.dir, manifestDir+ptr.Name), ptr.CRC, ptr.Name
	v, err := p.t.meta(ctx, key, func(ctx context.Context) (metaValue, error) {
		b, err := p.t.readJSON(object.WithTopic(ctx, p.id.Topic), key, crc)
		if err != nil {
			return metaValue{}, err
		}
		m, err := DecodeManifest(key, b)
		if err == nil && (m.Name != name || m.TopicID != p.id.TopicIDText || m.Partition != p.id.Partition) {
			err = corruptf(key, 0, "is manifest %s of partition %d of topic id %s", m.Name, m.Partition, m.TopicID)
		}
		if err != nil {
			return metaValue{}, err
		}
		v := newView(m, int64(len(b)))
		return metaValue{view: v, weight: v.weight}, nil
	})
	if err != nil {
		return nil, err
	}
	return v.view, nil
}

// heldView returns the manifest if it is the one held, or one written here.
func (p *Partition) heldView(name string) *view {
	t := p.t
	p.mu.Lock()
	v := p.mu.view
	if v == nil || v.m.Name != name {
		v = nil
		for _, w := range p.mu.written {
			if w.m.Name == name {
				v = w
			}
		}
	}
	p.mu.Unlock()
	if v == nil {
		return nil
	}
	if v.used.Swap(t.cfg.Now().UnixNano()) == 0 { // first use of one that was written here
		p.holdView(name, v)
	}
	return v
}

// holdView makes v the partition's view, if the pointer still names it, and drops
// the least recently used views of others while all together are too large.
func (p *Partition) holdView(name string, v *view) {
	t := p.t
	v.used.Store(t.cfg.Now().UnixNano())
	if ptr := p.pointer.Load(); ptr == nil || ptr.Name != name {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.mu.views[p]; old != nil {
		t.mu.viewBytes -= old.weight
	}
	t.mu.views[p] = v
	t.mu.viewBytes += v.weight
	p.mu.Lock()
	p.mu.view = v
	p.mu.Unlock()
	for t.mu.viewBytes > t.cfg.MemoryBytes/4 && len(t.mu.views) > 1 {
		var coldest *Partition
		for q, w := range t.mu.views {
			if q != p && (coldest == nil || w.used.Load() < t.mu.views[coldest].used.Load()) {
				coldest = q
			}
		}
		t.dropViewLocked(coldest, t.mu.views[coldest])
	}
}

// dropViewLocked makes p read its manifest anew when it is next used. t.mu is held.
func (t *Tier) dropViewLocked(p *Partition, v *view) {
	delete(t.mu.views, p)
	t.mu.viewBytes -= v.weight
	p.mu.Lock()
	if p.mu.view == v {
		p.mu.view = nil
	}
	p.mu.written = nil
	p.mu.Unlock()
}
