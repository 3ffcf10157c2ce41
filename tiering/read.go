package tiering

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"varve/tiering/object"
)

// Data is whole batches in order. Buffers are views of shared memory: they must
// not be changed, and are valid until Release.
type Data struct {
	Buffers     [][]byte
	First, Next int64 // offsets: of the first batch, and after the last one
	bytes       int
	chunks      []*chunk
}

// Len is the number of bytes in Buffers.
func (d *Data) Len() int { return d.bytes }

// Release gives the memory back. It is called once.
func (d *Data) Release() {
	for _, c := range d.chunks {
		c.release()
	}
	d.chunks, d.Buffers = nil, nil
}

// Read returns whole batches from the one that holds offset on: at most maxBytes,
// but the first batch whole if minOne. It waits for the first chunk and takes
// what else is ready. When ctx ends first the answer is ErrPending (and the
// context's error), and the read goes on into the cache.
func (p *Partition) Read(ctx context.Context, offset int64, maxBytes int, minOne bool) (*Data, error) {
	if err := p.failedRead(offset); err != nil {
		return nil, err
	}
	for {
		v, err := p.current(ctx)
		if err != nil {
			return nil, p.pend(offset, maxBytes, err)
		}
		if first := p.first(v); offset < first || offset >= v.m.TieredEnd {
			return nil, fmt.Errorf("read %s at %d of [%d, %d): %w", p.id, offset, first, v.m.TieredEnd, ErrOutOfRange)
		}
		d, err := p.readView(ctx, v, offset, maxBytes, minOne)
		if err == nil {
			p.t.stats.readBytes.Add(int64(d.bytes))
			return d, nil
		}
		if p.superseded(v, err) {
			continue
		}
		return nil, p.pend(offset, maxBytes, p.lost(err))
	}
}

// TryRead is Read that does not wait: ErrPending if the data is not in memory.
// The read that it starts goes on; a later call finds its result or its error.
func (p *Partition) TryRead(offset int64, maxBytes int, minOne bool) (*Data, error) {
	return p.Read(endedContext, offset, maxBytes, minOne)
}

var endedContext = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// superseded reports whether err only says that a key of v is gone while v is not
// the current manifest any more.
func (p *Partition) superseded(v *view, err error) bool {
	ptr := p.pointer.Load()
	return errors.Is(err, object.ErrNotFound) && ptr != nil && ptr.Name != v.m.Name
}

// lost makes "not found" for a key of the current manifest a MissingError.
func (p *Partition) lost(err error) error {
	var missing *MissingError
	if !errors.Is(err, object.ErrNotFound) || errors.As(err, &missing) {
		return err
	}
	key := ""
	var oe *object.Error
	if errors.As(err, &oe) {
		key = oe.Key
	}
	return p.missing(key, err)
}

// place is where an offset lies.
type place struct {
	o *coldObject
	n int // chunk
}

func (pl *place) chunk() *Chunk { return &pl.o.idx.Chunks[pl.n] }

// locate finds the chunk that holds offset. It may read a page and an index.
func (p *Partition) locate(ctx context.Context, v *view, offset int64) (place, error) {
	entries, j, err := p.entryAt(ctx, v, offset)
	if err != nil {
		return place{}, err
	}
	o, err := p.t.loadIndex(ctx, &p.id, resolve(p.dir, entries[j].Key), &entries[j])
	if err != nil {
		return place{}, err
	}
	return place{o, chunkAt(o.idx, offset)}, nil
}

// locateResident is locate without reading anything; ok is false if it would.
func (p *Partition) locateResident(v *view, offset int64) (place, bool) {
	m, entries := v.m, v.m.Entries
	if i := sort.Search(len(m.Pages), func(i int) bool { return m.Pages[i].Last >= offset }); i < len(m.Pages) {
		pg, ok := p.t.metaCache.GetIfPresent(resolve(p.dir, m.Pages[i].Key))
		if !ok || pg.page == nil {
			return place{}, false
		}
		entries = pg.page.Entries
	}
	j := sort.Search(len(entries), func(j int) bool { return entries[j].Last >= offset })
	if j == len(entries) {
		return place{}, false
	}
	x, ok := p.t.metaCache.GetIfPresent(resolve(p.dir, entries[j].Key))
	if !ok || x.index == nil {
		return place{}, false
	}
	return place{x.index, chunkAt(x.index.idx, offset)}, true
}

// chunkAt: the caller knows that offset lies in the object.
func chunkAt(x *Index, offset int64) int {
	return sort.Search(len(x.Chunks)-1, func(i int) bool { return x.Chunks[i].Last >= offset })
}

func (p *Partition) readView(ctx context.Context, v *view, offset int64, maxBytes int, minOne bool) (*Data, error) {
	s := p.streamFor(offset)
	pl, err := p.locate(ctx, v, offset)
	if err != nil {
		return nil, err
	}
	c := s.take(pl, maxBytes)
	if err := c.wait(ctx); err != nil {
		c.release()
		if !errors.Is(err, ErrPending) {
			s.reset()
		}
		return nil, err
	}
	d, err := p.collect(v, pl, c, offset, maxBytes, minOne)
	if err != nil {
		d.Release()
		return nil, err
	}
	s.advance(offset, d.Next)
	return d, nil
}

// collect takes batches from c on, and from the chunks after it that are ready.
func (p *Partition) collect(v *view, pl place, c *chunk, offset int64, maxBytes int, minOne bool) (*Data, error) {
	d := &Data{First: offset, Next: offset, chunks: []*chunk{c}}
	pos, first, err := p.skip(pl, c.raw, offset)
	if err != nil {
		return d, err
	}
	d.First = first
	for {
		more, err := p.take(d, pl, c.raw[pos:], maxBytes, minOne)
		if err != nil || !more || d.Next >= v.m.TieredEnd {
			return d, err
		}
		if pl.n++; pl.n == len(pl.o.idx.Chunks) {
			var ok bool
			if pl, ok = p.locateResident(v, d.Next); !ok {
				return d, nil
			}
		}
		if pl.chunk().First != d.Next {
			return d, nil
		}
		if c = p.t.chunks.readyChunk(chunkKey{pl.o.key, pl.n}); c == nil {
			return d, nil
		}
		d.chunks, pos, minOne = append(d.chunks, c), 0, false
	}
}

// readyChunk references a live chunk that is fetched and good; nil otherwise.
func (s *chunkSet) readyChunk(key chunkKey) *chunk {
	s.mu.Lock()
	c := s.lookupLocked(key)
	s.mu.Unlock()
	if c != nil && (!c.ready() || c.failed()) {
		c.release()
		return nil
	}
	if c != nil {
		s.touch(c)
	}
	return c
}

// skip returns where in raw the batch that holds offset begins, and its first
// offset.
func (p *Partition) skip(pl place, raw []byte, offset int64) (pos int, first int64, err error) {
	for pos < len(raw) {
		size, f, last, err := p.split(pl, raw[pos:])
		if err != nil {
			return 0, 0, err
		}
		if last >= offset {
			return pos, f, nil
		}
		pos += size
	}
	return 0, 0, corruptf(pl.o.key, pl.chunk().Pos, "chunk lacks offset %d", offset)
}

func (p *Partition) split(pl place, b []byte) (size int, first, last int64, err error) {
	size, first, last, err = p.t.cfg.Split(b)
	if err != nil || size < 1 || size > len(b) {
		return 0, 0, 0, corruptf(pl.o.key, pl.chunk().Pos, "batch of %d bytes with %d left: %v", size, len(b), err)
	}
	return size, first, last, nil
}

// take appends the rest of a chunk to d, or what of it fits. more says that all
// of it did and that there is room for more.
func (p *Partition) take(d *Data, pl place, rest []byte, maxBytes int, minOne bool) (more bool, err error) {
	room := maxBytes - d.bytes
	if len(rest) <= room {
		d.Buffers, d.bytes, d.Next = append(d.Buffers, rest), d.bytes+len(rest), pl.chunk().Last+1
		return len(rest) < room, nil
	}
	end, next := 0, d.Next
	for end < len(rest) {
		size, _, last, err := p.split(pl, rest[end:])
		if err != nil {
			return false, err
		}
		if end+size > room && (end > 0 || !minOne || d.bytes > 0) {
			break
		}
		end, next = end+size, last+1
	}
	if end > 0 {
		d.Buffers, d.bytes, d.Next = append(d.Buffers, rest[:end]), d.bytes+end, next
	}
	return false, nil
}
