package api

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"varve/broker/partition"
)

// fetchSession is an incremental fetch session (KIP-227): the partitions a consumer reads are
// named once, and idle ones cost nothing afterwards, because a partition comes onto the dirty list
// only when it moves.
type fetchSession struct {
	id    int32
	mu    sync.Mutex // held by the one request that works on the session
	epoch int32      // of the next request
	ids   bool       // topics are named by id
	parts map[partKey]*fetchPart
	slots []*fetchPart // by Sub.Tag; nil where a partition was forgotten
	free  []int64
	names map[string]*fetchTopic

	lastUsed time.Time   // guarded by fetchSessions.mu
	dropped  atomic.Bool // no longer in the cache: whoever lets go of mu closes it
	wake     waker

	dirt struct {
		sync.Mutex
		list []*fetchPart
	}
}

type partKey struct {
	topic *fetchTopic
	index int32
}

// fetchSessions is the bounded cache of sessions.
type fetchSessions struct {
	mu  sync.Mutex
	max int
	m   map[int32]*fetchSession
}

// sessionMinAge protects a session in use from being pushed out by new ones, as in Kafka.
const sessionMinAge = 2 * time.Minute

// open makes a session, or returns nil if the cache is full of sessions in use: the client then
// sends full requests.
func (c *fetchSessions) open(now time.Time) *fetchSession {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.m) >= c.max && !c.evictLocked(now) {
		return nil
	}
	s := &fetchSession{parts: map[partKey]*fetchPart{}, names: map[string]*fetchTopic{}, lastUsed: now}
	s.wake.signal = make(chan struct{}, 1)
	for s.id == 0 || c.m[s.id] != nil {
		s.id = rand.Int32()
	}
	c.m[s.id] = s
	s.mu.Lock()
	return s
}

func (c *fetchSessions) evictLocked(now time.Time) bool {
	var oldest *fetchSession
	for _, s := range c.m {
		if oldest == nil || s.lastUsed.Before(oldest.lastUsed) {
			oldest = s
		}
	}
	if oldest == nil || now.Sub(oldest.lastUsed) < sessionMinAge || !oldest.mu.TryLock() {
		return false
	}
	delete(c.m, oldest.id)
	oldest.close()
	oldest.mu.Unlock()
	return true
}

// get finds a session and takes it for one request.
func (c *fetchSessions) get(id int32, now time.Time) (*fetchSession, *kerr.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.m[id]
	if s == nil {
		return nil, kerr.FetchSessionIDNotFound
	}
	if !s.mu.TryLock() { // another connection is using it
		return nil, kerr.InvalidFetchSessionEpoch
	}
	s.lastUsed = now
	return s, nil
}

// drop forgets a session. It does not wait for a request that is parked in it: a client that hung
// up on a long poll and closes its session on another connection would wait for that poll's end.
func (c *fetchSessions) drop(id int32) {
	c.mu.Lock()
	s := c.m[id]
	delete(c.m, id)
	c.mu.Unlock()
	if s == nil {
		return
	}
	s.dropped.Store(true)
	s.closeIfDropped()
}

// openSession finds what the request's (session id, epoch) mean (KIP-227).
func (f *fetch) openSession() *kerr.Error {
	q := &f.req
	now := f.api.cfg.Now()
	if q.version < 7 || q.sessionEpoch == -1 || q.sessionEpoch == 0 {
		if q.version >= 7 && q.sessionID != 0 {
			f.api.sessions.drop(q.sessionID)
		}
		if q.version >= 7 && q.sessionEpoch == 0 {
			if f.set = f.api.sessions.open(now); f.set != nil {
				f.set.ids, f.set.epoch = q.version >= 13, 1
			}
		}
		return nil
	}
	s, code := f.api.sessions.get(q.sessionID, now)
	if code != nil {
		return code
	}
	switch {
	case s.epoch != q.sessionEpoch:
		code = kerr.InvalidFetchSessionEpoch
	case s.ids != (q.version >= 13):
		code = kerr.FetchSessionTopicIDError
	}
	if code != nil {
		s.unlock()
		return code
	}
	if s.epoch++; s.epoch < 0 {
		s.epoch = 1
	}
	f.set, f.full = s, false
	return nil
}

// update takes a request's additions, changes and removals over.
func (s *fetchSession) update(f *fetch, r *reader) {
	var raw fetchTopic
	var t *fetchTopic // raw as the session keeps it, made at the first partition
	f.eachPart(r, func(next fetchTopic) *fetchTopic { raw, t = next, nil; return &raw }, func(_ *fetchTopic, p fetchPart) {
		if t == nil {
			t = s.topicOf(raw)
		}
		k := partKey{t, p.index}
		have := s.parts[k]
		if have == nil {
			have = &fetchPart{topic: t, index: p.index, sentHW: -2, sentLow: -1}
			s.insert(have)
			s.parts[k] = have
			t.parts++
		}
		have.offset, have.max, have.epoch, have.named = p.offset, p.max, p.epoch, true
		s.markDirty(have)
	})
	f.eachForgotten(r, func(t fetchTopic, index int32) {
		known := s.names[s.nameOf(&t)]
		if p := s.parts[partKey{known, index}]; p != nil {
			delete(s.parts, partKey{known, index})
			s.remove(p)
			if known.parts--; known.parts == 0 { // a session that lives for ever must not collect names
				delete(s.names, s.nameOf(known))
			}
		}
	})
}

// nameOf is what tells topics of the session apart.
func (s *fetchSession) nameOf(t *fetchTopic) string {
	if s.ids {
		return string(t.id[:])
	}
	return string(t.name)
}

// topicOf interns a topic, so that a partition is found by pointer and the name outlives the frame.
func (s *fetchSession) topicOf(t fetchTopic) *fetchTopic {
	key := s.nameOf(&t)
	if have := s.names[key]; have != nil {
		return have
	}
	kept := &fetchTopic{name: append([]byte(nil), t.name...), id: t.id}
	s.names[key] = kept
	return kept
}

func (s *fetchSession) insert(p *fetchPart) {
	if n := len(s.free); n > 0 {
		p.sub.Tag, s.free = s.free[n-1], s.free[:n-1]
		s.slots[p.sub.Tag] = p
		return
	}
	p.sub.Tag = int64(len(s.slots))
	s.slots = append(s.slots, p)
}

func (s *fetchSession) remove(p *fetchPart) {
	p.unsubscribe() // before the slot is free: Wake looks the slot up
	p.gone = true
	s.dirt.Lock()
	s.slots[p.sub.Tag] = nil
	s.dirt.Unlock()
	s.free = append(s.free, p.sub.Tag)
}

// Wake implements partition.SubOwner: the partition moved.
func (s *fetchSession) Wake(sub *partition.Sub, _ int64) {
	s.dirt.Lock()
	if p := s.slots[sub.Tag]; p != nil && !p.dirty {
		p.dirty = true
		s.dirt.list = append(s.dirt.list, p)
	}
	s.dirt.Unlock()
	s.wake.Wake(nil, 0)
}

func (s *fetchSession) markDirty(p *fetchPart) {
	s.dirt.Lock()
	defer s.dirt.Unlock()
	if !p.dirty {
		p.dirty = true
		s.dirt.list = append(s.dirt.list, p)
	}
}

// takeDirty empties the dirty list into dst. Flags are cleared before the partitions are read, so
// that what moves during the read is seen by the next pass.
func (s *fetchSession) takeDirty(dst []*fetchPart) []*fetchPart {
	s.wake.drain()
	s.dirt.Lock()
	defer s.dirt.Unlock()
	for _, p := range s.dirt.list {
		p.dirty = false
		if !p.gone {
			dst = append(dst, p)
		}
	}
	clear(s.dirt.list)
	s.dirt.list = s.dirt.list[:0]
	return dst
}

func (s *fetchSession) unlock() {
	s.mu.Unlock()
	s.closeIfDropped()
}

// closeIfDropped is called after dropped was set and after mu was let go, so one of the two callers
// sees both; close may run twice.
func (s *fetchSession) closeIfDropped() {
	if s.dropped.Load() && s.mu.TryLock() {
		s.close()
		s.mu.Unlock()
	}
}

// close takes the session's partitions off their replicas.
func (s *fetchSession) close() {
	for _, p := range s.parts {
		s.remove(p)
	}
	clear(s.parts)
}
