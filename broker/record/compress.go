package record

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Encoders are kept for reuse: each holds tables of 100 KiB and more.
var (
	gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}
	lz4Writers  = sync.Pool{New: func() any {
		w := lz4.NewWriter(nil)
		// Java's reader takes independent blocks only; 64 KiB is what Java writes, and a reader
		// allocates the declared block size whatever the batch holds.
		if err := w.Apply(lz4.BlockSizeOption(lz4.Block64Kb)); err != nil {
			panic(fmt.Sprintf("lz4 refuses its own option: %v", err))
		}
		return w
	}}
	zstdEncoder = sync.OnceValues(func() (*zstd.Encoder, error) {
		// Only EncodeAll is used, which starts no goroutine. One encoder at a time, because nothing
		// on a hot path compresses: producers do.
		return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	})
)

// compress appends src, encoded, to dst. Snappy is written as one raw block, which every client
// reads, Java's too.
func compress(codec Codec, dst, src []byte) ([]byte, error) {
	switch codec {
	case None:
		return append(dst, src...), nil
	case Gzip:
		w := gzipWriters.Get().(*gzip.Writer)
		defer gzipWriters.Put(w)
		return writeAll(w, dst, src, w.Reset)
	case Snappy:
		return append(dst, snappy.Encode(nil, src)...), nil
	case LZ4:
		w := lz4Writers.Get().(*lz4.Writer)
		defer lz4Writers.Put(w)
		return writeAll(w, dst, src, w.Reset)
	case Zstd:
		enc, err := zstdEncoder()
		if err != nil {
			return nil, fmt.Errorf("start zstd: %w", err)
		}
		return enc.EncodeAll(src, dst), nil
	}
	return nil, fmt.Errorf("%w: unknown codec %d", ErrInvalidRecord, codec)
}

func writeAll(w io.WriteCloser, dst, src []byte, reset func(io.Writer)) ([]byte, error) {
	out := bytes.NewBuffer(dst)
	reset(out)
	defer reset(nil)
	if _, err := w.Write(src); err != nil {
		return nil, fmt.Errorf("compress records: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("compress records: %w", err)
	}
	return out.Bytes(), nil
}
