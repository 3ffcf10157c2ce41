package commitlog

import "sync"

// fileCache bounds the segment files that are open. It evicts by second chance: the hand passes a
// file that was used since its last visit, and closes the next unpinned one.
type fileCache struct {
	limit int
	mu    struct {
		sync.Mutex
		open []*segment // every segment whose io.file is not nil, in no order
		hand int
	}
}

func (c *fileCache) init(limit int) { c.limit = limit }

// add notes that s has just opened its file, and evicts others if there are too many. The caller
// holds no lock of another segment but s.io.
func (c *fileCache) add(s *segment) {
	c.mu.Lock()
	s.slot = len(c.mu.open)
	c.mu.open = append(c.mu.open, s)
	excess := len(c.mu.open) - c.limit
	c.mu.Unlock()
	if excess > 0 {
		c.evict(s)
	}
}

// removed notes that s has closed its file. The caller holds s.io.
func (c *fileCache) removed(s *segment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(c.mu.open) - 1
	if s.slot > last || c.mu.open[s.slot] != s {
		return
	}
	moved := c.mu.open[last]
	c.mu.open[s.slot] = moved
	moved.slot = s.slot
	c.mu.open[last] = nil
	c.mu.open = c.mu.open[:last]
}

// evict closes one file that is neither pinned nor recently used, if there is one within two
// rounds of a bounded walk. Pinned files may exceed the limit; they close with their last pin.
func (c *fileCache) evict(not *segment) {
	const walk = 64 // longer walks would let one append pay for many idle pins
	for range walk {
		c.mu.Lock()
		n := len(c.mu.open)
		if n <= c.limit {
			c.mu.Unlock()
			return
		}
		c.mu.hand = (c.mu.hand + 1) % n
		s := c.mu.open[c.mu.hand]
		c.mu.Unlock()
		if s != not && s.tryClose() {
			return
		}
	}
}

// closeAll closes what is unpinned, at the end.
func (c *fileCache) closeAll() {
	c.mu.Lock()
	open := append([]*segment(nil), c.mu.open...)
	c.mu.Unlock()
	for _, s := range open {
		s.closeIdle()
	}
}

// count is for tests and metrics.
func (c *fileCache) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.mu.open)
}

// indexCache bounds the memory of sealed segments' index entries that can be read again from
// their index files. It evicts in the order of loading: an index is one read away.
type indexCache struct {
	limit int64
	mu    struct {
		sync.Mutex
		bytes  int64
		loaded []*segment
	}
}

func (c *indexCache) init(limit int64) { c.limit = limit }

// add notes that s holds an index that may be dropped at any time.
func (c *indexCache) add(s *segment, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.bytes += bytes
	c.mu.loaded = append(c.mu.loaded, s)
	for c.mu.bytes > c.limit && len(c.mu.loaded) > 1 {
		old := c.mu.loaded[0]
		c.mu.loaded[0] = nil
		c.mu.loaded = c.mu.loaded[1:]
		if x := old.index.Swap(nil); x != nil {
			c.mu.bytes -= x.bytes()
		}
	}
}

// removed drops the index of a segment that is gone.
func (c *indexCache) removed(s *segment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, l := range c.mu.loaded {
		if l == s {
			c.mu.loaded = append(c.mu.loaded[:i], c.mu.loaded[i+1:]...)
			if x := s.index.Swap(nil); x != nil {
				c.mu.bytes -= x.bytes()
			}
			return
		}
	}
}
