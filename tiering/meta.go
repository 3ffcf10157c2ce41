package tiering

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"github.com/maypok86/otter/v2"

	"varve/tiering/object"
)

// metaValue is a decoded index or page: immutable, found by its key, which is
// never written twice.
type metaValue struct {
	index  *coldObject
	page   *page
	view   *view // a manifest; not kept in the cache but with its Partition
	weight int64
}

// coldObject is an object whose index has been read.
type coldObject struct {
	key   string
	topic string
	hash  objectHash // of key
	size  int64
	idx   *Index
}

// metaFlight is one read of metadata, shared by all who want it.
type metaFlight struct {
	done chan struct{}
	val  metaValue
	err  error
}

func newMetaCache(bytes int64) (*otter.Cache[string, metaValue], error) {
	c, err := otter.New(&otter.Options[string, metaValue]{
		MaximumWeight: uint64(bytes),
		Weigher:       func(_ string, v metaValue) uint32 { return uint32(min(v.weight, math.MaxUint32)) },
		Executor:      func(fn func()) { fn() },
	})
	if err != nil {
		return nil, fmt.Errorf("make index cache: %w", err)
	}
	return c, nil
}

// meta returns what load gives for key: from the cache, from a load under way, or
// from a load of its own, which goes on when ctx ends.
func (t *Tier) meta(ctx context.Context, key string, load func(context.Context) (metaValue, error)) (metaValue, error) {
	if v, ok := t.metaCache.GetIfPresent(key); ok {
		return v, nil
	}
	f, err := t.joinMeta(key, load)
	if err != nil {
		return metaValue{}, err
	}
	select {
	case <-f.done:
		return f.val, f.err
	case <-ctx.Done():
		return metaValue{}, fmt.Errorf("read %s: %w: %w", key, ErrPending, ctx.Err())
	}
}

func (t *Tier) joinMeta(key string, load func(context.Context) (metaValue, error)) (*metaFlight, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closed {
		return nil, ErrClosed
	}
	f := t.mu.metas[key]
	if f == nil {
		f = &metaFlight{done: make(chan struct{})}
		t.mu.metas[key] = f
		t.wg.Go(func() { t.runMeta(key, f, load) })
	}
	return f, nil
}

func (t *Tier) runMeta(key string, f *metaFlight, load func(context.Context) (metaValue, error)) {
	f.val, f.err = load(t.ctx)
	if f.err == nil && f.val.view == nil {
		t.metaCache.Set(key, f.val)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mu.metas, key)
	close(f.done)
}

// readSmall reads a whole object whose size is not known, at most maxManifestBytes:
// one GET for most, and two for the others.
func (t *Tier) readSmall(ctx context.Context, key string) ([]byte, error) {
	ctx = object.WithPurpose(ctx, object.PurposeManifest)
	var b []byte
	for size := firstManifestRead; ; size *= 8 {
		size = min(size, maxManifestBytes+1)
		start := len(b)
		b = append(make([]byte, 0, size), b...)[:size]
		rctx, cancel := t.request(ctx, int64(size))
		n, err := t.store.GetRange(rctx, key, int64(start), b[start:])
		cancel()
		b = b[:start+n]
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF), start > 0 && errors.Is(err, object.ErrBadRange):
			return b, nil
		case err != nil:
			return nil, storeError(ctx, "read", key, err)
		case len(b) > maxManifestBytes:
			return nil, corruptf(key, 0, "more than %d bytes", maxManifestBytes)
		}
	}
}

// readJSON reads a manifest or page through the disk cache and checks its CRC32C.
func (t *Tier) readJSON(ctx context.Context, key string, crc uint32) ([]byte, error) {
	hash := hashObject(key)
	if b := t.disk.readWhole(hash); b != nil {
		if crc32.Checksum(b, castagnoli) == crc {
			return b, nil
		}
		t.disk.drop(hash, 0, int64(len(b)))
	}
	b, err := t.readSmall(ctx, key)
	if err != nil {
		return nil, err
	}
	if got := crc32.Checksum(b, castagnoli); got != crc {
		t.stats.corrupt.Add(1)
		return nil, corruptf(key, 0, "CRC32C %08x, expected %08x", got, crc)
	}
	t.disk.offer(hash, 0, b, nil)
	return b, nil
}

func (t *Tier) loadPage(ctx context.Context, key string, ref *PageRef) (*page, error) {
	v, err := t.meta(ctx, key, func(ctx context.Context) (metaValue, error) {
		b, err := t.readJSON(ctx, key, ref.CRC)
		if err != nil {
			return metaValue{}, err
		}
		p, err := decodePage(key, b, ref)
		return metaValue{page: p, weight: int64(len(b))}, err
	})
	if err == nil && v.page == nil {
		err = corruptf(key, 0, "is not a page")
	}
	return v.page, err
}

// loadIndex reads the tail of an object: one GET, or none if it is cached.
func (t *Tier) loadIndex(ctx context.Context, id *PartitionID, key string, e *Entry) (*coldObject, error) {
	v, err := t.meta(ctx, key, func(ctx context.Context) (metaValue, error) {
		x, err := t.fetchIndex(object.WithTopic(ctx, id.Topic), id, key, e)
		if err != nil {
			return metaValue{}, err
		}
		o := &coldObject{key: key, topic: id.Topic, hash: hashObject(key), size: e.StoredBytes, idx: x}
		weight := 256 + len(x.Chunks)*64 + len(x.Epochs)*16 + len(x.Aborted)*24
		return metaValue{index: o, weight: int64(weight)}, nil
	})
	if err == nil && v.index == nil {
		err = corruptf(key, 0, "is not a cold object")
	}
	return v.index, err
}

func (t *Tier) fetchIndex(ctx context.Context, id *PartitionID, key string, e *Entry) (*Index, error) {
	hash, pos := hashObject(key), e.StoredBytes-e.IndexLen
	tail := make([]byte, e.IndexLen)
	if t.disk.read(hash, pos, tail) {
		if x, err := decodeIndexOf(key, id, e, tail); err == nil {
			return x, nil
		}
		t.disk.drop(hash, pos, e.IndexLen)
	}
	if _, err := t.getRange(ctx, key, pos, tail); err != nil {
		return nil, err
	}
	x, err := decodeIndexOf(key, id, e, tail)
	if err != nil {
		t.stats.corrupt.Add(1)
		return nil, err
	}
	t.disk.offer(hash, pos, tail, nil)
	return x, nil
}

// getRange fills dst from the store, once a read slot and the rate allow it, and
// returns how many bytes are good. An object that ends too early is corrupt.
func (t *Tier) getRange(ctx context.Context, key string, pos int64, dst []byte) (int, error) {
	if err := t.readSlots.Acquire(ctx, 1); err != nil {
		return 0, fmt.Errorf("read %s: %w", key, err)
	}
	defer t.readSlots.Release(1)
	if err := pace(ctx, t.rates.read.Load, int64(len(dst))); err != nil {
		return 0, fmt.Errorf("read %s: %w", key, err)
	}
	end, err := t.courtesy.begin(ctx, len(dst))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", key, err)
	}
	defer end()
	rctx, cancel := t.request(object.WithPurpose(ctx, object.PurposeColdRead), int64(len(dst)))
	defer cancel()
	n, err := t.store.GetRange(rctx, key, pos, dst)
	t.stats.gets.Add(1)
	t.stats.getBytes.Add(int64(n))
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, object.ErrBadRange):
		t.stats.corrupt.Add(1)
		return n, corruptf(key, pos+int64(n), "object ends here, expected %d bytes more: %v", len(dst)-n, err)
	}
	t.stats.getErrors.Add(1)
	return 0, storeError(ctx, "read", key, err)
}

// decodeIndexOf decodes an index and compares it with the entry that led to it: an
// object that is whole but another one is corruption too. Foreign objects keep
// their own ids.
func decodeIndexOf(key string, id *PartitionID, e *Entry, tail []byte) (*Index, error) {
	x, err := DecodeIndex(key, e.StoredBytes, tail)
	if err != nil {
		return nil, err
	}
	if x.First != e.First || x.Last != e.Last || x.RawBytes != e.RawBytes || x.Records != e.Records {
		return nil, corruptf(key, 0, "holds [%d, %d] of %d bytes, manifest says [%d, %d] of %d",
			x.First, x.Last, x.RawBytes, e.First, e.Last, e.RawBytes)
	}
	if !isForeign(e.Key) && (x.TopicID != id.TopicID || x.Partition != id.Partition) {
		return nil, corruptf(key, 0, "belongs to partition %d of topic id %x", x.Partition, x.TopicID)
	}
	return x, nil
}
