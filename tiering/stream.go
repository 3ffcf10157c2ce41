package tiering

import (
	"slices"
	"sync"
	"time"
)

// stream is one sequential reader as the tier sees it: whoever asks next for the
// offset after the last answer. It pins what is read ahead for it, because the
// memory cache may drop a chunk that was not used yet, and then a reader would
// fetch it for ever.
type stream struct {
	p  *Partition
	mu struct {
		sync.Mutex
		closed     bool
		used       time.Time
		prev, next int64 // offset of the last answer, and the one expected now
		hits       int   // answers in sequence
		depth      int64 // bytes to have ahead of next
		planning   bool  // a goroutine extends the window
		// window is gapless in offsets, tail its end; chunks wholly below prev are out.
		window []held
		tail   int64
	}
}

type held struct {
	c           *chunk
	first, last int64
	bytes       int64 // of budget, about
}

// streamFor finds the stream that expects offset, or asks for its last answer
// again; else it begins a new one.
func (p *Partition) streamFor(offset int64) *stream {
	now := p.t.cfg.Now()
	p.mu.Lock()
	for _, s := range p.mu.streams {
		if s.matches(offset, now) {
			p.mu.Unlock()
			return s
		}
	}
	s := &stream{p: p}
	s.mu.prev, s.mu.next, s.mu.tail, s.mu.used = offset, offset, offset, now
	p.mu.streams = append(p.mu.streams, s)
	var drop *stream
	if len(p.mu.streams) > maxStreams {
		drop = slices.MinFunc(p.mu.streams[:len(p.mu.streams)-1], func(a, b *stream) int { return a.lastUsed().Compare(b.lastUsed()) })
	}
	p.mu.Unlock()
	if drop == nil && p.t.streamCount.Load() >= maxTierStreams {
		drop = p.t.streamsByUse()[0]
	}
	if drop != nil {
		drop.p.dropStream(drop)
	}
	p.t.addStream(s)
	return s
}

func (s *stream) matches(offset int64, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed || offset != s.mu.next && offset != s.mu.prev {
		return false
	}
	s.mu.used = now
	return true
}

func (s *stream) lastUsed() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.used
}

// activity is how long the stream has not been used, and whether its reader is
// sequential.
func (s *stream) activity(now time.Time) (unused time.Duration, sequential bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Sub(s.mu.used), s.mu.hits > 1
}

// take references the chunk at pl, from the window or by a fetch, and pins it. A
// read-ahead that failed is no answer: nobody had asked for it then.
func (s *stream) take(pl place, maxBytes int) *chunk {
	want := pl.chunk()
	s.mu.Lock()
	for i := range s.mu.window {
		if h := &s.mu.window[i]; h.first == want.First && h.c.key.object == pl.o.key && !h.c.failed() {
			c := h.c
			c.reference()
			s.mu.Unlock()
			s.p.t.stats.memoryHits.Add(1)
			return c
		}
	}
	run := min(int64(maxBytes), maxRun)
	if s.mu.hits > 0 {
		run = max(run, runSize(s.mu.depth))
	}
	s.mu.Unlock()

	chunks := s.p.t.hold(pl.o, pl.n, run, true)
	c := chunks[0]
	c.reference() // the caller's; the others are the window's
	s.pin(pl, chunks, -1)
	return c
}

// pin adds chunks, which begin at pl, to the window: at its end if that is still
// at tail, in place of it if tail is negative. Otherwise they are released.
func (s *stream) pin(pl place, chunks []*chunk, tail int64) {
	s.mu.Lock()
	if s.mu.closed || tail >= 0 && s.mu.tail != tail {
		s.mu.Unlock()
		releaseAll(chunks)
		return
	}
	var old []held
	if tail < 0 {
		old, s.mu.window = s.mu.window, nil
	}
	for i, c := range chunks {
		x := &pl.o.idx.Chunks[pl.n+i]
		s.mu.window = append(s.mu.window, held{c, x.First, x.Last, int64(max(x.Stored, x.Raw))})
		s.mu.tail = x.Last + 1
	}
	s.mu.Unlock()
	releaseHeld(old)
}

// advance notes an answer of [offset, next) and reads ahead once the reader has
// proved to be sequential.
func (s *stream) advance(offset, next int64) {
	s.mu.Lock()
	if s.mu.closed || next <= offset {
		s.mu.Unlock()
		return
	}
	if offset == s.mu.next {
		if s.mu.hits++; s.mu.hits == 2 {
			s.p.t.readers.Add(1)
		}
	}
	s.mu.prev, s.mu.next = offset, next
	var done []held
	for len(s.mu.window) > 0 && s.mu.window[0].last < offset {
		done = append(done, s.mu.window[0])
		s.mu.window = s.mu.window[1:]
	}
	start := false
	if s.mu.hits > 1 {
		s.mu.depth = min(max(2*s.mu.depth, 2*minRun), s.p.t.depthLimit())
		start = !s.mu.planning
		s.mu.planning = true
	}
	s.mu.Unlock()
	releaseHeld(done)
	if start && !s.p.t.background(s.plan) {
		s.stopPlanning()
	}
}

// depthLimit shares half of the memory among the readers: the window shrinks as
// their number grows. The cache has a quarter, and the rest is for what is being
// answered.
func (t *Tier) depthLimit() int64 {
	share := t.cfg.MemoryBytes / 2 / max(t.readers.Load(), 1)
	return min(max(share, minRun), maxWindow)
}

// runSize is how much one GET of a window brings, so that two to four of them
// fill it.
func runSize(depth int64) int64 {
	switch {
	case depth >= 2*maxRun:
		return maxRun
	case depth >= 4*minRun:
		return 2 * minRun
	}
	return minRun
}

// plan extends the window until it holds depth bytes ahead of the reader, across
// the borders of chunks and objects. Each turn begins at most one GET and does
// not wait for it, so up to four are in flight.
func (s *stream) plan() {
	t := s.p.t
	for {
		tail, run, ok := s.room()
		if !ok {
			return
		}
		v, err := s.p.current(t.ctx)
		if err != nil || tail >= v.m.TieredEnd {
			break
		}
		pl, err := s.p.locate(t.ctx, v, tail)
		if err != nil {
			break // the reader will meet the error itself
		}
		chunks := t.hold(pl.o, pl.n, run, false)
		if len(chunks) == 0 {
			break
		}
		// The reader may have moved the window meanwhile. It has begun no other planning, because
		// this one goes on: so it has to look again rather than to end.
		s.pin(pl, chunks, tail)
	}
	s.stopPlanning()
}

// room reports where to go on and how much to fetch at once; not ok ends the
// planning.
func (s *stream) room() (tail, run int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	run = runSize(s.mu.depth)
	ahead := int64(0)
	for i := range s.mu.window {
		if s.mu.window[i].last >= s.mu.next {
			ahead += s.mu.window[i].bytes
		}
	}
	if s.mu.closed || ahead > 0 && ahead+run > s.mu.depth {
		s.mu.planning = false
		return 0, 0, false
	}
	s.mu.tail = max(s.mu.tail, s.mu.next) // the reader may have gone past the window by cached chunks
	return s.mu.tail, run, true
}

func (s *stream) stopPlanning() {
	s.mu.Lock()
	s.mu.planning = false
	s.mu.Unlock()
}

// dropAhead unpins everything and returns about how many bytes that frees.
func (s *stream) dropAhead() (freed int64) {
	s.mu.Lock()
	window := s.mu.window
	s.mu.window, s.mu.tail, s.mu.depth = nil, s.mu.next, s.mu.depth/2
	s.mu.Unlock()
	for i := range window {
		if window[i].c.ready() {
			freed += window[i].bytes
		}
	}
	releaseHeld(window)
	return freed
}

// reset forgets a window in which a read failed.
func (s *stream) reset() {
	s.dropAhead()
	s.mu.Lock()
	s.mu.hits = 0
	s.mu.Unlock()
}

// close ends the stream.
func (s *stream) close() {
	s.mu.Lock()
	s.mu.closed = true
	s.mu.Unlock()
	s.dropAhead()
}

func (p *Partition) dropStream(s *stream) {
	p.mu.Lock()
	p.mu.streams = slices.DeleteFunc(p.mu.streams, func(x *stream) bool { return x == s })
	p.mu.Unlock()
	t := p.t
	t.mu.Lock()
	delete(t.mu.streams, s)
	t.streamCount.Store(int64(len(t.mu.streams)))
	t.mu.Unlock()
	s.close()
}

func (t *Tier) addStream(s *stream) {
	t.mu.Lock()
	closed := t.mu.closed
	if !closed {
		t.mu.streams[s] = struct{}{}
		t.streamCount.Store(int64(len(t.mu.streams)))
	}
	t.mu.Unlock()
	if closed {
		s.close()
	}
}

// streamsByUse lists all streams, the least recently used first.
func (t *Tier) streamsByUse() []*stream {
	t.mu.Lock()
	all := make([]*stream, 0, len(t.mu.streams))
	for s := range t.mu.streams {
		all = append(all, s)
	}
	t.mu.Unlock()
	used := make(map[*stream]time.Time, len(all))
	for _, s := range all {
		used[s] = s.lastUsed()
	}
	slices.SortFunc(all, func(a, b *stream) int { return used[a].Compare(used[b]) })
	return all
}

func releaseHeld(window []held) {
	for i := range window {
		window[i].c.release()
	}
}

func releaseAll(chunks []*chunk) {
	for _, c := range chunks {
		c.release()
	}
}
