package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Open opens the log in o.Dir, which need not exist: directory and first file are made by the first
// append. After a clean stop it reads the directory and nothing else; otherwise it recovers (see
// recover.go). A *DamagedError says that durable bytes are missing or changed that nobody else has; the
// directory is then left as it is. Damage of segments that lie wholly below TieredEnd or LogStart moves
// the local start past them (see recoverpast.go).
func Open(env *Env, o Options) (*Log, error) {
	if err := env.Failed(); err != nil {
		return nil, err
	}
	l := &Log{env: env, dir: o.Dir, onDurable: o.OnDurable}
	cfg := o.Config.withDefaults()
	l.cfg.Store(&cfg)
	l.tieredEnd.Store(o.TieredEnd)

	files, err := l.listFiles()
	if err != nil {
		return nil, err
	}
	if files.swap {
		if files, err = l.completeSwap(); err != nil {
			return nil, fmt.Errorf("open log %s: %w", o.Dir, err)
		}
		o.Clean = false // the checkpoint may describe what was swapped out
	}
	clean := false
	if o.Clean && o.Checkpoint != nil {
		clean, err = l.openClean(o.Checkpoint, files)
		if err != nil {
			return nil, fmt.Errorf("open log %s: %w", o.Dir, err)
		}
	}
	if !clean {
		if err := l.recover(o, files); err != nil {
			return nil, fmt.Errorf("recover log %s: %w", o.Dir, err)
		}
	}
	l.mu.epochs = l.mu.epochs.from(o.LogStart)
	return l, nil
}

// dirFiles is what a log directory holds.
type dirFiles struct {
	exists  bool
	start   bool
	swap    bool
	logs    []int64 // bases, rising
	indexes map[int64]bool
	temps   []string
}

func (l *Log) listFiles() (dirFiles, error) {
	entries, err := l.env.cfg.FS.ReadDir(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return dirFiles{}, nil
	}
	if err != nil {
		return dirFiles{}, fmt.Errorf("list log: %w", err)
	}
	d := dirFiles{exists: true}
	for _, e := range entries {
		name := e.Name()
		if base, ok := parseSegmentName(name, logSuffix); ok {
			d.logs = append(d.logs, base)
		} else if base, ok := parseSegmentName(name, indexSuffix); ok {
			if d.indexes == nil {
				d.indexes = make(map[int64]bool)
			}
			d.indexes[base] = true
		} else if name == startName {
			d.start = true
		} else if name == swapName {
			d.swap = true
		} else if strings.HasSuffix(name, tempSuffix) {
			d.temps = append(d.temps, name)
		}
	}
	slices.Sort(d.logs)
	return d, nil
}

// openClean takes the log from the checkpoint of a clean stop. It answers false if the directory is
// not what the checkpoint says; recovery then looks at every byte it has to.
func (l *Log) openClean(c *Checkpoint, files dirFiles) (bool, error) {
	if !l.matches(c, files) {
		return false, nil
	}
	generation := uint64(0)
	if files.start {
		f, err := readFooter(l.env.cfg.FS, l.startName())
		if err != nil || f.kind != kindStart || f.flags&flagVoid != 0 || f.base != c.StartBase {
			return false, nil // recovery says what is wrong with it
		}
		generation = f.generation
	}
	if generation != c.Generation {
		return false, nil
	}
	table, at, err := decodeProducers(c.Producers)
	if err != nil || at > c.Offset {
		return false, nil
	}
	list := make([]*segment, 0, len(c.Segments))
	for _, cs := range c.Segments {
		s := &segment{env: l.env, dir: l.dir, base: cs.Base, meta: cs.meta(), synced: cs.Size, persisted: cs.Indexed}
		s.sealed.Store(cs.Indexed)
		if cs.Cleaned {
			s.cleaned.Store(&cleanMark{horizon: cs.Horizon})
		}
		s.markSent() // by the process before, whose sockets may outlive it
		list = append(list, s)
	}
	if n := len(list); n > 0 && !list[n-1].sealed.Load() {
		s := list[n-1]
		s.aborted = slices.Clone(c.Aborted)
		size, err := l.fileSize(s)
		if err != nil || size < s.meta.size {
			return false, err
		}
		s.grow = growth{alloc: size, zero: size}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.epochs = slices.Clone(c.Epochs)
	l.setProducersLocked(table, l.leo.Load())
	l.mu.generation, l.mu.startBase = c.Generation, c.StartBase
	if files.exists {
		l.mu.dir = dirDurable
	}
	l.setListLocked(list)
	l.durable.Store(c.Offset)
	l.leo.Store(c.Offset)
	return true, nil
}

// fileSize is the physical length of a segment file, without opening it.
func (l *Log) fileSize(s *segment) (int64, error) {
	info, err := l.env.cfg.FS.Stat(s.logName())
	if err != nil {
		return 0, fmt.Errorf("stat segment: %w", err)
	}
	return info.Size(), nil
}

// matches tells whether a checkpoint can describe a directory: the same files, a gapless list that
// ends at its offset, everything but the last segment sealed with an index.
func (l *Log) matches(c *Checkpoint, files dirFiles) bool {
	if len(files.temps) > 0 || len(files.logs) != len(c.Segments) || !epochHistory(c.Epochs).valid() {
		return false
	}
	next, indexed := c.StartBase, 0
	for i, s := range c.Segments {
		last := i == len(c.Segments)-1
		ok := s.Base == files.logs[i] && s.Base == next && s.Next > s.Base && s.Size > 0 &&
			s.Indexed == files.indexes[s.Base] && (s.Indexed || last && c.SegmentBase == s.Base && c.Pos == s.Size)
		if !ok {
			return false
		}
		next = s.Next
		if s.Indexed {
			indexed++
		}
	}
	return next == c.Offset && indexed == len(files.indexes)
}
