package tiering

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/maypok86/otter/v2"
)

type chunkKey struct {
	object string
	n      int
}

// chunk is one chunk that somebody reads, has read, or will read. While any
// reference is held it is in the set's live table, so there is never a second
// read of it: that is the single flight. It is fetched once done is closed, and
// then raw or err is set for good.
type chunk struct {
	key  chunkKey
	set  *chunkSet
	done chan struct{}
	raw  []byte
	slab *slab
	err  error
	// cached is the key under which the cache may hold c; written before done is
	// closed, and then only read.
	cached chunkKey

	// Guarded by set.mu.
	refs int
}

// chunkSet holds the live chunks and the memory cache over them. The cache only
// keeps chunks alive; it is not where they are found. Its unit is what one fetch
// brought, because the chunks of a fetch share a slab and only go together.
type chunkSet struct {
	slabs *slabPool
	cache *otter.Cache[chunkKey, []*chunk] // by the first chunk's key

	mu struct {
		sync.Mutex
		live map[chunkKey]*chunk
	}
}

func newChunkSet(slabs *slabPool, cacheBytes int64) (*chunkSet, error) {
	s := &chunkSet{slabs: slabs}
	s.mu.live = make(map[chunkKey]*chunk)
	cache, err := otter.New(&otter.Options[chunkKey, []*chunk]{
		MaximumWeight:    uint64(cacheBytes),
		Weigher:          weighChunks,
		OnAtomicDeletion: func(e otter.DeletionEvent[chunkKey, []*chunk]) { releaseAll(e.Value) },
		Executor:         func(fn func()) { fn() },
	})
	if err != nil {
		return nil, fmt.Errorf("make memory cache: %w", err)
	}
	s.cache = cache
	return s, nil
}

func weighChunks(_ chunkKey, chunks []*chunk) uint32 {
	n := 0
	for _, c := range chunks {
		n += len(c.raw)
	}
	return uint32(min(n, math.MaxUint32))
}

// lookupLocked references a live chunk.
func (s *chunkSet) lookupLocked(key chunkKey) *chunk {
	c := s.mu.live[key]
	if c != nil {
		c.refs++
	}
	return c
}

// lookup references the chunk if it is live; nil if it is not.
func (s *chunkSet) lookup(key chunkKey) *chunk {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lookupLocked(key)
}

// reference adds one to those that the caller knows to exist.
func (c *chunk) reference() {
	c.set.mu.Lock()
	c.refs++
	c.set.mu.Unlock()
}

// beginLocked makes a chunk live; the caller fetches it and calls finish. The
// chunk has two references: the caller's and the fetch's.
func (s *chunkSet) beginLocked(key chunkKey) *chunk {
	c := &chunk{key: key, set: s, done: make(chan struct{}), refs: 2}
	s.mu.live[key] = c
	return c
}

// finish ends the fetch of c, with raw inside sl (whose reference it takes over)
// or with err, and gives up the fetch's reference.
func (s *chunkSet) finish(c *chunk, raw []byte, sl *slab, err error) {
	c.raw, c.slab, c.err = raw, sl, err
	if err != nil {
		s.mu.Lock()
		delete(s.mu.live, c.key) // an error is never kept: the next reader fetches anew
		s.mu.Unlock()
	}
	close(c.done)
	c.release()
}

// keep gives the cache what one fetch brought, with a reference for each chunk,
// unless memory is short: then nothing stays for later.
func (s *chunkSet) keep(key chunkKey, chunks []*chunk) {
	if len(chunks) == 0 || s.slabs.waiting.Load() > 0 {
		releaseAll(chunks)
		return
	}
	s.cache.Set(key, chunks)
}

// touch tells the cache that c was used.
func (s *chunkSet) touch(c *chunk) { s.cache.GetIfPresent(c.cached) }

// shrink drops cached chunks, the coldest first, until they hold bytes less.
func (s *chunkSet) shrink(bytes int64) {
	var keys []chunkKey
	for e := range s.cache.Coldest() {
		if bytes <= 0 {
			break
		}
		keys = append(keys, e.Key)
		bytes -= int64(e.Weight)
	}
	for _, k := range keys {
		s.cache.Invalidate(k)
	}
}

func (c *chunk) release() {
	s := c.set
	s.mu.Lock()
	c.refs--
	if c.refs < 0 {
		panic("tiering: chunk released more often than referenced")
	}
	free := c.refs == 0
	if free && s.mu.live[c.key] == c {
		delete(s.mu.live, c.key)
	}
	s.mu.Unlock()
	if free && c.slab != nil {
		c.slab.release()
	}
}

func (c *chunk) ready() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func (c *chunk) failed() bool { return c.ready() && c.err != nil }

// wait returns when c is fetched, or with ErrPending when ctx ends; the fetch
// goes on.
func (c *chunk) wait(ctx context.Context) error {
	if c.ready() {
		return c.err
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return fmt.Errorf("read chunk %d of %s: %w: %w", c.key.n, c.key.object, ErrPending, ctx.Err())
	}
}
