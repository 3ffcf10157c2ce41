package commitlog

import (
	"fmt"
	"math"
	"time"

	"varve/broker/internal/vfs"
)

// segmentForLocked is the segment that the next n bytes, ending at offset next, go to. It makes the
// first one, and rolls when the active one is full or old.
func (l *Log) segmentForLocked(n, next, nowMS int64) (*segment, error) {
	s := l.activeLocked()
	if s == nil {
		return l.createActiveLocked(nowMS, false)
	}
	if s.meta.size == 0 {
		return s, nil
	}
	cfg := l.config()
	full := s.meta.size+n > cfg.SegmentBytes || next-s.base > math.MaxInt32
	old := cfg.SegmentAge > 0 && s.ageMS(nowMS) > cfg.SegmentAge.Milliseconds()
	if !full && !old {
		return s, nil
	}
	quick := full && cfg.RecycleWindow > 0 && s.ageMS(nowMS) <= cfg.RecycleWindow.Milliseconds()
	return l.rollLocked(nowMS, quick)
}

// ageMS is how far its first append lies from now. A clock that was far ahead then and is right again must
// not keep the segment open until it catches up.
func (s *segment) ageMS(nowMS int64) int64 {
	return max(nowMS-s.meta.createdMS, s.meta.createdMS-nowMS)
}

// Roll seals the active segment if it holds anything. reason is for the log line.
func (l *Log) Roll(reason string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usableLocked(); err != nil {
		return err
	}
	s := l.activeLocked()
	if s == nil || s.meta.size == 0 {
		return nil
	}
	if err := l.sealLocked(s); err != nil {
		return err
	}
	l.env.cfg.Log.Debug("segment rolled", "log", l.dir, "base", s.base, "next", s.meta.next, "reason", reason)
	// The next append makes the next file, so an idle partition has no empty one.
	l.env.queue.push(l)
	return nil
}

// MaybeRollByAge seals the active segment if its first append is older than SegmentAge. It tells
// whether it did.
func (l *Log) MaybeRollByAge(now time.Time) (bool, error) {
	age := l.config().SegmentAge
	l.mu.Lock()
	s := l.activeLocked()
	due := s != nil && age > 0 && s.meta.size > 0 && s.ageMS(now.UnixMilli()) > age.Milliseconds()
	l.mu.Unlock()
	if !due {
		return false, nil
	}
	return true, l.Roll("age")
}

// rollLocked makes the next segment and then seals the active one, so that want of space leaves
// all as it is.
func (l *Log) rollLocked(nowMS int64, quick bool) (*segment, error) {
	old := l.activeLocked()
	s, err := l.createLocked(nowMS, quick)
	if err != nil {
		return nil, err
	}
	l.env.step("roll.created")
	if quick {
		s.entries = make([]indexEntry, 0, len(old.entries)+1) // it will likely have as many
	}
	if err := l.sealLocked(old); err != nil {
		return nil, err
	}
	l.addSegmentLocked(s)
	return s, nil
}

// createActiveLocked makes the segment at LEO and adds it to the list.
func (l *Log) createActiveLocked(nowMS int64, quick bool) (*segment, error) {
	s, err := l.createLocked(nowMS, quick)
	if err != nil {
		return nil, err
	}
	l.addSegmentLocked(s)
	return s, nil
}

func (l *Log) addSegmentLocked(s *segment) {
	list := l.list()
	grown := make([]*segment, len(list), len(list)+1)
	copy(grown, list)
	l.setListLocked(append(grown, s))
}

// createLocked makes the file of a segment that begins at LEO: one from the pool if the last
// segment filled quickly, else a new one. Its name becomes durable with the next flush.
func (l *Log) createLocked(nowMS int64, quick bool) (*segment, error) {
	e := l.env
	s := newSegment(e, l.dir, l.leo.Load(), nowMS)
	if l.mu.dir != dirDurable {
		if err := e.dirs.make(l.dir); err != nil {
			return nil, e.writeError(fmt.Errorf("make log directory: %w", err))
		}
	}
	if l.mu.names != l.mu.namesSync {
		// The name before this one becomes durable first, so that recovery may take a hole between
		// segments for damage. It costs something only if two rolls fall between two flushes.
		if err := l.syncNames(l.mu.dir, l.mu.poolSync); err != nil {
			return nil, e.fail(err)
		}
		l.mu.namesSync, l.mu.poolSync, l.mu.dir = l.mu.names, false, dirDurable
	}
	if quick {
		f, size, err := e.pool.take(l, s)
		if err != nil {
			return nil, e.writeError(err)
		}
		if f != nil {
			s.grow = growth{alloc: size, zero: size, recycled: true}
			s.setFile(f)
			l.mu.names++
			l.mu.poolSync = true
			e.step("recycle.taken")
			return s, nil
		}
	}
	f, err := e.cfg.FS.Create(s.logName())
	if err != nil {
		return nil, e.writeError(fmt.Errorf("create segment: %w", err))
	}
	s.setFile(f)
	l.mu.names++
	return s, nil
}

// setFile hands a new segment its open file.
func (s *segment) setFile(f vfs.File) {
	s.io.Lock()
	defer s.io.Unlock()
	s.setFileLocked(f)
}

// sealLocked makes the active segment immutable. Its index file is written by the janitor once its
// bytes are durable; until then the index lives in memory, and a crash finds it by scanning.
func (l *Log) sealLocked(s *segment) error {
	if !s.loaded {
		if err := l.loadActiveLocked(s); err != nil {
			return err
		}
	}
	s.meta.abortedCount = uint32(len(s.aborted))
	x := &indexFile{
		indexFooter: indexFooter{segmentMeta: s.meta, kind: kindSegment},
		index:       s.entries,
		history:     l.mu.epochs,
		abortedBy:   s.aborted,
		snapshot:    l.mu.producers.encode(s.meta.next),
	}
	s.sealing = x
	s.index.Store(&segIndex{entries: s.entries, aborted: s.aborted})
	s.entries, s.aborted = nil, nil
	s.sealed.Store(true)
	if s.synced >= s.meta.size {
		l.env.janitor.pushSeal(l) // no flush will come that does
	}
	return nil
}

// persistSealed writes the index files of sealed segments whose bytes are durable, oldest first and
// each durable before the next, so that recovery may take a segment without one that lies before
// one with an index for damage, not for a torn tail. The caller holds filesMu.
func (l *Log) persistSealed() error {
	for {
		s := l.nextToPersist()
		if s == nil {
			return nil
		}
		if err := l.persist(s); err != nil {
			return err
		}
	}
}

func (l *Log) nextToPersist() *segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.list() {
		if s.persisted {
			continue
		}
		if s.sealed.Load() && s.synced >= s.meta.size {
			return s
		}
		return nil
	}
	return nil
}

// persist writes one index file. Want of space is not final: the segment stays as it is, and the
// janitor tries again.
func (l *Log) persist(s *segment) error {
	e := l.env
	e.step("roll.before-index")
	if err := l.trim(s); err != nil {
		return err
	}
	l.mu.Lock()
	x := s.sealing
	l.mu.Unlock()
	at := e.watch.begin()
	err := writeFileSynced(e.cfg.FS, l.dir, s.indexName(), x.encode(), func() { e.step("roll.index-written") })
	e.watch.end(at)
	if err != nil {
		return e.writeError(fmt.Errorf("seal segment %d: %w", s.base, err))
	}
	e.step("roll.renamed")
	l.mu.Lock()
	s.persisted, s.sealing = true, nil
	l.mu.Unlock()
	if x := s.index.Load(); x != nil {
		e.indexes.add(s, x.bytes())
	}
	return nil
}

// trim gives back what a growing file holds beyond its data. A recycled file keeps its length:
// it may be recycled again.
func (l *Log) trim(s *segment) error {
	l.mu.Lock()
	grow, size := s.grow, s.meta.size
	l.mu.Unlock()
	if grow.recycled || grow.alloc <= size && grow.zero <= size {
		return nil
	}
	f, err := s.pin()
	if err != nil {
		return err
	}
	defer s.unpin()
	if err := f.Truncate(size); err != nil {
		return l.env.writeError(fmt.Errorf("trim segment %d: %w", s.base, err))
	}
	return nil
}
