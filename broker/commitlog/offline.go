package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path"

	"varve/broker/internal/vfs"
	"varve/broker/record"
)

// What follows reads single files without opening a log, for `varve inspect`. It changes nothing,
// and may run beside a broker.

// FileKind tells what a file of a log directory is, by its name.
type FileKind int

// The kinds of files.
const (
	UnknownFile FileKind = iota
	SegmentFile
	IndexFile
	StartFile
)

// KindOf tells the kind of a file from its name alone.
func KindOf(name string) FileKind {
	base := path.Base(name)
	if _, ok := parseSegmentName(base, logSuffix); ok {
		return SegmentFile
	}
	if _, ok := parseSegmentName(base, indexSuffix); ok {
		return IndexFile
	}
	if base == startName {
		return StartFile
	}
	return UnknownFile
}

// BatchReport describes one batch of a segment file.
type BatchReport struct {
	Pos     int64
	Batch   record.Batch // view, valid during the call
	CRC     error        // nil if the checksum is right
	Problem string       // what breaks the order of offsets or epochs, "" if nothing does
}

// SegmentReport sums up a segment file.
type SegmentReport struct {
	Base, Next int64
	FileBytes  int64
	DataBytes  int64  // up to the end of the last batch
	Logical    int64  // length that the index file says, -1 if there is none
	Batches    int    // in DataBytes
	Problems   int    // batches with a wrong checksum, offset or epoch
	Tail       string // what follows the data: "", "zeros", or "bytes that are not the next batch"
}

// InspectSegment walks a segment file, whose first batch says the base offset if its name does
// not, and calls each for every batch, until it answers false.
// It goes on after a wrong checksum, and stops where no next batch follows.
func InspectSegment(name string, each func(BatchReport) bool) (SegmentReport, error) {
	return inspectSegment(vfs.NewOS(), name, each)
}

func inspectSegment(fsys vfs.FS, name string, each func(BatchReport) bool) (SegmentReport, error) {
	rep := SegmentReport{Logical: -1}
	f, err := fsys.Open(name)
	if err != nil {
		return rep, fmt.Errorf("inspect: %w", err)
	}
	defer f.Close()
	base, named := parseSegmentName(path.Base(name), logSuffix)
	if !named { // what lz4 -d made of a cold object, or a copy
		var head [8]byte
		if _, err := f.ReadAt(head[:], 0); err != nil {
			return rep, fmt.Errorf("inspect %s: %w", name, err)
		}
		base = int64(binary.BigEndian.Uint64(head[:]))
	}
	rep.Base, rep.Next = base, base
	if rep.FileBytes, err = f.Size(); err != nil {
		return rep, fmt.Errorf("inspect %s: %w", name, err)
	}
	end := rep.FileBytes
	if foot, err := readFooter(fsys, path.Join(path.Dir(name), segmentName(base, indexSuffix))); err == nil && foot.kind == kindSegment {
		rep.Logical = foot.size
		end = min(end, foot.size)
	}
	if err := rep.walk(f, end, each); err != nil {
		return rep, fmt.Errorf("inspect %s: %w", name, err)
	}
	if rep.DataBytes < rep.FileBytes {
		rep.Tail = "bytes that are not the next batch"
		if zero, err := isZero(f, rep.DataBytes, rep.FileBytes); err == nil && zero {
			rep.Tail = "zeros"
		}
	}
	return rep, nil
}

func (rep *SegmentReport) walk(f vfs.File, end int64, each func(BatchReport) bool) error {
	w := newScanner(f, 0, end)
	defer w.close()
	epoch := int32(-1)
	for {
		h, err := w.head()
		if errors.Is(err, errNoBatch) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.base < rep.Next {
			return nil // what an earlier life of a recycled file left
		}
		b, err := w.batch(h)
		if errors.Is(err, errNoBatch) {
			return nil
		}
		if err != nil {
			return err
		}
		r := BatchReport{Pos: h.pos, Batch: b, CRC: b.CheckCRC()}
		if h.base != rep.Next {
			r.Problem = fmt.Sprintf("offset %d where %d is next", h.base, rep.Next)
		} else if h.epoch < epoch {
			r.Problem = fmt.Sprintf("epoch %d after %d", h.epoch, epoch)
		}
		if r.CRC != nil || r.Problem != "" {
			rep.Problems++
		}
		rep.Batches++
		rep.Next, rep.DataBytes, epoch = h.next, h.pos+int64(h.size), max(epoch, h.epoch)
		w.skip(h)
		if each != nil && !each(r) {
			return nil
		}
	}
}

// IndexReport is the content of an index or start file.
type IndexReport struct {
	Kind       FileKind
	Segment    SegmentInfo // of a start file: only Base and Next mean something
	Generation uint64      // start file only
	Void       bool        // start file only: a reset is under way
	Cleaned    bool        // index only: the segment was compacted
	HorizonMS  int64       // of a compacted segment: its earliest delete horizon, 0 for none
	Entries    []IndexEntryReport
	Epochs     []EpochStart
	Aborted    []AbortedTxn
	Producers  []ProducerReport
}

// IndexEntryReport is one entry of a sparse index.
type IndexEntryReport struct {
	Offset, Pos   int64
	MaxTimeBefore int64 // largest timestamp before it, math.MinInt64 for none
}

// ProducerReport is one producer of a snapshot.
type ProducerReport struct {
	ID               int64
	Epoch            int16
	LastSequence     int32 // -1 if it has none
	LastSeenMS       int64
	TxnFirst         int64 // -1 if no transaction is open
	CoordinatorEpoch int32 // of the last marker, -1 if there was none
}

// InspectIndex decodes an index or start file, checksums included.
func InspectIndex(name string) (IndexReport, error) { return inspectIndex(vfs.NewOS(), name) }

func inspectIndex(fsys vfs.FS, name string) (IndexReport, error) {
	x, err := readIndexFile(fsys, name)
	if err != nil {
		return IndexReport{}, fmt.Errorf("inspect: %w", err)
	}
	rep := IndexReport{
		Kind: IndexFile, Segment: x.info(true), Generation: x.generation, Void: x.flags&flagVoid != 0,
		Cleaned: x.flags&flagCleaned != 0, HorizonMS: x.horizon,
		Epochs: x.history, Aborted: x.abortedBy,
	}
	if x.kind == kindStart {
		rep.Kind = StartFile
	}
	for _, e := range x.index {
		rep.Entries = append(rep.Entries, IndexEntryReport{x.base + int64(e.rel), int64(e.pos), e.maxBefore})
	}
	rep.Producers, err = InspectProducers(x.snapshot)
	if err != nil {
		return rep, fmt.Errorf("inspect %s: %w", name, err)
	}
	return rep, nil
}

// InspectProducers decodes a producer snapshot, in rising order of producer ids.
func InspectProducers(snapshot []byte) ([]ProducerReport, error) {
	t, _, err := decodeProducers(snapshot)
	if err != nil {
		return nil, err
	}
	var out []ProducerReport
	for _, id := range t.ids() {
		p := t.byID[id]
		out = append(out, ProducerReport{id, p.epoch, p.lastSeq(), p.lastSeen, p.txnFirst, p.coordEpoch})
	}
	return out, nil
}
