package commitlog

import (
	"errors"
	"fmt"
	"math"

	"varve/broker/internal/vfs"
	"varve/broker/record"
)

const (
	// cleanBuffer is the size of one write of compacted data: half costs more calls, double only memory.
	cleanBuffer = 1 << 20
	// cleanAhead is how much is written before the disk is asked to begin, so that the sync at the end
	// of a segment does not hold up the syncs of appends for its whole length.
	cleanAhead = 8 << 20
)

// cleanOutput gathers what is left of one or more segments. As long as all of the first one stays, it
// writes nothing; its file is begun with the first batch that goes or changes.
//
// The newest batch is held back: while it has no producer and the batches after it are skipped, it
// grows over their offsets.
type cleanOutput struct {
	log *Log
	src *segment // the first one
	seg *segment // what it becomes: meta and entries of all batches but the one held back

	file     vfs.File // nil while nothing has changed
	buf      []byte   // of the file from wrote on
	wrote    int64
	alloc    int64
	started  int64 // write-back was asked for up to here
	held     int   // where in buf the batch held back begins, -1 if there is none
	heldNext int64 // the end of the offsets that it is to take up

	horizon int64   // the earliest delete horizon, noHorizon for none
	markers []int64 // offsets of control batches, rising
}

func newCleanOutput(l *Log, s *segment) *cleanOutput {
	o := &cleanOutput{log: l, src: s, seg: newSegment(l.env, l.dir, s.base, s.meta.createdMS), held: -1, horizon: noHorizon}
	return o
}

func (o *cleanOutput) tempName() string {
	return o.log.dir + "/" + segmentName(o.src.base, cleanedSuffix)
}

// size is the bytes gathered so far.
func (o *cleanOutput) size() int64 {
	if o.file == nil {
		return o.seg.meta.size
	}
	return o.wrote + int64(len(o.buf))
}

// due notes the delete horizon of a batch that is to be emitted.
func (o *cleanOutput) due(horizon int64) { o.horizon = min(o.horizon, horizon) }

// start begins the file with what was gathered without change.
func (o *cleanOutput) start() error {
	if o.file != nil {
		return nil
	}
	fs := o.log.env.cfg.FS
	if err := fs.Remove(o.tempName()); err != nil && !isNotExist(err) {
		return o.fail("remove old temporary", err)
	}
	src, err := o.src.pin()
	if err != nil {
		return err
	}
	defer o.src.unpin()
	f, err := fs.Create(o.tempName())
	if isNotExist(err) {
		return errMoved // the log was removed
	}
	if err != nil {
		return o.fail("create", err)
	}
	o.file = f
	if o.seg.meta.size > 0 {
		if err := copyBytes(f, src, o.seg.meta.size); err != nil {
			return o.fail("copy to", err)
		}
	}
	o.wrote, o.alloc = o.seg.meta.size, o.seg.meta.size
	o.buf = make([]byte, 0, cleanBuffer+cleanBuffer/4)
	return nil
}

func (o *cleanOutput) fail(what string, err error) error {
	return o.log.env.writeError(fmt.Errorf("%s %s: %w", what, o.tempName(), err))
}

// emit takes a batch as it is.
func (o *cleanOutput) emit(b record.Batch, h batchHead) error {
	if o.file == nil {
		o.noteMarker(b)
		o.seg.addBatch(h, o.interval())
		return nil
	}
	if err := o.settle(); err != nil {
		return err
	}
	o.hold(append(o.buf, b...), h.next)
	return nil
}

// rewrite takes what a cursor has kept of a batch.
func (o *cleanOutput) rewrite(c *record.Cursor, horizon int64, h batchHead) error {
	if err := errors.Join(o.start(), o.settle()); err != nil {
		return err
	}
	buf, err := c.Append(o.buf, horizon)
	if err != nil {
		return fmt.Errorf("rewrite batch at offset %d: %w", h.base, err)
	}
	o.hold(buf, h.next)
	return nil
}

// empty takes an empty batch in the place of one.
func (o *cleanOutput) empty(e record.Empty, h batchHead) error {
	if err := errors.Join(o.start(), o.settle()); err != nil {
		return err
	}
	o.hold(e.Append(o.buf), h.next)
	return nil
}

// skip leaves a batch out.
func (o *cleanOutput) skip(h batchHead) error {
	if err := o.start(); err != nil {
		return err
	}
	if o.held >= 0 {
		b := record.Batch(o.buf[o.held:])
		// Sequences are counted by offsets, so a batch of a producer keeps its own; epochs too.
		if b.ProducerID() < 0 && b.LeaderEpoch() == h.epoch && h.next-1-b.BaseOffset() <= math.MaxInt32 {
			o.heldNext = h.next
			return nil
		}
	}
	return o.empty(record.Empty{
		First: h.base, Last: h.next - 1, LeaderEpoch: h.epoch,
		ProducerID: record.NoProducerID, ProducerEpoch: -1, BaseSequence: -1,
	}, h)
}

// hold takes buf with a new last batch.
func (o *cleanOutput) hold(buf []byte, next int64) {
	o.held, o.heldNext = len(o.buf), next
	o.buf = buf
}

// settle ends the batch held back, and writes when there is enough.
func (o *cleanOutput) settle() error {
	if o.held < 0 {
		return nil
	}
	b := record.Batch(o.buf[o.held:])
	if o.heldNext > b.NextOffset() {
		b.SetLastOffset(o.heldNext - 1)
	}
	o.noteMarker(b)
	o.seg.addBatch(headOf(b, o.wrote+int64(o.held)), o.interval())
	o.held = -1
	if len(o.buf) < cleanBuffer {
		return nil
	}
	return o.flush()
}

func (o *cleanOutput) noteMarker(b record.Batch) {
	if b.Attributes().Control() {
		o.markers = append(o.markers, b.BaseOffset())
	}
}

func (o *cleanOutput) interval() int64 { return int64(o.log.config().IndexInterval) }

func (o *cleanOutput) flush() error {
	end := o.wrote + int64(len(o.buf))
	at := o.log.env.watch.begin()
	defer o.log.env.watch.end(at)
	if end > o.alloc {
		step := max(end-o.alloc, cleanAhead)
		if err := o.file.Allocate(o.alloc, step); err != nil {
			return o.fail("allocate", err)
		}
		o.alloc += step
	}
	if _, err := o.file.WriteAt(o.buf, o.wrote); err != nil {
		return o.fail("write", err)
	}
	o.wrote, o.buf = end, o.buf[:0]
	if cap(o.buf) > 4*cleanBuffer { // one huge batch
		o.buf = make([]byte, 0, cleanBuffer+cleanBuffer/4)
	}
	if o.wrote-o.started >= cleanAhead {
		o.file.StartWriteback(o.started, o.wrote-o.started)
		o.started = o.wrote
	}
	return nil
}

// finish writes and syncs the file.
func (o *cleanOutput) finish() error {
	if err := o.settle(); err != nil {
		return err
	}
	if err := o.flush(); err != nil {
		return err
	}
	o.log.env.step("compact.written")
	at := o.log.env.watch.begin()
	err := o.file.Truncate(o.wrote) // gives back what was allocated ahead
	if err == nil {
		err = asSyncError(o.file.Sync())
	}
	o.log.env.watch.end(at)
	if err != nil {
		return o.fail("sync", err)
	}
	o.log.env.step("compact.synced")
	return nil
}

// discard ends the output. What was not swapped in is removed.
func (o *cleanOutput) discard() {
	if o.file == nil {
		return
	}
	_ = o.file.Close() // nothing depends on it: it was synced, or is thrown away
	o.file = nil
	if o.log.env.Failed() == nil {
		_ = o.log.env.cfg.FS.Remove(o.tempName()) // a leftover is removed at the next open
	}
}
