package tiering

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"varve/tiering/object"
)

// CollectInput is what makes a physical deletion safe, as values.
type CollectInput struct {
	// AppliedByAll is the smallest raft index that any unfenced broker has reported
	// as applied, PointerIndex the index of the commit of the current pointer.
	// Nothing is deleted while AppliedByAll < PointerIndex: then some broker may
	// still read by an older manifest.
	AppliedByAll, PointerIndex uint64
	// Retained reports whether a retained cluster snapshot needs a key; nil: none.
	Retained func(key string) bool
}

// Collected is what one Collect did.
type Collected struct {
	Objects, Pages, Manifests int
	Bytes                     int64
	Waiting                   int // dropped and still in their grace
}

// Collect deletes what the current manifest lists as dropped, once the reader
// grace has passed, and manifests that were superseded ManifestHistory ago except
// the last two. It deletes by proof alone: each key is listed as dropped by a
// committed manifest, or is a manifest that can never be committed any more. It
// may be repeated at any time; the keys leave the list with the next manifest.
func (p *Partition) Collect(ctx context.Context, in CollectInput) (Collected, error) {
	var done Collected
	ptr := p.Pointer()
	if ptr.Name == "" || in.AppliedByAll < in.PointerIndex {
		return done, nil
	}
	ctx, cancel := context.WithCancel(p.label(ctx, object.PurposeGC))
	defer cancel()
	defer context.AfterFunc(p.t.ctx, cancel)()
	v, err := p.current(ctx)
	if err == nil && v.m.Name != ptr.Name {
		err = ErrStale
	}
	if err == nil {
		err = errors.Join(p.collectDropped(ctx, v, in, &done), p.collectManifests(ctx, v, in, &done))
	}
	if err != nil {
		return done, fmt.Errorf("collect %s: %w", p.id, err)
	}
	return done, nil
}

func (p *Partition) collectDropped(ctx context.Context, v *view, in CollectInput, done *Collected) error {
	t, now := p.t, p.t.cfg.Now()
	p.mu.Lock()
	observed := p.mu.observed
	p.mu.Unlock()
	listed := make(map[string]bool, len(v.m.Deleted))
	var errs []error
	for i := range v.m.Deleted {
		d := &v.m.Deleted[i]
		if p.collected[d.Key] {
			listed[d.Key] = true
			continue
		}
		since := observed
		if d.SinceMS != 0 {
			since = time.UnixMilli(d.SinceMS)
		}
		key := resolve(p.dir, d.Key)
		if now.Sub(since) < t.cfg.ReaderGrace || in.Retained != nil && in.Retained(key) {
			done.Waiting++
			continue
		}
		if isForeign(d.Key) || p.names(v.m, d.Key) {
			errs = append(errs, fmt.Errorf("key %s is listed as dropped, and it is not this partition's or still in use", d.Key))
			continue
		}
		if err := p.deleteKey(ctx, key); err != nil {
			errs = append(errs, err)
			break
		}
		listed[d.Key] = true
		if done.Bytes += d.StoredBytes; strings.HasPrefix(d.Key, pageDir) {
			done.Pages++
		} else {
			done.Objects++
		}
	}
	p.collected = listed
	return errors.Join(errs...)
}

// names reports whether m itself names key as live: a last look, for that would
// be our own broken invariant.
func (p *Partition) names(m *Manifest, key string) bool {
	for i := range m.Entries {
		if m.Entries[i].Key == key {
			return true
		}
	}
	for i := range m.Pages {
		if m.Pages[i].Key == key {
			return true
		}
	}
	return false
}

func (p *Partition) deleteKey(ctx context.Context, key string) error {
	t := p.t
	rctx, cancel := t.request(ctx, 0)
	defer cancel()
	if err := t.store.Delete(rctx, key); err != nil {
		return storeError(ctx, "delete", key, err)
	}
	t.disk.forget(key)
	t.stats.collected.Add(1)
	t.cfg.OnStep("collect.delete")
	return nil
}

// collectManifests deletes old manifests. A name that sorts below the current one
// by epoch and sequence can never be committed any more: a commit needs the
// current epoch, which is at least the pointer's, and a prev that is current,
// which within one epoch only the next sequence has. So it is superseded or an
// orphan. The list is asked for only when there may be something to delete.
func (p *Partition) collectManifests(ctx context.Context, v *view, in CollectInput, done *Collected) error {
	t, now := p.t, p.t.cfg.Now()
	if now.Sub(p.swept) < t.cfg.ManifestHistory/4 && p.swept.Before(now) || p.sweptAfter == v.m.Name {
		return nil
	}
	names, err := p.listManifests(ctx)
	if err != nil {
		return err
	}
	all := true // what may ever go has gone
	for i := range names {
		n := &names[i]
		// Sequences rise by one along the chain, so these are the last superseded.
		if !n.below(v.m) || n.seq >= v.m.Seq-minKeptManifests {
			continue
		}
		key := resolve(p.dir, manifestDir+n.name)
		// It was superseded when its successor came, at the latest. There is one: the
		// current manifest sorts above it.
		if i+1 == len(names) || now.Sub(names[i+1].written) < t.cfg.ManifestHistory ||
			in.Retained != nil && in.Retained(key) {
			all = false
			continue
		}
		if err := p.deleteKey(ctx, key); err != nil {
			return err
		}
		done.Manifests++
	}
	p.swept = now
	if all {
		p.sweptAfter = v.m.Name
	}
	return nil
}

type listedManifest struct {
	name    string
	epoch   int32
	seq     int64
	written time.Time
}

// below: see collectManifests.
func (l *listedManifest) below(m *Manifest) bool {
	return l.epoch < m.LeaderEpoch || l.epoch == m.LeaderEpoch && l.seq < m.Seq
}

// listManifests returns the manifests in the store in the order of their names.
// Names that are no manifest's are left alone.
func (p *Partition) listManifests(ctx context.Context) ([]listedManifest, error) {
	prefix := p.dir + "/" + manifestDir
	var out []listedManifest
	err := object.ListAll(ctx, p.t.store, prefix, func(info object.Info) error {
		name := strings.TrimPrefix(info.Key, prefix)
		if epoch, seq, err := parseManifestName(name); err == nil {
			out = append(out, listedManifest{name, epoch, seq, info.ModTime})
		}
		return nil
	})
	if err != nil {
		return nil, storeError(ctx, "list", prefix, err)
	}
	return out, nil
}
