package commitlog

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"varve/broker/internal/vfs"
)

// recovery opens a log after anything but a clean stop.
//
// Segments up to the last one with an index file were durable when that index was written: they
// must be there, whole, or the log is damaged. What follows is the tail: its files may be torn or
// missing, because Durable may never have covered them. The tail is read from the last proven
// checkpoint, and cut at the first byte that is not the next batch. A cut below a checkpoint of the
// same generation is damage too: checkpoints are taken of durable bytes only. Nothing is changed
// on disk before all of that is decided.
type recovery struct {
	log   *Log
	files dirFiles
	ck    *Checkpoint
	start startFile
	past  []*DamagedError // what lies below start, which the tier or nobody needs; see recoverpast.go

	sealed  []*segment
	tail    []int64 // bases after the last segment with an index file
	history epochHistory
	table   *producerTable
	opened  []*segment

	kept []*segment // tail segments that have data, or are the empty last one
	next int64
}

func (l *Log) recover(o Options, files dirFiles) error {
	r := &recovery{log: l, files: files, ck: o.Checkpoint}
	err := r.begin()
	if err == nil {
		err = r.find()
	}
	var damage *DamagedError
	if errors.As(err, &damage) {
		r, err = r.findPast(o, damage)
	}
	if err != nil {
		return err
	}
	for _, step := range []func() error{r.moveStart, r.clean, r.settle} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// begin reads the start file.
func (r *recovery) begin() (err error) {
	if r.start, err = r.log.readStart(); err == nil && r.start.void {
		return r.finishReset()
	}
	return err
}

// find decides what the log is. It changes nothing on disk.
func (r *recovery) find() error {
	for _, step := range []func() error{r.classify, r.stateAtTail, r.scanTail, r.judge} {
		if err := step(); err != nil {
			for _, s := range r.opened {
				s.closeIdle()
			}
			return err
		}
	}
	return nil
}

// finishReset completes a reset that a crash interrupted: every segment here is void.
func (r *recovery) finishReset() error {
	if err := r.log.removeFiles(r.files); err != nil {
		return err
	}
	r.files.logs, r.files.indexes = nil, nil
	r.start.void = false
	return r.log.writeStart(r.start)
}

// removeFiles removes all segments and indexes, durably.
func (l *Log) removeFiles(files dirFiles) error {
	fs := l.env.cfg.FS
	for base := range files.indexes {
		if err := fs.Remove(l.dir + "/" + segmentName(base, indexSuffix)); err != nil {
			return fmt.Errorf("remove void index: %w", err)
		}
	}
	for _, base := range files.logs {
		if err := fs.Remove(l.dir + "/" + segmentName(base, logSuffix)); err != nil {
			return fmt.Errorf("remove void segment: %w", err)
		}
	}
	return asSyncError(fs.SyncDir(l.dir))
}

// classify sorts the files into sealed segments, which must be gapless from the start, and tail.
func (r *recovery) classify() error {
	l := r.log
	var bases []int64
	for _, b := range r.files.logs {
		if b >= r.start.base {
			bases = append(bases, b)
		}
	}
	present := make(map[int64]bool, len(bases))
	for _, b := range bases {
		present[b] = true
	}
	for _, b := range slices.Sorted(maps.Keys(r.files.indexes)) {
		if b >= r.start.base && !present[b] {
			return damagedf(l.dir+"/"+segmentName(b, logSuffix), -1, b, "sealed segment is missing, its index is there")
		}
	}
	metas := make([]*indexFooter, len(bases))
	sealed := 0
	for i, b := range bases {
		m, err := r.footer(b)
		if err != nil {
			return err
		}
		if metas[i] = m; m != nil {
			sealed = i + 1
		}
	}
	r.next, r.tail = r.start.base, bases[sealed:]
	for i, b := range bases[:sealed] {
		if b != r.next {
			return damagedf(l.dir, -1, r.next, "no segment begins here, the next one begins at %d", b)
		}
		if metas[i] == nil {
			if err := r.addUnindexed(b, bases[i+1]); err != nil {
				return err
			}
			continue
		}
		s := &segment{env: l.env, dir: l.dir, base: b, meta: metas[i].segmentMeta, synced: metas[i].size, persisted: true}
		s.sealed.Store(true)
		s.cleaned.Store(metas[i].mark())
		r.sealed = append(r.sealed, s)
		r.next = s.meta.next
	}
	return nil
}

// footer reads what the index file of a segment says; nil if there is none that can be trusted.
func (r *recovery) footer(base int64) (*indexFooter, error) {
	l := r.log
	if !r.files.indexes[base] {
		return nil, nil
	}
	name := l.dir + "/" + segmentName(base, indexSuffix)
	f, err := readFooter(l.env.cfg.FS, name)
	if errors.Is(err, errIndex) || err == nil && (f.kind != kindSegment || f.base != base) {
		l.env.cfg.Log.Warn("index file is not trusted", "index", name, "cause", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	size, err := l.fileSize(&segment{dir: l.dir, base: base})
	if err != nil {
		return nil, err
	}
	if size < f.size {
		return nil, damagedf(l.dir+"/"+segmentName(base, logSuffix), size, base, "sealed segment of %d bytes has %d", f.size, size)
	}
	return &f, nil
}

// addUnindexed takes a segment whose index is gone but which has sealed successors: it was durable
// to its end, so it must hold every batch up to next.
func (r *recovery) addUnindexed(base, next int64) error {
	if err := r.stateAtTail(); err != nil {
		return err
	}
	s, walk, err := r.walk(base, next)
	if err != nil {
		return err
	}
	if s.meta.next != next {
		return damagedf(s.logName(), s.meta.size, s.meta.next, "segment without index, followed by sealed ones: %s", walk.why)
	}
	s.synced = s.meta.size
	r.sealSegment(s, walk)
	r.sealed = append(r.sealed, s)
	r.next = next
	return nil
}

// sealSegment makes a scanned segment a sealed one whose index file is yet to be written.
func (r *recovery) sealSegment(s *segment, walk *replay) {
	s.sealing = sealedFile(s, walk.history, walk.table)
	s.index.Store(&segIndex{entries: s.entries, aborted: s.aborted})
	s.entries, s.aborted = nil, nil
	s.sealed.Store(true)
}

// walk replays one segment file from its first byte, and carries history and producers on.
func (r *recovery) walk(base, stop int64) (*segment, *replay, error) {
	l := r.log
	s := newSegment(l.env, l.dir, base, l.env.cfg.Now().UnixMilli())
	f, size, err := r.openTail(s)
	if err != nil {
		return nil, nil, err
	}
	defer s.unpin()
	w := &replay{
		file: f, end: size, seg: s, interval: int64(l.config().IndexInterval), history: r.history,
		table: r.table, nowMS: l.env.cfg.Now().UnixMilli(),
	}
	if err := w.run(stop); err != nil {
		return nil, nil, err
	}
	r.history = w.history
	return s, w, nil
}

// openTail pins an unsealed segment file and forgets its cached pages first: after a failed
// fdatasync the cache may show bytes that the disk does not have.
func (r *recovery) openTail(s *segment) (vfs.File, int64, error) {
	r.opened = append(r.opened, s)
	f, err := s.pin()
	if err != nil {
		return nil, 0, err
	}
	f.DropCache(0, 0)
	size, err := f.Size()
	if err != nil {
		s.unpin()
		return nil, 0, fmt.Errorf("size of segment: %w", err)
	}
	s.grow = growth{alloc: size, zero: size}
	return f, min(size, maxSegmentFile), nil
}

// maxSegmentFile is the last position that an index can name.
const maxSegmentFile = 1<<32 - 1

// stateAtTail loads epochs and producers as of r.next: from the newest sealed segment, else from
// the start file.
func (r *recovery) stateAtTail() error {
	if r.table != nil && len(r.sealed) == 0 {
		return nil // already there, by an unindexed first segment
	}
	n := len(r.sealed)
	if n == 0 {
		t, at, err := decodeProducers(r.start.snapshot)
		if err != nil || at > r.start.base {
			t = &producerTable{}
		}
		r.history, r.table = r.start.history, t
		return nil
	}
	s := r.sealed[n-1]
	if s.sealing != nil { // it was scanned: what was found at its end waits for its index file
		t, _, err := decodeProducers(s.sealing.snapshot)
		if err != nil {
			return err
		}
		r.history, r.table = s.sealing.history, t
		return nil
	}
	x, err := r.log.readIndex(s)
	if err == nil {
		t, at, derr := decodeProducers(x.snapshot)
		if derr == nil && at <= s.meta.next {
			r.history, r.table = x.history, t
			return nil
		}
		err = derr
	}
	if err != nil && !errors.Is(err, errIndex) && !errors.Is(err, errSnapshot) {
		return err
	}
	// The body is corrupt: the footer alone is not worth keeping, scan the segment instead.
	r.sealed, r.next, r.table = r.sealed[:n-1], s.base, nil
	if err := r.stateAtTail(); err != nil {
		return err
	}
	return r.addUnindexed(s.base, s.meta.next)
}
