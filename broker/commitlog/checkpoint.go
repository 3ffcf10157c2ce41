package commitlog

import (
	"errors"
	"slices"

	"varve/broker/internal/vfs"
)

// Checkpoint is the state of a log as of Offset, which was durable when it was taken. Its owner
// stores it where it likes, unsynced if it likes: Open believes it only where the log proves it.
type Checkpoint struct {
	Offset      int64  `json:"offset"`
	Epoch       int32  `json:"epoch"` // of the batch that ends at Offset, -1 if there is none
	Generation  uint64 `json:"generation"`
	StartBase   int64  `json:"start_base"`
	SegmentBase int64  `json:"segment_base"` // the segment that was active, or -1
	Pos         int64  `json:"pos"`          // position of Offset in it

	// The proof: the batch that ends at Offset, with its position and checksum.
	LastPos  int64  `json:"last_pos"`
	LastBase int64  `json:"last_base"`
	LastCRC  uint32 `json:"last_crc"`

	Epochs    []EpochStart        `json:"epochs,omitempty"`
	Producers []byte              `json:"producers,omitempty"` // as of Offset
	Aborted   []AbortedTxn        `json:"aborted,omitempty"`   // whose marker lies in the active segment
	Segments  []CheckpointSegment `json:"segments,omitempty"`  // all, oldest first
}

// CheckpointSegment is what a clean start needs to know of a segment without opening it.
type CheckpointSegment struct {
	Base        int64  `json:"base"`
	Next        int64  `json:"next"`
	Size        int64  `json:"size"`
	BaseTime    int64  `json:"base_time"`
	MaxTime     int64  `json:"max_time"`
	MaxTimeBase int64  `json:"max_time_base"`
	CreatedMS   int64  `json:"created_ms"`
	Aborted     uint32 `json:"aborted,omitempty"`
	Indexed     bool   `json:"indexed,omitempty"` // sealed, its index file is durable
	Cleaned     bool   `json:"cleaned,omitempty"` // compacted, with Horizon; see cleanMark
	Horizon     int64  `json:"horizon,omitempty"`
}

func (c CheckpointSegment) meta() segmentMeta {
	return segmentMeta{c.Base, c.Next, c.Size, c.BaseTime, c.MaxTime, c.MaxTimeBase, c.CreatedMS, c.Aborted}
}

// Checkpoint takes a checkpoint. It flushes first what was appended, so that everything it says is
// durable, the producer state included: a snapshot is never ahead of what survives. ok is false
// after a storage error; then there is nothing to store.
func (l *Log) Checkpoint() (c Checkpoint, ok bool) {
	l.flushMu.Lock()
	defer l.flushMu.Unlock()
	l.mu.Lock()
	c, err := l.checkpointLocked()
	l.mu.Unlock()
	if err != nil {
		return Checkpoint{}, false
	}
	if err := l.flush(); err != nil {
		return Checkpoint{}, false
	}
	l.env.queue.push(l) // a worker tells the rise of Durable, if there was one
	l.env.step("checkpoint.taken")
	return c, true
}

func (l *Log) checkpointLocked() (Checkpoint, error) {
	c := Checkpoint{
		Offset: l.leo.Load(), Epoch: -1, Generation: l.mu.generation, StartBase: l.mu.startBase,
		SegmentBase: -1, Epochs: slices.Clone(l.mu.epochs),
	}
	c.Producers = l.mu.producers.encode(c.Offset)
	if e, ok := l.mu.epochs.at(c.Offset - 1); ok {
		c.Epoch = e
	}
	for _, s := range l.list() {
		m := s.meta
		if m.size == 0 {
			continue
		}
		c.Segments = append(c.Segments, CheckpointSegment{m.base, m.next, m.size, m.baseTime, m.maxTime, m.maxTimeBase, m.createdMS, m.abortedCount, s.persisted, false, 0})
		s.cleaned.Load().note(&c.Segments[len(c.Segments)-1])
	}
	s := l.activeLocked()
	if s == nil || s.meta.size == 0 {
		return c, nil
	}
	if !s.loaded && s.last.size == 0 {
		if err := l.loadActiveLocked(s); err != nil {
			return c, err
		}
	}
	c.SegmentBase, c.Pos = s.base, s.meta.size
	c.LastPos, c.LastBase, c.LastCRC = s.last.pos, s.last.base, s.last.crc
	c.Aborted = slices.Clone(s.aborted)
	return c, nil
}

// proven tells whether the log has the batch that the checkpoint was taken at, at that place,
// whole.
func (c *Checkpoint) proven(f vfs.File, size int64) (bool, error) {
	if c.Pos > size || c.LastPos < 0 || c.LastPos >= c.Pos || !epochHistory(c.Epochs).valid() {
		return false, nil
	}
	w := newScanner(f, c.LastPos, c.Pos)
	defer w.close()
	h, err := w.head()
	if err == nil && (h.base != c.LastBase || h.next != c.Offset || h.crc != c.LastCRC || h.epoch != c.Epoch || h.pos+int64(h.size) != c.Pos) {
		return false, nil
	}
	if err == nil {
		b, rerr := w.batch(h)
		if err = rerr; err == nil {
			return b.CheckCRC() == nil, nil
		}
	}
	if errors.Is(err, errNoBatch) {
		return false, nil
	}
	return false, err
}
