package commitlog

import (
	"errors"
	"fmt"
)

// markCleaned notes in the index file of a segment, of which nothing had to go, that it is compacted.
func (l *Log) markCleaned(s *segment, mark *cleanMark) error {
	if old := s.cleaned.Load(); mark == nil || old != nil && *old == *mark {
		return nil
	}
	l.filesMu.Lock()
	defer l.filesMu.Unlock()
	if err := l.checkRun([]*segment{s}); err != nil {
		return err
	}
	x, err := l.readIndex(s)
	if err != nil {
		return l.indexLost(s, err)
	}
	x.flags, x.horizon = flagCleaned, mark.horizon
	at := l.env.watch.begin()
	err = writeFileSynced(l.env.cfg.FS, l.dir, s.indexName(), x.encode(), nil)
	l.env.watch.end(at)
	if err != nil {
		return l.env.writeError(fmt.Errorf("mark segment %d as compacted: %w", s.base, err))
	}
	s.cleaned.Store(mark)
	return nil
}

// indexLost has the index of a segment rebuilt whose file is gone or corrupt; the run ends there.
func (l *Log) indexLost(s *segment, err error) error {
	if !errors.Is(err, errIndex) && !isNotExist(err) {
		return err
	}
	if _, err := l.rebuildIndex(s, err); err != nil {
		return err
	}
	return errMoved
}
