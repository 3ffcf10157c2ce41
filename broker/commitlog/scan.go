package commitlog

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"varve/broker/record"
)

// batchHead is what is kept of a batch header while walking a segment.
type batchHead struct {
	pos      int64
	size     int
	base     int64
	next     int64
	epoch    int32
	crc      uint32
	baseTime int64
	maxTime  int64
}

// scanBuffer is the read-ahead of a walk: larger would read bytes that a lookup does not need,
// smaller would make a scan of whole segments one system call per 16 KiB.
const scanBuffer = 64 << 10

var scanBuffers = sync.Pool{New: func() any { b := make([]byte, scanBuffer); return &b }}

// keepLarge bounds the buffer for one large batch that a scanner keeps for the next walk: above it are
// few topics, and a walk of a segment pays for one buffer only.
const keepLarge = 2 << 20

var scanners = sync.Pool{New: func() any { return new(scanner) }}

// scanner walks the batches of a segment from pos up to end. It never allocates more than one
// batch, and that only after the batch was seen to fit into [pos, end).
type scanner struct {
	r        io.ReaderAt
	pos, end int64
	buf      []byte // a view of the file from bufPos on
	bufPos   int64
	pooled   *[]byte
	large    []byte // for batches above scanBuffer
	chunk    int64  // bytes of one read
}

// errNoBatch ends a walk at bytes that are not a batch: the end of the data or damage. What it
// is only the caller can tell.
var errNoBatch = errors.New("no batch here")

func newScanner(r io.ReaderAt, pos, end int64) *scanner {
	p := scanBuffers.Get().(*[]byte)
	s := scanners.Get().(*scanner)
	*s = scanner{r: r, pos: pos, end: end, pooled: p, buf: (*p)[:0], chunk: scanBuffer, large: s.large}
	return s
}

// close gives the scanner and its buffer back; views die here. It is called once.
func (s *scanner) close() {
	scanBuffers.Put(s.pooled)
	large := s.large
	if cap(large) > keepLarge {
		large = nil
	}
	*s = scanner{large: large}
	scanners.Put(s)
}

// view returns n <= scanBuffer bytes at s.pos, fewer at the end.
func (s *scanner) view(n int) ([]byte, error) {
	off := s.pos - s.bufPos
	if off >= 0 && off <= int64(len(s.buf)) && int64(len(s.buf))-off >= int64(n) {
		return s.buf[off : off+int64(n)], nil
	}
	want := min(max(s.chunk, int64(n)), s.end-s.pos)
	got, err := s.r.ReadAt((*s.pooled)[:want], s.pos)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read segment at %d: %w", s.pos, err)
	}
	s.buf, s.bufPos = (*s.pooled)[:got], s.pos
	return s.buf[:min(n, got)], nil
}

// head reads the header at s.pos without moving. errNoBatch says that no whole batch begins here
// before end. The batch's bytes are not looked at.
func (s *scanner) head() (batchHead, error) {
	if s.end-s.pos < record.HeaderLen {
		return batchHead{}, errNoBatch
	}
	b, err := s.view(record.HeaderLen)
	if err != nil {
		return batchHead{}, err
	}
	if len(b) < record.HeaderLen {
		return batchHead{}, errNoBatch
	}
	return parseHead(b, s.pos, s.end)
}

const magicAt = 16

// parseHead reads a header and checks what walking relies on: magic, a length that ends by end,
// offsets that do not go back or overflow.
func parseHead(b []byte, pos, end int64) (batchHead, error) {
	size, err := record.PeekSize(b)
	if err != nil || b[magicAt] != 2 || int64(size) > end-pos {
		return batchHead{}, errNoBatch
	}
	v := record.Batch(b)
	h := batchHead{
		pos: pos, size: size, base: v.BaseOffset(), next: v.NextOffset(), epoch: v.LeaderEpoch(),
		crc: v.CRC(), baseTime: baseTime(v), maxTime: v.MaxTimestamp(),
	}
	if h.base < 0 || h.next <= h.base || v.LastOffsetDelta() < 0 {
		return batchHead{}, errNoBatch
	}
	return h, nil
}

// baseTime is the time of the first record, as far as a header tells: compaction may have put a
// delete horizon in its place, which lies in the future.
func baseTime(b record.Batch) int64 {
	if b.Attributes().DeleteHorizon() {
		return b.MaxTimestamp()
	}
	return b.BaseTimestamp()
}

// batch reads the whole batch that head has seen at s.pos, without moving. The view is valid
// until the next call.
func (s *scanner) batch(h batchHead) (record.Batch, error) {
	var b []byte
	if h.size <= scanBuffer {
		v, err := s.view(h.size)
		if err != nil {
			return nil, err
		}
		b = v
	} else {
		if cap(s.large) < h.size {
			s.large = make([]byte, h.size)
		}
		n, err := s.r.ReadAt(s.large[:h.size], s.pos)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read segment at %d: %w", s.pos, err)
		}
		b = s.large[:n]
	}
	if len(b) < h.size {
		return nil, errNoBatch
	}
	batch, err := record.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoBatch, err)
	}
	return batch, nil
}

// skip moves past a batch.
func (s *scanner) skip(h batchHead) { s.pos = h.pos + int64(h.size) }
