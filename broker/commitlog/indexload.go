package commitlog

import (
	"errors"
	"fmt"
)

// indexOf is the index of a sealed segment, from memory, else from its file, else rebuilt.
func (l *Log) indexOf(s *segment) (*segIndex, error) {
	if x := s.index.Load(); x != nil {
		return x, nil
	}
	file, err := l.readIndex(s)
	if errors.Is(err, errIndex) || isNotExist(err) {
		file, err = l.rebuildIndex(s, err)
	}
	if err != nil {
		return nil, err
	}
	if x := s.index.Load(); x != nil {
		return x, nil
	}
	x := &segIndex{entries: file.index, aborted: file.abortedBy}
	if s.index.CompareAndSwap(nil, x) {
		l.env.indexes.add(s, x.bytes())
	}
	return x, nil
}

// readIndex reads the index file and checks that it describes this segment.
func (l *Log) readIndex(s *segment) (*indexFile, error) {
	x, err := readIndexFile(l.env.cfg.FS, s.indexName())
	if err != nil {
		return nil, err
	}
	if x.kind != kindSegment || x.base != s.meta.base || x.next != s.meta.next || x.size != s.meta.size {
		return nil, fmt.Errorf("index %s describes [%d, %d) in %d bytes: %w", s.indexName(), x.base, x.next, x.size, errIndex)
	}
	return x, nil
}

// rebuildIndex scans a sealed segment whose index file is gone or corrupt, and has it written anew.
// Every byte must be a batch in its place: a sealed segment has no torn tail.
func (l *Log) rebuildIndex(s *segment, cause error) (*indexFile, error) {
	l.env.cfg.Log.Warn("rebuilding index", "segment", s.logName(), "cause", cause)
	x, err := l.scanSealed(s)
	if err != nil {
		return nil, err
	}
	index := &segIndex{entries: x.index, aborted: x.abortedBy}
	if x.lost != nil { // good enough to read by, but nothing to find at the next start
		if s.index.CompareAndSwap(nil, index) {
			l.env.indexes.add(s, index.bytes())
		}
		return x, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.sealing == nil {
		l.env.indexes.removed(s)
		s.index.Store(index)
		s.sealing, s.persisted = x, false
		l.env.janitor.pushSeal(l)
	}
	return x, nil
}

// scanSealed reads all of a sealed segment and makes its index file anew.
func (l *Log) scanSealed(s *segment) (*indexFile, error) {
	table, lost := l.producersBefore(s)
	var damaged *DamagedError
	if errors.As(lost, &damaged) { // another segment is: this one can still be read
		table = &producerTable{}
	} else if lost != nil {
		return nil, lost
	}
	f, err := s.pin()
	if err != nil {
		return nil, err
	}
	defer s.unpin()
	fresh := newSegment(l.env, l.dir, s.base, s.meta.createdMS)
	known := epochHistory(l.Epochs())
	r := &replay{
		file: f, end: s.meta.size, seg: fresh, interval: int64(l.config().IndexInterval),
		history: known.truncated(s.base), known: known, knownEnd: s.meta.next,
		table: table, nowMS: l.env.cfg.Now().UnixMilli(),
	}
	if err := r.run(-1); err != nil {
		return nil, err
	}
	if fresh.meta.next != s.meta.next || fresh.meta.size != s.meta.size {
		return nil, damagedf(s.logName(), fresh.meta.size, fresh.meta.next, "sealed segment [%d, %d) in %d bytes: %s", s.base, s.meta.next, s.meta.size, r.why)
	}
	x := sealedFile(fresh, known.truncated(s.meta.next), table)
	x.lost = lost
	return x, nil
}

// sealedFile makes the index file of a segment that was scanned to its end.
func sealedFile(s *segment, history epochHistory, table *producerTable) *indexFile {
	s.meta.abortedCount = uint32(len(s.aborted))
	return &indexFile{
		indexFooter: indexFooter{segmentMeta: s.meta, kind: kindSegment},
		index:       s.entries, history: history, abortedBy: s.aborted,
		snapshot: table.encode(s.meta.next),
	}
}

// producersBefore is the producer state as of the base of a segment: from the index of the one
// before it, or from the start file. Where that index cannot be read the segment before is scanned in
// turn, back to one that can tell: with an empty state a retry of a batch that is in the log would be
// taken for a new one. An error says that some of these segments are damaged.
func (l *Log) producersBefore(s *segment) (*producerTable, error) {
	snapshot, err := l.snapshotBefore(s)
	if err != nil {
		return nil, fmt.Errorf("producers before %s: %w", s.logName(), err)
	}
	table, at, err := decodeProducers(snapshot)
	if err != nil {
		return nil, fmt.Errorf("producers before %s: %w", s.logName(), err)
	}
	if at > s.base {
		return nil, fmt.Errorf("producers before %s: snapshot as of %d: %w", s.logName(), at, errSnapshot)
	}
	return table, nil
}

func (l *Log) snapshotBefore(s *segment) ([]byte, error) {
	list := l.list()
	i := find(list, s.base-1)
	if i >= 0 && list[i].meta.next == s.base {
		return l.snapshotAfter(list[i])
	}
	start, err := l.readStart()
	if err != nil {
		return nil, err
	}
	if start.base != s.base {
		return nil, errRetired // the segment was dropped meanwhile, and those before it
	}
	return start.snapshot, nil
}

// snapshotAfter is the producer snapshot as of the end of a sealed segment: from its index, else by
// scanning it.
func (l *Log) snapshotAfter(s *segment) ([]byte, error) {
	b, err := l.snapshotOf(s)
	if !errors.Is(err, errIndex) && !isNotExist(err) {
		return b, err
	}
	x, err := l.rebuildIndex(s, err)
	if err != nil {
		return nil, err
	}
	return x.snapshot, x.lost
}

// snapshotOf is the producer snapshot as of the end of a sealed segment.
func (l *Log) snapshotOf(s *segment) ([]byte, error) {
	l.mu.Lock()
	sealing := s.sealing
	l.mu.Unlock()
	if sealing != nil {
		return sealing.snapshot, nil
	}
	x, err := l.readIndex(s)
	if err != nil {
		return nil, err
	}
	return x.snapshot, nil
}

// Aborted lists the aborted transactions that overlap [from, end), those that began before it too.
// It needs the segments from the one that holds from to the end of the log, because the marker
// may come late.
func (l *Log) Aborted(from, end int64) ([]AbortedTxn, error) {
	var out []AbortedTxn
	list := l.list()
	for i := max(find(list, from), 0); i < len(list); i++ {
		if list[i].abortedFrom.Load() >= end { // known from an earlier call, and nothing in it concerns this range
			continue
		}
		txns, err := l.abortedOf(list[i])
		if err != nil {
			return nil, err
		}
		for _, a := range txns {
			if a.Last >= from && a.First < end {
				out = append(out, a)
			}
		}
	}
	return out, nil
}

func (l *Log) abortedOf(s *segment) ([]AbortedTxn, error) {
	l.mu.Lock()
	if !s.sealed.Load() {
		defer l.mu.Unlock()
		return s.aborted, nil
	}
	none := s.meta.abortedCount == 0
	l.mu.Unlock()
	if none {
		return nil, nil
	}
	x, err := l.indexOf(s)
	if err != nil {
		return nil, err
	}
	from := s.meta.next
	for i := range x.aborted {
		from = min(from, x.aborted[i].First)
	}
	s.abortedFrom.Store(from)
	return x.aborted, nil
}
