package commitlog

import (
	"fmt"
)

// scanTail reads the segments after the last indexed one, and stops at the first byte that is not
// the next batch.
func (r *recovery) scanTail() error {
	for i, base := range r.tail {
		if base != r.next && i == 0 {
			return damagedf(r.log.dir, -1, r.next, "no segment begins here, the next one begins at %d", base)
		}
		if base != r.next {
			return nil // the segment before has lost its end: it was never durable
		}
		s, w, err := r.scanOne(base, i == 0)
		if err != nil {
			return err
		}
		r.kept = append(r.kept, s)
		r.next = s.meta.next
		followed := i+1 < len(r.tail) && r.tail[i+1] == s.meta.next && s.meta.size > 0
		if !followed {
			if r.files.indexes[base] && i+1 < len(r.tail) {
				return damagedf(s.logName(), s.meta.size, s.meta.next, "sealed segment ends early, the next begins at %d: %s", r.tail[i+1], w.why)
			}
			return nil
		}
		r.sealSegment(s, w)
	}
	return nil
}

// scanOne reads one tail segment, the first one from the checkpoint on if that is proven there.
func (r *recovery) scanOne(base int64, first bool) (*segment, *replay, error) {
	if first && r.ck != nil && r.ck.SegmentBase == base {
		s, w, err := r.scanFromCheckpoint(base)
		if s != nil || err != nil {
			return s, w, err
		}
	}
	return r.walk(base, -1)
}

// scanFromCheckpoint answers nil if the checkpoint cannot be used.
func (r *recovery) scanFromCheckpoint(base int64) (*segment, *replay, error) {
	l := r.log
	s := newSegment(l.env, l.dir, base, l.env.cfg.Now().UnixMilli())
	f, size, err := r.openTail(s)
	if err != nil {
		return nil, nil, err
	}
	defer s.unpin()
	ok, err := r.ck.proven(f, size)
	if err != nil || !ok {
		return nil, nil, err
	}
	table, at, err := decodeProducers(r.ck.Producers)
	if err != nil || at > r.ck.Offset {
		l.env.cfg.Log.Warn("checkpoint is not used", "log", l.dir, "cause", err)
		return nil, nil, nil
	}
	w := &replay{
		file: f, end: size, seg: s, interval: int64(l.config().IndexInterval), nowMS: l.env.cfg.Now().UnixMilli(),
		history: r.history, known: r.ck.Epochs, knownEnd: r.ck.Offset,
	}
	ok, err = w.runHeads(r.ck.Pos)
	if err != nil || !ok || s.meta.next != r.ck.Offset {
		return nil, nil, err
	}
	for _, cs := range r.ck.Segments {
		if cs.Base == base {
			s.meta.createdMS = cs.CreatedMS
		}
	}
	s.aborted = append(s.aborted, r.ck.Aborted...)
	w.history, w.table = r.ck.Epochs, table
	if err := w.run(-1); err != nil {
		return nil, nil, err
	}
	r.history, r.table = w.history, table
	return s, w, nil
}

// judge compares what was found with what the checkpoint says was durable.
func (r *recovery) judge() error {
	if r.ck != nil && r.ck.Generation > r.start.generation {
		return damagedf(r.log.dir, -1, r.next, "start file of generation %d is lost, found %d", r.ck.Generation, r.start.generation)
	}
	if r.ck == nil || r.ck.Generation != r.start.generation || r.ck.Offset <= r.next {
		return nil
	}
	return damagedf(r.log.dir, -1, r.next, "the log was durable up to offset %d", r.ck.Offset)
}

// clean removes what is void: temporary files, segments below the start, and what lies beyond the
// cut. From here on the directory is changed.
func (r *recovery) clean() error {
	l := r.log
	fs := l.env.cfg.FS
	var names []string
	names = append(names, r.files.temps...)
	for b := range r.files.indexes {
		if b < r.start.base {
			names = append(names, segmentName(b, indexSuffix))
		}
	}
	for _, b := range r.files.logs {
		if b < r.start.base {
			names = append(names, segmentName(b, logSuffix))
		}
	}
	for _, b := range r.tail[len(r.kept):] {
		l.env.cfg.Log.Warn("removing segment after the log's end", "log", l.dir, "base", b, "end", r.next)
		names = append(names, segmentName(b, logSuffix))
		if r.files.indexes[b] {
			names = append(names, segmentName(b, indexSuffix)) // one that was not trusted
		}
	}
	for _, n := range names {
		if err := fs.Remove(l.dir + "/" + n); err != nil && !isNotExist(err) {
			return fmt.Errorf("remove %s: %w", n, err)
		}
	}
	return r.cutTail()
}

// cutTail removes what follows the last batch in the file of the last segment, so that no stale
// batch can ever become the next one. Zeros may stay: they are room for appends.
func (r *recovery) cutTail() error {
	if len(r.kept) == 0 {
		return nil
	}
	s := r.kept[len(r.kept)-1]
	f, err := s.pin()
	if err != nil {
		return err
	}
	defer s.unpin()
	end, size := s.meta.size, s.grow.alloc
	if size == end {
		return nil
	}
	if size-end <= zeroStep {
		if zero, err := isZero(f, end, size); err != nil || zero {
			return err
		}
	}
	r.log.env.cfg.Log.Info("cutting torn tail", "segment", s.logName(), "end", end, "bytes", size-end, "offset", s.meta.next)
	if err := f.Truncate(end); err != nil {
		return fmt.Errorf("cut torn tail: %w", err)
	}
	s.grow = growth{alloc: end, zero: end}
	r.log.env.step("recover.cut")
	return nil
}

// settle makes everything that was found durable, and only then publishes it.
func (r *recovery) settle() error {
	l := r.log
	for _, s := range r.kept {
		if err := s.sync(); err != nil {
			return l.env.fail(err)
		}
		s.synced = s.meta.size
	}
	if r.files.exists {
		if err := l.syncNames(dirFound, false); err != nil {
			return l.env.fail(err)
		}
		l.env.step("recover.synced")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.files.exists {
		l.mu.dir = dirDurable
	}
	l.mu.epochs = r.history
	l.setProducersLocked(r.table, r.next)
	l.mu.generation, l.mu.startBase = r.start.generation, r.start.base
	list := append(r.sealed, r.kept...)
	l.setListLocked(list)
	l.durable.Store(r.next)
	l.leo.Store(r.next)
	due := false
	for _, s := range list {
		s.closeIdle() // many logs are opened at once, few are used soon
		s.markSent()  // by the process before, whose sockets may outlive it
		due = due || s.sealing != nil
	}
	if due {
		l.env.janitor.pushSeal(l)
	}
	return nil
}
