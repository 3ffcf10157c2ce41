package commitlog

import (
	"sync"
	"time"
)

// flushState is where a log is between an append and its flush.
type flushState uint8

const (
	flushIdle     flushState = iota
	flushQueued              // waits for a worker
	flushRuns                // a worker syncs it
	flushAgain               // a worker syncs it and it became dirty meanwhile
	flushLazy                // dirty, but may wait for FlushEvery
	flushThenLazy            // a worker syncs it and it became dirty meanwhile, but may wait
)

// flushGroup bounds the logs that a worker takes at a time. It takes its share of those that wait, has
// the disk begin to write all of them, and then syncs one after the other: each finds its bytes
// written, which halves the time and the CPU of its fdatasync. A larger group would begin so early
// that new appends to the same pages have them written twice.
const flushGroup = 16

// flushQueue holds the dirty logs in the order in which they became dirty. While a log's
// fdatasync runs, its further appends gather and go out with the next one: that is the group
// commit, and there is no timer in it. Its length is bounded by the number of logs.
type flushQueue struct {
	wake sync.Cond
	mu   struct {
		sync.Mutex
		ready  []*Log
		head   int // ready[head:] waits
		lazy   []*Log
		closed bool
	}
}

func (q *flushQueue) init() { q.wake.L = &q.mu.Mutex }

// push queues a dirty log. It is called after each append.
func (q *flushQueue) push(l *Log) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch l.flushState {
	case flushIdle, flushLazy:
		q.addLocked(l)
	case flushRuns, flushThenLazy:
		l.flushState = flushAgain
	case flushQueued, flushAgain:
	}
}

func (q *flushQueue) addLocked(l *Log) {
	l.flushState = flushQueued
	if q.mu.head > 0 && q.mu.head == len(q.mu.ready) {
		q.mu.ready, q.mu.head = q.mu.ready[:0], 0
	}
	q.mu.ready = append(q.mu.ready, l)
	q.wake.Signal()
}

// pushLazy queues a dirty write.caching log for later.
func (q *flushQueue) pushLazy(l *Log, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch l.flushState {
	case flushIdle:
		l.flushState, l.lazySince = flushLazy, now
		q.mu.lazy = append(q.mu.lazy, l)
	case flushRuns: // the flush under way may not cover it
		l.flushState, l.lazySince = flushThenLazy, now
	case flushQueued, flushAgain, flushLazy, flushThenLazy:
	}
}

// pushDue queues the lazy logs whose time has come.
func (q *flushQueue) pushDue(now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	keep := q.mu.lazy[:0]
	for _, l := range q.mu.lazy {
		switch {
		case l.flushState != flushLazy: // flushed for another reason
		case q.mu.closed || now.Sub(l.lazySince) >= l.config().FlushEvery:
			q.addLocked(l)
		default:
			keep = append(keep, l)
		}
	}
	clear(q.mu.lazy[len(keep):])
	q.mu.lazy = keep
}

// pop waits for dirty logs and appends one worker's share of them to group; nothing when the queue is
// closed and empty. They stay queued until begin, so that what is appended before it belongs to the
// flush that begin starts.
func (q *flushQueue) pop(group []*Log, workers int) []*Log {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.mu.head == len(q.mu.ready) {
		if q.mu.closed {
			return group
		}
		q.wake.Wait()
	}
	ready := q.mu.ready[q.mu.head:]
	n := min((len(ready)+workers-1)/workers, flushGroup)
	group = append(group, ready[:n]...)
	clear(ready[:n])
	q.mu.head += n
	return group
}

// begin starts a worker's turn with a log that it popped.
func (q *flushQueue) begin(l *Log) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l.flushState = flushRuns
}

// done ends a worker's turn with a log.
func (q *flushQueue) done(l *Log) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case l.flushState == flushAgain || l.flushState == flushThenLazy && q.mu.closed:
		q.addLocked(l)
	case l.flushState == flushThenLazy:
		l.flushState = flushLazy
		q.mu.lazy = append(q.mu.lazy, l)
	default:
		l.flushState = flushIdle
	}
}

// close lets the workers empty the queue, lazy logs included, and then end.
func (q *flushQueue) close() {
	q.mu.Lock()
	q.mu.closed = true
	q.mu.Unlock()
	q.pushDue(time.Time{})
	q.wake.Broadcast()
}

// flushWorker syncs dirty logs until the environment closes.
func (e *Env) flushWorker() {
	var space [flushGroup]*Log
	for {
		group := e.queue.pop(space[:0], e.cfg.FlushParallel)
		if len(group) == 0 {
			return
		}
		if len(group) > 1 { // else the sync itself begins to write at once
			for _, l := range group {
				l.startWriteback()
			}
		}
		for i, l := range group {
			group[i] = nil
			e.flushOne(l)
		}
	}
}

func (e *Env) flushOne(l *Log) {
	e.queue.begin(l)
	l.flushMu.Lock()
	err := l.flush()
	l.flushMu.Unlock()
	// After a storage error nothing is acknowledged, not even what an earlier flush covered.
	if err == nil {
		l.notify()
		l.zeroAhead()
	}
	e.queue.done(l)
}

// startWriteback has the disk begin with what the next flush waits for. It promises nothing: an error
// of the disk stays with the file until that flush's fdatasync reports it.
func (l *Log) startWriteback() {
	l.mu.Lock()
	s := l.activeLocked()
	if s == nil || s.synced >= s.meta.size {
		l.mu.Unlock()
		return
	}
	from, size := s.synced, s.meta.size
	l.mu.Unlock()
	f, err := s.pin()
	if err != nil {
		return // the flush meets it too, if it matters
	}
	defer s.unpin()
	f.StartWriteback(from, size-from)
}

// notify tells a rise of Durable. It may be told twice, and after a truncation that came between it
// is told what Durable is then.
func (l *Log) notify() {
	if l.advanced.Swap(false) && l.onDurable != nil {
		l.onDurable(l.Durable())
	}
}

// flushItem is one segment of a flush: its bytes up to size.
type flushItem struct {
	seg  *segment
	size int64
}

// flush makes everything that was appended before it durable and advances Durable. The caller
// holds flushMu. Segments are synced in order, so Durable never passes a hole; names come after
// the bytes and before Durable. Any error is final: fdatasync is never tried again, because a second
// one can report success for pages that are lost.
func (l *Log) flush() error {
	e := l.env
	var space [4]flushItem
	l.mu.Lock()
	if err := e.Failed(); err != nil {
		l.mu.Unlock()
		return err
	}
	if l.mu.removed { // its files are gone, and nobody waits for them
		l.mu.Unlock()
		return nil
	}
	items := l.unsyncedLocked(space[:0])
	names, pool, dir := l.mu.names, l.mu.poolSync, l.mu.dir
	namesDue := names != l.mu.namesSync
	target := l.leo.Load()
	l.mu.Unlock()

	for _, it := range items {
		if err := it.seg.sync(); err != nil {
			return e.fail(err)
		}
		e.step("flush.synced")
	}
	if namesDue {
		if err := l.syncNames(dir, pool); err != nil {
			return e.fail(err)
		}
		e.step("flush.dirs")
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	if err := e.Failed(); err != nil {
		return err
	}
	if namesDue {
		l.mu.namesSync, l.mu.dir = max(names, l.mu.namesSync), dirDurable
		if names == l.mu.names {
			l.mu.poolSync = false
		}
	}
	sealed := false
	for _, it := range items {
		it.seg.noteSyncedLocked(it.size)
		sealed = sealed || it.seg.sealed.Load()
	}
	if target > l.durable.Load() {
		l.durable.Store(target)
		l.advanced.Store(true)
	}
	if sealed {
		e.janitor.pushSeal(l)
	}
	return nil
}

// unsyncedLocked lists the segments with unsynced bytes, oldest first.
func (l *Log) unsyncedLocked(items []flushItem) []flushItem {
	list := l.list()
	i := len(list)
	for i > 0 && (list[i-1].synced < list[i-1].meta.size || list[i-1].meta.size == 0) {
		i--
	}
	for _, s := range list[i:] {
		if s.meta.size > 0 {
			items = append(items, flushItem{s, s.meta.size})
		}
	}
	return items
}

// syncNames makes the names of the log's files durable.
func (l *Log) syncNames(dir dirState, pool bool) error {
	at := l.env.watch.begin()
	defer l.env.watch.end(at)
	if err := l.env.dirs.syncNames(l.dir, dir); err != nil {
		return err
	}
	if pool {
		return l.env.pool.syncDir()
	}
	return nil
}

// sync is one fdatasync of the segment's file.
func (s *segment) sync() error {
	f, err := s.pin()
	if err != nil {
		return err
	}
	defer s.unpin()
	s.io.Lock()
	s.io.dirty = false // what is written from here on sets it again
	s.io.Unlock()
	at := s.env.watch.begin()
	defer s.env.watch.end(at)
	return asSyncError(f.Sync())
}
