package tiering

import (
	"context"
	"fmt"
	"hash/crc32"

	"golang.org/x/time/rate"

	"varve/tiering/object"
)

// runFetch is one read of consecutive chunks of one object.
type runFetch struct {
	t      *Tier
	o      *coldObject
	first  int      // of the chunks in the index
	chunks []*chunk // one reference each is the fetch's
	need   int64    // budget
	demand bool
	grant  int64 // of the budget, what no slab has taken over yet
	fresh  []freshRange
}

// freshRange is what one GET brought and its checks found good, for the disk cache.
type freshRange struct {
	pos    int64
	data   []byte
	starts []int64 // of its chunks
}

// hold references chunk n of o. If nobody reads it yet, a fetch of it begins that
// also takes the following chunks, as far as they are missing in a row and fit
// into maxBytes. It returns every chunk that it referenced, n first; none if this
// is read-ahead (demand is false) and there is no memory for it.
func (t *Tier) hold(o *coldObject, n int, maxBytes int64, demand bool) []*chunk {
	key := chunkKey{o.key, n}
	if c := t.chunks.lookup(key); c != nil {
		if demand {
			t.stats.memoryHits.Add(1)
			if c.ready() {
				t.chunks.touch(c)
			}
		}
		return []*chunk{c}
	}
	r := &runFetch{t: t, o: o, first: n, demand: demand}
	s := t.chunks
	s.mu.Lock()
	if c := s.lookupLocked(key); c != nil { // begun since the look-up
		s.mu.Unlock()
		return []*chunk{c}
	}
	end := r.extentLocked(maxBytes)
	if !demand {
		var ok bool
		if r.grant, ok = t.slabs.tryAcquire(r.need); !ok {
			s.mu.Unlock()
			return nil
		}
	}
	for i := n; i < end; i++ {
		r.chunks = append(r.chunks, s.beginLocked(chunkKey{o.key, i}))
	}
	s.mu.Unlock()
	held := append([]*chunk(nil), r.chunks...)
	if !t.background(r.run) {
		r.fail(ErrClosed)
		t.slabs.giveBack(r.grant)
	}
	return held
}

// extentLocked returns the end of the run that begins at first, and sums up its
// budget: the stored bytes, and the raw ones of chunks that have to be unpacked.
func (r *runFetch) extentLocked(maxBytes int64) (end int) {
	chunks, stored := r.o.idx.Chunks, int64(0)
	for end = r.first; end < len(chunks); end++ {
		c := &chunks[end]
		if end > r.first && (stored+int64(c.Stored) > maxBytes || r.t.chunks.mu.live[chunkKey{r.o.key, end}] != nil) {
			break
		}
		stored += int64(c.Stored)
		if int(c.Stored) != int(c.Raw)+frameOverhead {
			r.need += int64(c.Raw)
		}
	}
	r.need += stored
	return end
}

// run fetches the chunks and finishes each, the first one last: who waits for it
// then finds the others ready.
func (r *runFetch) run() {
	t := r.t
	ctx := object.WithTopic(t.ctx, r.o.topic)
	if r.demand {
		var err error
		if r.grant, err = t.slabs.acquire(ctx, r.need); err != nil {
			r.fail(fmt.Errorf("wait for memory: %w", err))
			return
		}
	}
	chunks := r.o.idx.Chunks[r.first : r.first+len(r.chunks)]
	base, last := chunks[0].Pos, &chunks[len(chunks)-1]
	sl := r.slab(int(last.Pos + int64(last.Stored) - base))
	defer sl.release()
	defer func() { t.slabs.giveBack(r.grant) }()

	errs := make([]error, len(chunks))
	r.read(ctx, sl, chunks, errs)
	var good []*chunk
	for i := len(chunks) - 1; i >= 0; i-- {
		x, c := &chunks[i], r.chunks[i]
		var raw []byte
		var owner *slab
		err := errs[i]
		if err == nil {
			raw, owner, err = r.unpack(sl, x, sl.buf[x.Pos-base:][:x.Stored])
		}
		if err == nil {
			c.reference() // the cache's
			good = append(good, c)
		}
		c.cached = r.chunks[0].key
		t.chunks.finish(c, raw, owner, err)
	}
	t.chunks.keep(r.chunks[0].key, good)
	for _, f := range r.fresh {
		t.disk.offer(r.o.hash, f.pos, f.data, sl, f.starts...)
	}
}

// read fills sl with the stored chunks: from the disk cache, and the rest with one
// GET for each run of missing ones. errs[i] says why chunk i is not good.
func (r *runFetch) read(ctx context.Context, sl *slab, chunks []Chunk, errs []error) {
	t, base := r.t, chunks[0].Pos
	bytesOf := func(i int) []byte { return sl.buf[chunks[i].Pos-base:][:chunks[i].Stored] }
	cached := make([]bool, len(chunks))
	for i := range chunks {
		if !t.disk.read(r.o.hash, chunks[i].Pos, bytesOf(i)) {
			continue
		}
		if cached[i] = crc32.Checksum(bytesOf(i), castagnoli) == chunks[i].CRC; !cached[i] {
			t.disk.drop(r.o.hash, chunks[i].Pos, int64(chunks[i].Stored))
		}
	}
	for i := 0; i < len(chunks); {
		if cached[i] {
			t.stats.diskHits.Add(1)
			i++
			continue
		}
		end := i
		for end < len(chunks) && !cached[end] {
			end++
		}
		r.get(ctx, sl, base, chunks[i:end], errs[i:end])
		i = end
	}
}

// get fetches one run of missing chunks, checks them, and notes those that are
// good for the disk cache.
func (r *runFetch) get(ctx context.Context, sl *slab, base int64, chunks []Chunk, errs []error) {
	t, last := r.t, &chunks[len(chunks)-1]
	pos, end := chunks[0].Pos, last.Pos+int64(last.Stored)
	dst := sl.buf[pos-base : end-base]
	t.stats.misses.Add(int64(len(chunks)))
	if err := pace(ctx, func() *rate.Limiter { return t.topicRate(r.o.topic) }, end-pos); err != nil { // before a slot, which others could use meanwhile
		for i := range errs {
			errs[i] = fmt.Errorf("read %s: %w", r.o.key, err)
		}
		return
	}
	if !r.demand {
		t.stats.ahead.Add(1)
		if err := t.aheadSlots.Acquire(ctx, 1); err != nil {
			for i := range errs {
				errs[i] = fmt.Errorf("read ahead: %w", err)
			}
			return
		}
		defer t.aheadSlots.Release(1)
	}
	n, err := t.getRange(ctx, r.o.key, pos, dst)
	good := 0
	var starts []int64
	for i := range chunks {
		c := &chunks[i]
		if c.Pos-pos+int64(c.Stored) > int64(n) {
			errs[i] = err
			continue
		}
		if got := crc32.Checksum(dst[c.Pos-pos:][:c.Stored], castagnoli); got != c.CRC {
			t.stats.corrupt.Add(1)
			errs[i] = corruptf(r.o.key, c.Pos, "chunk CRC32C %08x, index says %08x", got, c.CRC)
			continue
		}
		if good == i {
			good++
			starts = append(starts, c.Pos)
		}
	}
	if good > 0 {
		c := &chunks[good-1]
		r.fresh = append(r.fresh, freshRange{pos, dst[:c.Pos-pos+int64(c.Stored)], starts})
	}
}

// unpack returns the batches of one checked frame and the slab they lie in, with
// a reference: sl itself if the frame holds them as they are.
func (r *runFetch) unpack(sl *slab, c *Chunk, frame []byte) ([]byte, *slab, error) {
	if raw, ok := storedView(frame, int(c.Raw)); ok {
		sl.retain()
		return raw, sl, nil
	}
	own := r.slab(int(c.Raw))
	if err := unpackFrame(frame, own.buf); err != nil {
		own.release()
		return nil, nil, corruptf(r.o.key, c.Pos, "%v", err)
	}
	return own.buf, own, nil
}

// slab takes n bytes of the grant with it; a grant that was cut to the budget's
// size may be used up before.
func (r *runFetch) slab(n int) *slab {
	charge := min(int64(n), r.grant)
	r.grant -= charge
	return r.t.slabs.get(n, charge)
}

func (r *runFetch) fail(err error) {
	for _, c := range r.chunks {
		r.t.chunks.finish(c, nil, nil, err)
	}
}
