package commitlog

import (
	"errors"
	"fmt"
)

// DropBefore removes the sealed, durable segments that lie wholly below offset: to the pool if
// they may be recycled, else for good. The caller has made LogStart or TieredEnd durable before.
// Held Spans stay readable. It answers what it removed.
func (l *Log) DropBefore(offset int64) (segments int, bytes int64, err error) {
	l.filesMu.Lock()
	defer l.filesMu.Unlock()
	drop, start, err := l.chooseDrop(offset)
	if err != nil || len(drop) == 0 {
		return 0, 0, err
	}
	// Durable before the first file goes: from here on they are void, whatever a crash leaves.
	if err := l.writeStart(start); err != nil {
		return 0, 0, l.env.writeError(err)
	}
	l.mu.Lock()
	l.mu.startBase = start.base
	l.setListLocked(append([]*segment(nil), l.list()[len(drop):]...))
	l.mu.Unlock()
	l.env.step("drop.before-unlink")
	for _, s := range drop {
		if err := l.discard(s); err != nil {
			return segments, bytes, l.env.writeError(err)
		}
		segments++
		bytes += s.meta.size
	}
	l.env.step("drop.unlinked")
	return segments, bytes, nil
}

func (l *Log) chooseDrop(offset int64) ([]*segment, startFile, error) {
	l.mu.Lock()
	if err := l.usableLocked(); err != nil {
		l.mu.Unlock()
		return nil, startFile{}, err
	}
	list := l.list()
	n, limit := 0, min(offset, l.durable.Load())
	for n < len(list) && list[n].sealed.Load() && list[n].meta.next <= limit {
		n++
	}
	history, generation := l.mu.epochs, l.mu.generation
	l.mu.Unlock()
	if n == 0 {
		return nil, startFile{}, nil
	}
	last := list[n-1]
	snapshot, err := l.snapshotAfter(last)
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		// What may go must not stay for ever because it is damaged. Later segments that are whole know
		// their producers from their own indexes.
		l.env.cfg.Log.Warn("producer state is lost", "segment", last.logName(), "cause", err)
		snapshot, err = nil, nil
	}
	if err != nil {
		return nil, startFile{}, fmt.Errorf("producers at offset %d: %w", last.meta.next, err)
	}
	next := last.meta.next
	return list[:n], startFile{base: next, generation: generation, history: history.truncated(next), snapshot: snapshot}, nil
}

// discard takes a void segment's files away.
func (l *Log) discard(s *segment) error {
	free, sent := s.retire()
	fs := l.env.cfg.FS
	if err := fs.Remove(s.indexName()); err != nil && !isNotExist(err) {
		return fmt.Errorf("unlink index: %w", err)
	}
	if free {
		return l.env.pool.offer(l, s, sent)
	}
	// A reader holds it: the file lives until the last Span goes, its name does not.
	if err := fs.Remove(s.logName()); err != nil && !isNotExist(err) {
		return fmt.Errorf("unlink segment: %w", err)
	}
	return nil
}
