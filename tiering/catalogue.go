package tiering

import (
	"container/list"
	"sync"
)

// catalogue says which byte ranges of which objects are in the disk cache, and
// which go next. It is a segmented LRU in memory: what was never read again since
// it came (probation) leaves before what was (protected).
//
// Admission resists scans: while there is room everything is taken; once full,
// only a range that was asked for before, within about as many others as the
// cache holds. One replay of a history larger than the cache thus displaces
// nothing.
//
//	used <= limit, except while a write that was admitted replaces others
type catalogue struct {
	limit int64
	mu    struct {
		sync.Mutex
		objects          map[objectHash]map[*extent]struct{}
		probation, saved list.List // of *extent, most recent in front; saved = protected
		used, savedBytes int64
		ghosts           map[ghostKey]struct{}
		ghostRing        []ghostKey
		ghostNext        int
	}
}

// extent is a byte range of one object, as one file.
type extent struct {
	object   objectHash
	pos, len int64
	saved    bool
	elem     *list.Element
}

type ghostKey struct {
	object objectHash
	pos    int64
}

const (
	// ghostBytes is what one ghost stands for: a chunk.
	ghostBytes = 1 << 20
	maxGhosts  = 1 << 16
)

func newCatalogue(limit int64) *catalogue {
	c := &catalogue{limit: limit}
	c.mu.objects = make(map[objectHash]map[*extent]struct{})
	c.mu.ghosts = make(map[ghostKey]struct{})
	c.mu.ghostRing = make([]ghostKey, min(max(limit/ghostBytes, 16), maxGhosts))
	return c
}

// find returns an extent that covers [pos, pos+n) and marks it used; n < 0 asks
// for any extent that begins at pos.
func (c *catalogue) find(object objectHash, pos, n int64) (extent, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := range c.mu.objects[object] {
		if n < 0 && e.pos == pos || n >= 0 && e.pos <= pos && pos+n <= e.pos+e.len {
			c.promoteLocked(e)
			return *e, true
		}
	}
	return extent{}, false
}

func (c *catalogue) promoteLocked(e *extent) {
	if e.saved {
		c.mu.saved.MoveToFront(e.elem)
		return
	}
	c.mu.probation.Remove(e.elem)
	e.saved, e.elem = true, c.mu.saved.PushFront(e)
	c.mu.savedBytes += e.len
	for c.mu.savedBytes > c.limit/5*4 && c.mu.saved.Len() > 1 {
		last := c.mu.saved.Back().Value.(*extent)
		c.mu.saved.Remove(last.elem)
		last.saved, last.elem = false, c.mu.probation.PushFront(last)
		c.mu.savedBytes -= last.len
	}
}

// admit decides whether a range that was just fetched is worth writing. starts
// are the positions of its chunks.
func (c *catalogue) admit(object objectHash, pos, n int64, starts []int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > c.limit {
		return false
	}
	if c.mu.used+n <= c.limit {
		return true
	}
	if len(starts) == 0 {
		starts = []int64{pos}
	}
	seen := false
	for _, s := range starts {
		k := ghostKey{object, s}
		if _, ok := c.mu.ghosts[k]; ok {
			seen = true
			continue
		}
		delete(c.mu.ghosts, c.mu.ghostRing[c.mu.ghostNext])
		c.mu.ghosts[k] = struct{}{}
		c.mu.ghostRing[c.mu.ghostNext] = k
		c.mu.ghostNext = (c.mu.ghostNext + 1) % len(c.mu.ghostRing)
	}
	return seen
}

// add enters a range that is on disk now and returns those that must leave; dup
// says that it is there already.
func (c *catalogue) add(e extent) (evict []extent, dup bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hasLocked(&e) {
		return nil, true
	}
	for c.mu.used+e.len > c.limit {
		v := c.victimLocked()
		if v == nil {
			break
		}
		evict = append(evict, *v)
		c.removeLocked(v)
	}
	n := &extent{object: e.object, pos: e.pos, len: e.len}
	n.elem = c.mu.probation.PushFront(n)
	if c.mu.objects[e.object] == nil {
		c.mu.objects[e.object] = make(map[*extent]struct{})
	}
	c.mu.objects[e.object][n] = struct{}{}
	c.mu.used += e.len
	return evict, false
}

// coldest takes out what would be evicted next, until it is n bytes or limit
// extents, and returns it.
func (c *catalogue) coldest(n int64, limit int) (gone []extent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n > 0 && len(gone) < limit {
		v := c.victimLocked()
		if v == nil {
			break
		}
		n -= v.len
		gone = append(gone, *v)
		c.removeLocked(v)
	}
	return gone
}

// victimLocked is the extent to go next; nil if there is none.
func (c *catalogue) victimLocked() *extent {
	last := c.mu.probation.Back()
	if last == nil {
		last = c.mu.saved.Back()
	}
	if last == nil {
		return nil
	}
	return last.Value.(*extent)
}

// has reports whether exactly this extent is there, without using it.
func (c *catalogue) has(e *extent) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hasLocked(e)
}

func (c *catalogue) hasLocked(e *extent) bool {
	for old := range c.mu.objects[e.object] {
		if old.pos == e.pos && old.len == e.len {
			return true
		}
	}
	return false
}

// remove forgets the extents that overlap [pos, pos+n) and returns them.
func (c *catalogue) remove(object objectHash, pos, n int64) []extent {
	c.mu.Lock()
	defer c.mu.Unlock()
	var gone []extent
	for e := range c.mu.objects[object] {
		if e.pos < pos+n && pos < e.pos+e.len {
			gone = append(gone, *e)
			c.removeLocked(e)
		}
	}
	return gone
}

func (c *catalogue) removeLocked(e *extent) {
	if e.saved {
		c.mu.saved.Remove(e.elem)
		c.mu.savedBytes -= e.len
	} else {
		c.mu.probation.Remove(e.elem)
	}
	c.mu.used -= e.len
	delete(c.mu.objects[e.object], e)
	if len(c.mu.objects[e.object]) == 0 {
		delete(c.mu.objects, e.object)
	}
}

func (c *catalogue) usedBytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.used
}
