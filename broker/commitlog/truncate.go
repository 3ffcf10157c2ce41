package commitlog

import (
	"errors"
	"fmt"
	"io"

	"varve/broker/internal/vfs"
)

// TruncateTo cuts the log so that it ends at or below offset: at the base of the batch that contains
// it. It is durable when it returns, and what was cut can never come back. Spans held on it stay
// readable as they were. Offset must be at least LocalStart; below that the log is void, ResetTo.
//
// Checkpoints taken before stay usable where the log still has their batch; those above the cut no
// longer count as proof of damage, because the start file carries a new generation.
func (l *Log) TruncateTo(offset int64) error {
	l.filesMu.Lock()
	defer l.filesMu.Unlock()
	l.flushMu.Lock()
	defer l.flushMu.Unlock()
	for {
		// Everything below the cut is durable from here on, so LEO = Durable afterwards.
		if err := l.flush(); err != nil {
			return err
		}
		done, err := l.tryTruncate(offset)
		if done || err != nil {
			return err
		}
	}
}

// cut is a truncation worked out: what is kept of which segment, and the state there.
type cut struct {
	leo     int64    // the log end that it was worked out for
	keep    int      // segments that stay as they are
	from    *segment // the one that is cut inside, nil if the cut lies between segments
	part    *segment // what replaces it
	end     int64
	history epochHistory
	table   *producerTable
}

// tryTruncate answers false if an append came between.
func (l *Log) tryTruncate(offset int64) (done bool, err error) {
	if offset >= l.LEO() {
		return true, nil
	}
	if offset < l.LocalStart() {
		return true, &OutOfRangeError{offset, l.LocalStart(), l.LEO()}
	}
	c, err := l.planCut(offset)
	if err != nil {
		return true, err
	}
	start, err := l.readStart()
	if err != nil {
		return true, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usableLocked(); err != nil {
		return true, err
	}
	if l.leo.Load() != c.leo {
		return false, nil
	}
	start.generation = l.mu.generation + 1
	start.base = l.mu.startBase
	if l.mu.dir != dirDurable {
		return true, fmt.Errorf("truncate %s: directory is not durable", l.dir)
	}
	if err := l.writeStart(start); err != nil {
		return true, l.env.writeError(err)
	}
	l.mu.generation = start.generation
	l.env.step("truncate.marked")
	return true, l.commitCut(c)
}

// planCut reads the segment that holds offset up to the cut.
func (l *Log) planCut(offset int64) (cut, error) {
	l.mu.Lock()
	c := cut{leo: l.leo.Load(), history: l.mu.epochs}
	l.mu.Unlock()
	list := l.list()
	c.keep = find(list, offset)
	s := list[c.keep]
	v, err := l.view(s)
	if err != nil {
		return c, err
	}
	defer s.unpin()
	_, base, err := v.locate(offset)
	if err != nil {
		return c, err
	}
	table, err := l.producersBefore(s)
	if err != nil {
		return c, err
	}
	l.mu.Lock()
	created := s.meta.createdMS
	l.mu.Unlock()
	c.end, c.table = base, table
	part := newSegment(l.env, l.dir, s.base, created)
	r := &replay{
		file: v.file, end: v.size, seg: part, interval: int64(l.config().IndexInterval),
		history: c.history.truncated(s.base), known: c.history, knownEnd: c.leo, table: table, nowMS: l.env.cfg.Now().UnixMilli(),
	}
	if err := r.run(base); err != nil {
		return c, err
	}
	if part.meta.next != base {
		return c, damagedf(s.logName(), part.meta.size, part.meta.next, "%s", r.why)
	}
	c.history = c.history.truncated(base)
	if base > s.base {
		c.from, c.part = s, part
	}
	return c, nil
}

// commitCut carries a cut out, under mu. Want of space is found before anything is removed; any
// other error on the way is final, because the log is then neither what it was nor what it will be.
func (l *Log) commitCut(c cut) error {
	var copied bool
	if c.from != nil {
		free, sent := c.from.retire()
		if copied = !free || sent; copied {
			if err := l.copyPrefix(c); err != nil {
				c.from.unretire()
				return l.env.writeError(err)
			}
		}
	}
	list := l.list()
	for i := len(list) - 1; i >= c.keep; i-- {
		if list[i] == c.from {
			continue
		}
		list[i].retire()
		if err := l.removeSegment(list[i]); err != nil {
			return l.env.fail(err)
		}
	}
	l.env.step("truncate.removed")
	kept := append([]*segment(nil), list[:c.keep]...)
	if c.from != nil {
		if err := l.cutSegment(c, copied); err != nil {
			return l.env.fail(err)
		}
		kept = append(kept, c.part)
	}
	l.env.step("truncate.cut")
	l.env.pool.disown(l)
	l.mu.epochs = c.history
	l.setProducersLocked(c.table, c.end)
	l.setListLocked(kept)
	l.leo.Store(c.end)
	l.durable.Store(min(l.durable.Load(), c.end))
	return nil
}

// unretire takes a segment back into use, when a truncation gave up before it changed anything. The
// caller holds Log.mu, for which readers that met the retired segment wait.
func (s *segment) unretire() {
	s.io.Lock()
	s.io.retired = false
	s.io.Unlock()
}

func (l *Log) partName(c cut) string { return c.from.logName() + tempSuffix }

// copyPrefix writes what is kept of a segment that somebody still reads to a file of its own.
func (l *Log) copyPrefix(c cut) error {
	fs := l.env.cfg.FS
	src, err := fs.Open(c.from.logName())
	if err != nil {
		return fmt.Errorf("copy segment: %w", err)
	}
	defer src.Close()
	if err := fs.Remove(l.partName(c)); err != nil && !isNotExist(err) {
		return fmt.Errorf("remove old temporary: %w", err)
	}
	dst, err := fs.Create(l.partName(c))
	if err != nil {
		return fmt.Errorf("copy segment: %w", err)
	}
	defer dst.Close()
	err = copyBytes(dst, src, c.part.meta.size)
	if err == nil {
		err = asSyncError(dst.Sync())
	}
	if err != nil {
		_ = fs.Remove(l.partName(c)) // what matters is err; recovery removes leftovers
		return fmt.Errorf("copy segment %d: %w", c.from.base, err)
	}
	return nil
}

func copyBytes(dst, src vfs.File, n int64) error {
	if err := dst.Allocate(0, n); err != nil {
		return err
	}
	p := scanBuffers.Get().(*[]byte)
	defer scanBuffers.Put(p)
	for at := int64(0); at < n; {
		k, err := src.ReadAt((*p)[:min(int64(len(*p)), n-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if k == 0 {
			return io.ErrUnexpectedEOF
		}
		if _, err := dst.WriteAt((*p)[:k], at); err != nil {
			return err
		}
		at += int64(k)
	}
	return nil
}

// removeSegment removes a segment durably, its index first. Segments go from the top down, each
// durably before the next, so that a crash leaves a log that is shorter, never one with a hole.
func (l *Log) removeSegment(s *segment) error {
	if err := l.removeIndex(s); err != nil {
		return err
	}
	if err := l.env.cfg.FS.Remove(s.logName()); err != nil && !isNotExist(err) {
		return fmt.Errorf("remove segment: %w", err)
	}
	return asSyncError(l.env.cfg.FS.SyncDir(l.dir))
}

func (l *Log) removeIndex(s *segment) error {
	err := l.env.cfg.FS.Remove(s.indexName())
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove index: %w", err)
	}
	return asSyncError(l.env.cfg.FS.SyncDir(l.dir))
}

// cutSegment puts the kept part in the place of its segment. A file that nobody holds, and of which
// no page may sit in a socket queue, is cut in place; else the copy takes its name.
func (l *Log) cutSegment(c cut, copied bool) error {
	fs := l.env.cfg.FS
	if err := l.removeIndex(c.from); err != nil {
		return err
	}
	size := c.part.meta.size
	if copied {
		if err := fs.Rename(l.partName(c), c.from.logName()); err != nil {
			return fmt.Errorf("replace segment: %w", err)
		}
		if err := asSyncError(fs.SyncDir(l.dir)); err != nil {
			return err
		}
	}
	f, err := fs.OpenReadWrite(c.from.logName())
	if err != nil {
		return fmt.Errorf("open cut segment: %w", err)
	}
	if !copied {
		err := f.Truncate(size)
		if err == nil {
			err = asSyncError(f.Sync())
		}
		if err != nil {
			_ = f.Close() // err is final already
			return fmt.Errorf("cut segment: %w", err)
		}
	}
	c.part.setFile(f) // from here on it may be closed and opened again at any time
	c.part.grow = growth{alloc: size, zero: size}
	c.part.synced = size
	return nil
}
