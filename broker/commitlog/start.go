package commitlog

import (
	"errors"
	"fmt"
)

// The start file says where a local log begins, and what the epochs and producers were there. A log
// without one begins at offset 0. It is replaced atomically; what it says is durable before any
// file is removed because of it, so a crash between leaves files that are void, never a hole.

func (l *Log) startName() string { return l.dir + "/" + startName }

// startFile is its content.
type startFile struct {
	base       int64
	generation uint64
	void       bool // a reset is under way
	history    epochHistory
	snapshot   []byte
}

// writeStart replaces the start file. The log directory must exist.
func (l *Log) writeStart(s startFile) error {
	x := &indexFile{history: s.history, snapshot: s.snapshot}
	x.segmentMeta = segmentMeta{base: s.base, next: s.base, baseTime: -1, maxTime: -1, maxTimeBase: s.base, createdMS: l.env.cfg.Now().UnixMilli()}
	x.kind, x.generation = kindStart, s.generation
	if s.void {
		x.flags = flagVoid
	}
	at := l.env.watch.begin()
	defer l.env.watch.end(at)
	err := writeFileSynced(l.env.cfg.FS, l.dir, l.startName(), x.encode(), nil)
	if isNoSpace(err) {
		// Dropping needs a few hundred bytes to free megabytes: the pool gives them.
		l.env.pool.shed()
		err = writeFileSynced(l.env.cfg.FS, l.dir, l.startName(), x.encode(), nil)
	}
	if err != nil {
		return fmt.Errorf("write start file: %w", err)
	}
	return nil
}

// readStart reads the start file; a log without one begins at 0. A start file is never removed, so
// one that does not decode is damage.
func (l *Log) readStart() (startFile, error) {
	x, err := readIndexFile(l.env.cfg.FS, l.startName())
	switch {
	case isNotExist(err):
		return startFile{}, nil
	case errors.Is(err, errIndex):
		return startFile{}, damagedf(l.startName(), -1, -1, "%v", err)
	case err != nil:
		return startFile{}, err
	case x.kind != kindStart:
		return startFile{}, damagedf(l.startName(), -1, -1, "kind %d", x.kind)
	}
	return startFile{x.base, x.generation, x.flags&flagVoid != 0, x.history, x.snapshot}, nil
}
