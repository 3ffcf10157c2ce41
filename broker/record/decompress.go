package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

const (
	// firstStep is the most that is allocated before the bytes have proved that they decompress to
	// so much. Above it memory grows with what came out, at most twice that, never past the limit.
	firstStep = 1 << 20
	// maxZstdWindow is 1<<27, what the reference decoder takes by default, so that a batch is
	// readable here exactly when Java reads it. It costs no memory: the output is the window.
	maxZstdWindow = 128 << 20
	// maxSnappyRatio bounds what a raw snappy block can grow by: its best element is a copy of 64
	// bytes in 3.
	maxSnappyRatio = 22
	// maxPooledBuffer keeps one huge batch from pinning its buffer for ever; 4 MiB holds the usual
	// 1 MiB batch at the usual ratio.
	maxPooledBuffer = 4 << 20
)

var (
	gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}
	lz4Readers  = sync.Pool{New: func() any { return lz4.NewReader(nil) }}
	buffers     = sync.Pool{New: func() any { return new([]byte) }}

	// zstdDecoder takes as many DecodeAll at a time as there are CPUs, and starts no goroutine.
	zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecodeAllCapLimit(true))
	})
)

// errLimit is inside this file; callers see ErrTooLarge with the number.
var errLimit = errors.New("over the limit")

// decompress returns src decoded, in dst's memory if that suffices. More than limit bytes is
// ErrTooLarge, anything else that goes wrong is a *CorruptError. Peak memory is below
// 4 * limit + 16 MiB whatever src says.
func decompress(codec Codec, dst, src []byte, limit int) ([]byte, error) {
	var err error
	switch codec {
	case Gzip:
		dst, err = gunzip(dst[:0], src, limit)
	case Snappy:
		dst, err = unsnappy(dst[:0], src, limit)
	case LZ4:
		dst, err = unlz4(dst[:0], src, limit)
	case Zstd:
		dst, err = unzstd(dst[:0], src, limit)
	default:
		err = fmt.Errorf("unknown codec %d", codec)
	}
	if errors.Is(err, errLimit) {
		return nil, fmt.Errorf("%w: %d bytes of %v hold more than %d", ErrTooLarge, len(src), codec, limit)
	}
	if err != nil {
		return nil, corruptf(HeaderLen, "decompress %v: %v", codec, err)
	}
	return dst, nil
}

func gunzip(dst, src []byte, limit int) ([]byte, error) {
	r := gzipReaders.Get().(*gzip.Reader)
	defer gzipReaders.Put(r)
	if err := r.Reset(bytes.NewReader(src)); err != nil {
		return nil, err
	}
	return readAll(dst, r, limit, len(src))
}

// unlz4 reads LZ4 frames. The wrong header checksum that Kafka wrote was for magic 0 and 1 only
// (KIP-57), so the library's check stands.
func unlz4(dst, src []byte, limit int) ([]byte, error) {
	r := lz4Readers.Get().(*lz4.Reader)
	defer lz4Readers.Put(r)
	r.Reset(bytes.NewReader(src))
	return readAll(dst, r, limit, len(src))
}

// readAll reads r to its end, but at most one byte past limit.
func readAll(dst []byte, r io.Reader, limit, compressed int) ([]byte, error) {
	dst = dst[:0:min(cap(dst), limit+1)]
	if cap(dst) == 0 {
		dst = make([]byte, 0, guess(compressed, limit+1))
	}
	for idle := 0; idle < 16; idle++ {
		if len(dst) == cap(dst) {
			dst = grow(dst, limit+1)
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if len(dst) > limit {
			return nil, errLimit
		}
		if err == io.EOF { // io.Reader promises the bare value
			return dst, nil
		}
		if err != nil {
			return nil, err
		}
		if n > 0 {
			idle = 0
		}
	}
	return nil, io.ErrNoProgress
}

// guess is the first buffer for so many compressed bytes, at most most.
func guess(compressed, most int) int {
	return min(max(3*min(compressed, firstStep), 4096), firstStep, most)
}

// grow doubles the capacity, to at most most; the caller has less than that.
func grow(dst []byte, most int) []byte {
	bigger := make([]byte, len(dst), min(2*cap(dst), most))
	copy(bigger, dst)
	return bigger
}

// xerialMagic begins the framing of snappy-java, which Java clients write: magic, version and
// lowest compatible version (4 bytes each), then blocks of int32 length and raw snappy. Other
// clients write one raw block.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHeaderLen = 16

func unsnappy(dst, src []byte, limit int) ([]byte, error) {
	if !bytes.HasPrefix(src, xerialMagic) {
		return unsnappyBlock(dst, src, limit)
	}
	if len(src) < xerialHeaderLen {
		return nil, errors.New("xerial header is cut off")
	}
	src = src[xerialHeaderLen:]
	for len(src) > 0 {
		if len(src) < 4 {
			return nil, errors.New("xerial block length is cut off")
		}
		n := binary.BigEndian.Uint32(src)
		src = src[4:]
		if uint64(n) > uint64(len(src)) {
			return nil, fmt.Errorf("xerial block of %d bytes with %d left", n, len(src))
		}
		var err error
		if dst, err = unsnappyBlock(dst, src[:n], limit); err != nil {
			return nil, err
		}
		src = src[n:]
	}
	return dst, nil
}

// unsnappyBlock appends the one raw block in src.
func unsnappyBlock(dst, src []byte, limit int) ([]byte, error) {
	n, err := snappy.DecodedLen(src)
	if err != nil {
		return nil, err
	}
	if n > limit-len(dst) {
		return nil, errLimit
	}
	if n > maxSnappyRatio*len(src) {
		return nil, fmt.Errorf("snappy block of %d bytes claims %d", len(src), n)
	}
	if need := len(dst) + n; need > cap(dst) {
		bigger := make([]byte, len(dst), min(max(2*cap(dst), need), limit))
		copy(bigger, dst)
		dst = bigger
	}
	if _, err := snappy.Decode(dst[len(dst):len(dst)+n], src); err != nil {
		return nil, err
	}
	return dst[:len(dst)+n], nil
}

func unzstd(dst, src []byte, limit int) ([]byte, error) {
	dec, err := zstdDecoder()
	if err != nil {
		return nil, err
	}
	size := guess(len(src), limit)
	var head zstd.Header
	if err := head.Decode(src); err == nil && head.HasFCS {
		if head.FrameContentSize > uint64(limit) {
			return nil, errLimit
		}
		// A true size saves the retries; a false one costs a few times the input at most.
		size = max(size, min(int(head.FrameContentSize), max(firstStep, 16*len(src)), limit))
	}
	dst = dst[:0:min(cap(dst), limit)]
	for {
		if cap(dst) < size {
			dst = make([]byte, 0, size)
		}
		out, err := dec.DecodeAll(src, dst)
		if !errors.Is(err, zstd.ErrDecoderSizeExceeded) {
			return out, err
		}
		if cap(dst) >= limit {
			return nil, errLimit
		}
		// The decoder cannot go on in a larger buffer, so it begins again: four times, not twice,
		// keeps the work in all below 4/3 of the last pass.
		size = min(4*max(cap(dst), 1024), limit)
	}
}
