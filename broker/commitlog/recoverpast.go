package commitlog

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Segments that lie wholly below TieredEnd have a copy in the tier, those below LogStart are nobody's
// any more. If such a one is missing or damaged, the log goes on without it: the local start moves up to
// the next place from which on everything is whole and where epochs and producers are known, from the
// index file that ends there, else from the tier. What was damaged is set aside, what lies between is
// removed, as local retention would (design 5, Damage). Damage above is never passed: the log would have
// a hole, or be shorter than what was acknowledged.

// strayDirName is where damaged files go, beside the directories of unknown topics.
const strayDirName = "stray"

// findPast looks for a start above the damage; it answers the damage that it could not pass.
func (r *recovery) findPast(o Options, damage *DamagedError) (*recovery, error) {
	floor := max(o.TieredEnd, o.LogStart)
	generation := r.start.generation
	if damage.File == r.log.startName() && o.Checkpoint != nil {
		generation = o.Checkpoint.Generation // nothing else knows it
	}
	past := []*DamagedError{damage}
	borders, asked := r.log.borders(r.files), false
	for damage.Offset < floor && !asked {
		b, ok := r.log.borderAbove(borders, damage.Offset, floor)
		if !ok {
			if o.Border == nil {
				break
			}
			var err error
			if b, err = o.Border(); err != nil {
				return nil, fmt.Errorf("start above damage (%s): %w", damage, err)
			}
			if asked = true; b.Offset <= damage.Offset || b.Offset > floor {
				break
			}
		}
		next := &recovery{log: r.log, files: r.files, ck: r.ck, past: past, start: startFile{
			base: b.Offset, generation: generation, history: epochHistory(b.Epochs).truncated(b.Offset), snapshot: b.Producers,
		}}
		err := next.find()
		if err == nil {
			err = next.nothingAbove(borders)
		}
		if err == nil {
			return next, nil
		}
		var above *DamagedError
		if !errors.As(err, &above) {
			return nil, err
		}
		damage, past = above, append(past, above)
	}
	return nil, damage
}

// nothingAbove refuses a start that would leave records above it behind: what lies below must be known to
// end there, or the log goes on from there.
func (r *recovery) nothingAbove(ends []indexEnd) error {
	l, start := r.log, r.start.base
	sealed := make(map[int64]bool, len(ends))
	for _, e := range ends {
		sealed[e.base] = true
		if e.base < start && e.next > start {
			return damagedf(l.dir+"/"+segmentName(e.base, logSuffix), -1, start, "segment [%d, %d) holds records that nobody else has", e.base, e.next)
		}
	}
	if len(r.sealed)+len(r.kept) > 0 {
		return nil
	}
	if n := len(r.files.logs); n > 0 && !sealed[r.files.logs[n-1]] {
		last := r.files.logs[n-1]
		return damagedf(l.dir+"/"+segmentName(last, logSuffix), -1, start, "it is not known where this segment ended")
	}
	return nil
}

// indexEnd is where the segment of an index file ends.
type indexEnd struct{ base, next int64 }

// borders lists the ends of the segments that have an index file, rising.
func (l *Log) borders(files dirFiles) []indexEnd {
	var out []indexEnd
	for base := range files.indexes {
		f, err := readFooter(l.env.cfg.FS, l.dir+"/"+segmentName(base, indexSuffix))
		if err == nil && f.kind == kindSegment && f.base == base {
			out = append(out, indexEnd{base, f.next})
		}
	}
	slices.SortFunc(out, func(a, b indexEnd) int { return int(min(max(a.next-b.next, -1), 1)) })
	return out
}

// borderAbove is the lowest place in (at, most] where an index file tells the state.
func (l *Log) borderAbove(ends []indexEnd, at, most int64) (Border, bool) {
	for _, e := range ends {
		if e.next <= at || e.next > most {
			continue
		}
		x, err := readIndexFile(l.env.cfg.FS, l.dir+"/"+segmentName(e.base, indexSuffix))
		if err != nil || x.next != e.next {
			continue
		}
		return Border{Offset: x.next, Epochs: x.history, Producers: x.snapshot}, true
	}
	return Border{}, false
}

// moveStart makes a start above damage durable: first the damaged files are set aside, so that a crash
// finds them missing, which is the same damage, then the start file moves, and only then the rest goes.
func (r *recovery) moveStart() error {
	if len(r.past) == 0 {
		return nil
	}
	l := r.log
	if !r.files.exists {
		if err := l.env.dirs.make(l.dir); err != nil {
			return fmt.Errorf("make log directory: %w", err)
		}
		r.files.exists = true
	}
	aside, err := r.setAside()
	if err != nil {
		return fmt.Errorf("set damaged segment aside: %w", err)
	}
	l.env.step("past.aside")
	if err := l.writeStart(r.start); err != nil {
		return l.env.writeError(err)
	}
	l.env.step("past.started")
	for _, d := range r.past {
		l.env.cfg.Log.Warn("local log is damaged where the tier or nobody needs it, it begins above", "log", l.dir,
			"file", d.File, "byte", d.Pos, "offset", d.Offset, "reason", d.Reason, "local_start", r.start.base, "set_aside", aside)
	}
	return nil
}

// setAside moves the damaged segment files below the new start to <data>/stray/<topic>.<partition>.<ms>.
func (r *recovery) setAside() (to string, err error) {
	l := r.log
	fs := l.env.cfg.FS
	for _, d := range r.past {
		base, ok := parseSegmentName(path.Base(d.File), logSuffix)
		if !ok || base >= r.start.base || !strings.HasPrefix(d.File, l.dir+"/") || !slices.Contains(r.files.logs, base) {
			continue // a hole, the start file, or a missing segment
		}
		if to == "" {
			stray := l.env.cfg.Dir + "/" + strayDirName
			to = fmt.Sprintf("%s/%s.%s.%d", stray, path.Base(path.Dir(l.dir)), path.Base(l.dir), l.env.cfg.Now().UnixMilli())
			if err := fs.MkdirAll(to); err != nil {
				return "", err
			}
			for _, dir := range []string{stray, l.env.cfg.Dir} {
				if err := fs.SyncDir(dir); err != nil {
					return "", err
				}
			}
		}
		if err := fs.Rename(d.File, to+"/"+path.Base(d.File)); err != nil && !isNotExist(err) {
			return "", err
		}
	}
	if to == "" {
		return "", nil
	}
	return to, errors.Join(fs.SyncDir(to), fs.SyncDir(l.dir))
}
