package tiering

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pierrec/lz4/v4"
)

// The LZ4 frame as this package writes it; the reader accepts exactly this.
//
//	magic 04 22 4D 18 | FLG 60 | BD 70 | HC 73 | block* | 00 00 00 00
//	block = size u32 LE (top bit: stored as it is) | bytes
//
// FLG: version 1, independent blocks, no checksums (the index has a CRC32C over
// the whole frame), no content size. BD: blocks of at most 4 MiB. HC depends on
// the two alone, hence the constant. The general frame writer is not used: it
// hashes what the index already protects and keeps buffers of its own.
const (
	frameHead     = "\x04\x22\x4d\x18\x60\x70\x73"
	frameOverhead = len(frameHead) + 4 + 4 // of a frame with one block
	frameEnd      = "\x00\x00\x00\x00"
	maxBlockBytes = 4 << 20
	storedBit     = 1 << 31

	// skipMagic begins the trailer: 0x184D2A50 to 5F are skippable frames, and
	// 56 is 'V'.
	skipMagic = 0x184D2A56
	skipHead  = 8

	// maxChunkRaw bounds what one chunk may unpack to. A chunk is 1 MiB or one
	// batch, and a batch is smaller than the largest request (100 MiB).
	maxChunkRaw = 256 << 20
	// maxRatio is the most that LZ4 can save, with room for short blocks.
	maxRatio = 256
)

var errFrame = errors.New("not a frame of this format")

// storedView returns the payload of a frame that holds one stored block, without
// copying; ok is false for every other frame.
func storedView(frame []byte, raw int) (view []byte, ok bool) {
	if len(frame) != raw+frameOverhead || raw < 1 || raw > maxBlockBytes {
		return nil, false
	}
	head := len(frameHead) + 4
	if string(frame[:len(frameHead)]) != frameHead || string(frame[len(frame)-4:]) != frameEnd {
		return nil, false
	}
	if binary.LittleEndian.Uint32(frame[len(frameHead):]) != uint32(raw)|storedBit {
		return nil, false
	}
	return frame[head : head+raw : head+raw], true
}

// unpackFrame decodes frame into dst, which it must fill exactly.
func unpackFrame(frame, dst []byte) error {
	if len(frame) < len(frameHead)+4 || string(frame[:len(frameHead)]) != frameHead {
		return fmt.Errorf("frame header: %w", errFrame)
	}
	b, out := frame[len(frameHead):], dst
	for {
		if len(b) < 4 {
			return fmt.Errorf("frame cut off before its end mark: %w", errFrame)
		}
		word := binary.LittleEndian.Uint32(b)
		b = b[4:]
		if word == 0 {
			break
		}
		size := int(word &^ storedBit)
		if size == 0 || size > maxBlockBytes || size > len(b) {
			return fmt.Errorf("block of %d bytes with %d left: %w", size, len(b), errFrame)
		}
		n, err := unpackBlock(b[:size], out, word&storedBit != 0)
		if err != nil {
			return err
		}
		b, out = b[size:], out[n:]
	}
	if len(b) != 0 || len(out) != 0 {
		return fmt.Errorf("frame leaves %d bytes and lacks %d of its content: %w", len(b), len(out), errFrame)
	}
	return nil
}

func unpackBlock(block, out []byte, stored bool) (int, error) {
	if stored {
		if len(block) > len(out) {
			return 0, fmt.Errorf("stored block of %d bytes with room for %d: %w", len(block), len(out), errFrame)
		}
		return copy(out, block), nil
	}
	n, err := lz4.UncompressBlock(block, out[:min(len(out), maxBlockBytes)])
	if err != nil {
		return 0, fmt.Errorf("unpack block: %w: %w", errFrame, err)
	}
	return n, nil
}
