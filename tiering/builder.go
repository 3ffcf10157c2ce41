package tiering

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/pierrec/lz4/v4"
)

// Batch is one record batch as the caller verified it. Bytes is valid until the
// reader's next call. Offsets are inclusive.
type Batch struct {
	Bytes              []byte
	First, Last        int64
	BaseTimestamp      int64
	MaxTimestamp       int64
	MaxTimestampOffset int64
	Records            int32
	Epoch              int32
	Compressed         bool // by the producer: not tried again
}

// builder lays out one object, chunk by chunk, on a spool. Its memory is one
// chunk and one packed block, whatever the object's size; both are reused for the
// next object.
type builder struct {
	out        *spool
	chunkBytes int
	noCompress bool
	misses     int // blocks that LZ4 did not shrink by an eighth

	raw    []byte // frame header room, then the chunk's batches
	runs   []run  // of raw
	packed []byte
	lz     lz4.Compressor

	chunk Chunk // the one being filled; zero Raw means empty
	index Index
}

// run is a part of a chunk whose batches all were, or were not, compressed by
// their producer; end is its exclusive end in the chunk.
type run struct {
	end    int
	stored bool
}

// maxMisses: after two blocks that do not shrink, the rest of the object is
// stored; a third try has been wasted CPU in practice, and one alone is chance.
const maxMisses = 2

const rawHead = len(frameHead) + 4

func newBuilder(chunkBytes int) *builder {
	return &builder{chunkBytes: chunkBytes, raw: make([]byte, rawHead, rawHead+chunkBytes+len(frameEnd))}
}

// reset begins an object.
func (b *builder) reset(out *spool, noCompress bool) {
	b.out, b.noCompress, b.misses = out, noCompress, 0
	b.raw, b.runs, b.chunk = b.raw[:rawHead], b.runs[:0], Chunk{}
	b.index = Index{}
}

// add appends one batch. Order and gaplessness are the caller's to check.
func (b *builder) add(x *Batch) error {
	if len(x.Bytes) == 0 || len(x.Bytes) > maxChunkRaw {
		return fmt.Errorf("batch at %d has %d bytes", x.First, len(x.Bytes))
	}
	if b.chunk.Raw > 0 && int(b.chunk.Raw)+len(x.Bytes) > b.chunkBytes {
		if err := b.seal(nil); err != nil {
			return err
		}
	}
	b.note(x)
	if len(x.Bytes) > b.chunkBytes {
		b.runs = append(b.runs, run{len(x.Bytes), x.Compressed})
		return b.seal(x.Bytes)
	}
	b.raw = append(b.raw, x.Bytes...)
	if n := len(b.runs); n > 0 && b.runs[n-1].stored == x.Compressed {
		b.runs[n-1].end = len(b.raw) - rawHead
	} else {
		b.runs = append(b.runs, run{len(b.raw) - rawHead, x.Compressed})
	}
	return nil
}

// note takes the batch into the open chunk's line and the object's totals.
func (b *builder) note(x *Batch) {
	c, o := &b.chunk, &b.index
	if c.Raw == 0 {
		*c = Chunk{First: x.First, MaxTimestamp: x.MaxTimestamp, MaxTimestampOffset: x.MaxTimestampOffset}
	}
	if o.Batches == 0 {
		o.First, o.BaseTimestamp = x.First, x.BaseTimestamp
		o.MaxTimestamp, o.MaxTimestampOffset = x.MaxTimestamp, x.MaxTimestampOffset
	}
	if x.MaxTimestamp > c.MaxTimestamp {
		c.MaxTimestamp, c.MaxTimestampOffset = x.MaxTimestamp, x.MaxTimestampOffset
	}
	if x.MaxTimestamp > o.MaxTimestamp {
		o.MaxTimestamp, o.MaxTimestampOffset = x.MaxTimestamp, x.MaxTimestampOffset
	}
	c.Last, o.Last = x.Last, x.Last
	c.Raw += uint32(len(x.Bytes))
	o.BaseTimestamp = min(o.BaseTimestamp, x.BaseTimestamp)
	o.Batches++
	o.Records += int64(x.Records)
	o.RawBytes += int64(len(x.Bytes))
}

// seal writes the open chunk as one frame: big is the batch of a chunk of its
// own, else the bytes are in raw.
func (b *builder) seal(big []byte) error {
	b.chunk.Pos = b.out.pos
	b.out.beginChunk()
	var err error
	if whole := b.raw[rawHead:]; big == nil && len(b.runs) == 1 && len(whole) <= maxBlockBytes &&
		(b.runs[0].stored || !b.mayPack()) {
		err = b.writeStored()
	} else {
		if big != nil {
			whole = big
		}
		err = b.writeBlocks(whole)
	}
	if err != nil {
		return err
	}
	b.chunk.Stored, b.chunk.CRC = uint32(b.out.pos-b.chunk.Pos), b.out.chunkCRC
	b.index.Chunks = append(b.index.Chunks, b.chunk)
	b.chunk, b.raw, b.runs = Chunk{}, b.raw[:rawHead], b.runs[:0]
	return nil
}

func (b *builder) mayPack() bool { return !b.noCompress && b.misses < maxMisses }

// writeStored lays the frame around raw where it lies: one write, no copy.
func (b *builder) writeStored() error {
	n := len(b.raw) - rawHead
	copy(b.raw, frameHead)
	binary.LittleEndian.PutUint32(b.raw[len(frameHead):], uint32(n)|storedBit)
	b.raw = append(b.raw, frameEnd...)
	return b.out.write(b.raw)
}

func (b *builder) writeBlocks(whole []byte) error {
	if err := b.out.write([]byte(frameHead)); err != nil {
		return err
	}
	start := 0
	for _, r := range b.runs {
		for start < r.end {
			block := whole[start:min(r.end, start+maxBlockBytes)]
			if err := b.writeBlock(block, r.stored); err != nil {
				return err
			}
			start += len(block)
		}
	}
	return b.out.write([]byte(frameEnd))
}

func (b *builder) writeBlock(block []byte, stored bool) error {
	var word [4]byte
	if !stored && b.mayPack() {
		if p := b.pack(block); p != nil {
			binary.LittleEndian.PutUint32(word[:], uint32(len(p)))
			if err := b.out.write(word[:]); err != nil {
				return err
			}
			return b.out.write(p)
		}
		b.misses++
	}
	binary.LittleEndian.PutUint32(word[:], uint32(len(block))|storedBit)
	if err := b.out.write(word[:]); err != nil {
		return err
	}
	return b.out.write(block)
}

// pack compresses block if that saves an eighth, else it returns nil.
func (b *builder) pack(block []byte) []byte {
	room := len(block) - len(block)/8
	if cap(b.packed) < room {
		b.packed = make([]byte, max(room, b.chunkBytes))
	}
	n, err := b.lz.CompressBlock(block, b.packed[:room])
	if err != nil || n == 0 || n > room {
		return nil
	}
	return b.packed[:n]
}

// finish seals the last chunk and writes the trailer. It returns the length of
// index and footer.
func (b *builder) finish(producers []byte) (indexLen int64, err error) {
	if len(producers) > maxProducers {
		return 0, fmt.Errorf("producer snapshot of %d bytes, at most %d", len(producers), maxProducers)
	}
	if b.chunk.Raw > 0 {
		if err := b.seal(nil); err != nil {
			return 0, err
		}
	}
	x := &b.index
	x.ProducersPos = b.out.pos + skipHead
	x.ProducersLen, x.ProducersCRC = uint32(len(producers)), crc32.Checksum(producers, castagnoli)
	index := appendIndex(nil, x)
	if len(index) > maxIndexBytes {
		return 0, fmt.Errorf("index of %d bytes, at most %d", len(index), maxIndexBytes)
	}
	var head [skipHead]byte
	binary.LittleEndian.PutUint32(head[:], skipMagic)
	binary.LittleEndian.PutUint32(head[4:], uint32(len(producers)+len(index)+footerBytes))
	footer := appendFooter(nil, x.ProducersPos+int64(len(producers)), index)
	for _, part := range [][]byte{head[:], producers, index, footer} {
		if err := b.out.write(part); err != nil {
			return 0, err
		}
	}
	return int64(len(index) + len(footer)), nil
}

// BatchReader gives the batches of a sealed range in order; io.EOF at the end.
type BatchReader interface{ Next() (Batch, error) }

// fill adds every batch of src and checks that they continue each other: the
// first holds start, none leaves a gap, epochs do not fall.
func (b *builder) fill(src BatchReader, start int64) error {
	next, epoch := start, int32(-1)
	for {
		x, err := src.Next()
		if err == io.EOF { //nolint:errorlint // BatchReader promises the bare value; one wrapped in an error is a fault
			return nil
		}
		if err != nil {
			return fmt.Errorf("read batch at %d: %w", next, err)
		}
		holds := b.index.Batches == 0 && x.First <= start && start <= x.Last
		if !holds && x.First != next || x.Last < x.First || x.First < 0 {
			return fmt.Errorf("batch [%d, %d], expected from %d: %w", x.First, x.Last, next, ErrRange)
		}
		if x.Epoch < epoch {
			return fmt.Errorf("batch at %d has epoch %d after %d: %w", x.First, x.Epoch, epoch, ErrRange)
		}
		if err := b.add(&x); err != nil {
			return err
		}
		next, epoch = x.Last+1, x.Epoch
	}
}
