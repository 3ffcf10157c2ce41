package commitlog

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"varve/broker/internal/vfs"
)

const (
	logSuffix   = ".log"
	indexSuffix = ".index"
	tempSuffix  = ".tmp"
	startName   = "start"
	baseDigits  = 20
)

// segmentName is the 20-digit name of a segment or index file, as Kafka's.
func segmentName(base int64, suffix string) string {
	return fmt.Sprintf("%0*d%s", baseDigits, base, suffix)
}

// parseSegmentName is the inverse of segmentName.
func parseSegmentName(name, suffix string) (base int64, ok bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != baseDigits {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	base, err := strconv.ParseInt(digits, 10, 64)
	return base, err == nil
}

// segmentMeta is what is known of a segment without reading it.
//
//	base <= next, size bytes hold exactly [base, next)
type segmentMeta struct {
	base, next   int64
	size         int64 // logical length; the file may be longer (recycled or zeroed ahead)
	baseTime     int64 // max timestamp of the first batch's first record, ms; -1 if empty
	maxTime      int64 // largest max timestamp, -1 if empty
	maxTimeBase  int64 // base offset of the first batch that has maxTime
	createdMS    int64 // wall clock of the first append
	abortedCount uint32
}

// SegmentInfo describes one segment of a log.
type SegmentInfo struct {
	Base     int64     `json:"base"`
	Next     int64     `json:"next"` // exclusive
	Bytes    int64     `json:"bytes"`
	Sealed   bool      `json:"sealed"`
	BaseTime int64     `json:"base_time"` // ms
	MaxTime  int64     `json:"max_time"`  // ms
	Created  time.Time `json:"created"`
}

func (m segmentMeta) info(sealed bool) SegmentInfo {
	return SegmentInfo{m.base, m.next, m.size, sealed, m.baseTime, m.maxTime, time.UnixMilli(m.createdMS)}
}

// segIndex is the index of a sealed segment in memory.
type segIndex struct {
	entries []indexEntry
	aborted []AbortedTxn
}

func (x *segIndex) bytes() int64 {
	return int64(len(x.entries))*entryLen + int64(len(x.aborted))*abortedLen + 64
}

// segment is one file of a log. Truncation never changes a segment in place: it makes a new
// segment value and retires the old one, so that a reader that holds the old one sees what it saw.
type segment struct {
	env  *Env
	dir  string
	base int64

	// sealed is set once, after meta got its final value; from then on meta is immutable.
	sealed atomic.Bool
	// meta, and all fields of this block, are guarded by Log.mu while the segment is active.
	meta      segmentMeta
	entries   []indexEntry // of the active segment; append-only, so a copy of the slice header is a snapshot
	lastEntry int64        // position of the newest entry
	last      batchHead    // the newest batch, size 0 if there is none
	aborted   []AbortedTxn // whose marker lies in the active segment
	loaded    bool         // entries describe all of [0, meta.size)
	synced    int64        // bytes known durable: synced <= meta.size
	grow      growth
	// sealing holds what the index file needs, from the roll until the file is durable.
	sealing *indexFile
	// persisted says that the index file is durable. Guarded by Log.mu.
	persisted bool
	// cleaned is nil while the segment was not compacted.
	cleaned atomic.Pointer[cleanMark]

	// index of a sealed segment: nil when it must be read from its file. The one of a segment
	// that is not yet persisted is never dropped.
	index atomic.Pointer[segIndex]
	// abortedFrom is the lowest first offset of its aborted transactions, once it was sealed and they
	// were read; 0 before. A read far below it need not read them again.
	abortedFrom atomic.Int64

	slot int // place in fileCache, guarded by its lock

	io struct {
		sync.Mutex
		file    vfs.File // nil when closed
		pins    int32    // users of file; it is closed only at 0
		used    bool     // since the eviction hand passed
		dirty   bool     // written since the last fdatasync began: closing it could lose a write-back error
		sent    bool     // a byte went out by sendfile: page cache pages may sit in socket queues
		retired bool     // no longer part of the log: pin fails
	}
}

// errRetired says that the segment left the log between lookup and pin. The caller looks again.
var errRetired = errors.New("segment is retired")

func (s *segment) logName() string   { return s.dir + "/" + segmentName(s.base, logSuffix) }
func (s *segment) indexName() string { return s.dir + "/" + segmentName(s.base, indexSuffix) }

// pin opens the file if needed and keeps it open until unpin.
func (s *segment) pin() (vfs.File, error) {
	s.io.Lock()
	defer s.io.Unlock()
	if s.io.retired {
		return nil, errRetired
	}
	if s.io.file == nil {
		f, err := s.env.cfg.FS.OpenReadWrite(s.logName())
		if err != nil {
			if isNotExist(err) {
				return nil, damagedf(s.logName(), -1, s.base, "segment file is missing")
			}
			return nil, fmt.Errorf("open segment: %w", err)
		}
		s.setFileLocked(f)
	}
	s.io.pins++
	s.io.used = true
	return s.io.file, nil
}

// setFileLocked takes over an open file. The caller holds s.io, or has not published s yet.
func (s *segment) setFileLocked(f vfs.File) {
	s.io.file = f
	s.env.files.add(s)
}

func (s *segment) unpin() {
	s.io.Lock()
	defer s.io.Unlock()
	s.io.pins--
	switch {
	case s.io.pins < 0:
		panic(fmt.Sprintf("commitlog: segment %d unpinned %d times too often", s.base, -s.io.pins))
	case s.io.pins == 0 && (s.io.retired || s.env.closing.Load()):
		s.closeLocked()
	}
}

// pinToWrite is pin for a writer. Linux tells a failed write-back to the descriptors that are open; with
// none open, and the inode dropped from memory, a later fdatasync would report success.
func (s *segment) pinToWrite() (vfs.File, error) {
	f, err := s.pin()
	if err == nil {
		s.io.Lock()
		s.io.dirty = true
		s.io.Unlock()
	}
	return f, err
}

// markSent notes that pages of the file may stay in a socket queue.
func (s *segment) markSent() {
	s.io.Lock()
	s.io.sent = true
	s.io.Unlock()
}

// tryClose is one visit of the eviction hand.
func (s *segment) tryClose() bool {
	if !s.io.TryLock() {
		return false // in use this moment; waiting here could deadlock with another evictor
	}
	defer s.io.Unlock()
	if s.io.used {
		s.io.used = false
		return false
	}
	if s.io.pins > 0 || s.io.dirty || s.io.file == nil {
		return false
	}
	s.closeLocked()
	return true
}

// closeIdle closes the file unless it is pinned.
func (s *segment) closeIdle() {
	s.io.Lock()
	defer s.io.Unlock()
	if s.io.pins == 0 {
		s.closeLocked()
	}
}

func (s *segment) closeLocked() {
	if s.io.file == nil {
		return
	}
	// Nothing depends on close: what matters was fdatasynced, and its error is taken there.
	_ = s.io.file.Close()
	s.io.file = nil
	s.env.files.removed(s)
}

// retire takes the segment out of use: no pin succeeds from here on. It tells whether the file is
// free of users now; if not, the last unpin closes it.
func (s *segment) retire() (free, sent bool) {
	s.io.Lock()
	s.io.retired = true
	free, sent = s.io.pins == 0, s.io.sent
	if free {
		s.closeLocked()
	}
	s.io.Unlock()
	s.env.indexes.removed(s)
	return free, sent
}

// addBatch extends the meta and the index of the active segment by a batch at pos. The caller holds
// Log.mu.
func (s *segment) addBatch(h batchHead, interval int64) {
	if len(s.entries) == 0 || h.pos-s.lastEntry >= spacing(h.pos, interval) {
		before := int64(noTime)
		if s.meta.size > 0 {
			before = s.meta.maxTime
		}
		s.entries = append(s.entries, indexEntry{uint32(h.base - s.base), uint32(h.pos), before})
		s.lastEntry = h.pos
	}
	if s.meta.size == 0 {
		s.meta.baseTime, s.meta.maxTime, s.meta.maxTimeBase = h.baseTime, h.maxTime, h.base
	} else if h.maxTime > s.meta.maxTime {
		s.meta.maxTime, s.meta.maxTimeBase = h.maxTime, h.base
	}
	s.meta.next = h.next
	s.meta.size = h.pos + int64(h.size)
	s.last = h
}

// newSegment makes the value of an empty active segment.
func newSegment(env *Env, dir string, base, createdMS int64) *segment {
	s := &segment{env: env, dir: dir, base: base, loaded: true}
	s.meta = segmentMeta{base: base, next: base, baseTime: -1, maxTime: -1, maxTimeBase: base, createdMS: createdMS}
	return s
}
