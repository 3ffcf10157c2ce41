package commitlog

import "fmt"

// ResetTo drops everything local and makes the log begin, and end, at offset, with the epoch
// history below it and the producer state as of it (a snapshot, may be empty). It is for a void
// log and for a new replica that starts at the tier border: what is tiered lies below LSO, so a
// transaction that the snapshot has open has ended since. It is durable when it returns; a crash on
// the way leaves the old log or the new one.
func (l *Log) ResetTo(offset int64, epochs []EpochStart, producers []byte) error {
	history := epochHistory(epochs).truncated(offset)
	if offset < 0 || !epochHistory(epochs).valid() {
		return fmt.Errorf("reset to offset %d with epochs %v: not a log", offset, epochs)
	}
	table, at, err := decodeProducers(producers)
	if err != nil {
		return fmt.Errorf("reset to offset %d: %w", offset, err)
	}
	if at > offset {
		return fmt.Errorf("reset to offset %d: producer snapshot as of %d", offset, at)
	}
	if table.endAll() {
		producers = table.encode(at)
	}
	l.filesMu.Lock()
	defer l.filesMu.Unlock()
	l.flushMu.Lock()
	defer l.flushMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usableLocked(); err != nil {
		return err
	}
	start := startFile{base: offset, generation: l.mu.generation + 1, void: true, history: history, snapshot: producers}
	if err := l.markReset(start); err != nil {
		return l.env.writeError(err)
	}
	l.env.step("reset.marked")
	if err := l.finishReset(start); err != nil {
		return l.env.fail(err)
	}
	l.env.step("reset.done")
	l.env.pool.disown(l)
	l.mu.generation, l.mu.startBase = start.generation, offset
	l.mu.epochs = history
	l.setProducersLocked(table, offset)
	l.setListLocked(nil)
	l.leo.Store(offset)
	l.durable.Store(offset)
	return nil
}

// markReset makes the directory, if there is none, and says durably that all in it is void.
func (l *Log) markReset(start startFile) error {
	if l.mu.dir != dirDurable {
		if err := l.env.dirs.make(l.dir); err != nil {
			return fmt.Errorf("make log directory: %w", err)
		}
	}
	if err := l.writeStart(start); err != nil {
		return err
	}
	if err := l.syncNames(l.mu.dir, false); err != nil {
		return err
	}
	l.mu.dir, l.mu.namesSync = dirDurable, l.mu.names
	return nil
}

// finishReset removes the void files and takes the mark away.
func (l *Log) finishReset(start startFile) error {
	for _, s := range l.list() {
		s.retire()
	}
	files, err := l.listFiles()
	if err != nil {
		return err
	}
	if err := l.removeFiles(files); err != nil {
		return err
	}
	l.env.step("reset.removed")
	start.void = false
	return l.writeStart(start)
}
