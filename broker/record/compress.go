package record

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Encoders are kept for reuse, by level: each holds tables of 100 KiB and more.
var (
	gzipWriters [gzip.BestCompression + 1]sync.Pool // at 0 those of the default level
	lz4Writers  [lz4Levels + 1]sync.Pool            // at 0 those of the default level
	zstdEncoder [zstd.SpeedBestCompression + 1]struct {
		once sync.Once
		enc  *zstd.Encoder
		err  error
	}
)

// lz4Levels is how many levels of high compression the library has; higher ones of Kafka's are as
// this one.
const lz4Levels = 9

// DefaultLevel of a codec is what Kafka's defaults mean (gzip -1, lz4 9, zstd 3).
const DefaultLevel = math.MinInt

func gzipWriter(level int) (w *gzip.Writer, back func(), err error) {
	i := max(0, min(level, gzip.BestCompression))
	pool := &gzipWriters[i]
	w, ok := pool.Get().(*gzip.Writer)
	if !ok {
		if i == 0 {
			i = gzip.DefaultCompression
		}
		w, err = gzip.NewWriterLevel(nil, i)
	}
	return w, func() { pool.Put(w) }, err
}

func lz4Writer(level int) (w *lz4.Writer, back func(), err error) {
	i := max(0, min(level, lz4Levels))
	if level == kafkaLZ4Level {
		i = 0 // Kafka's default means the fast compressor, not the ninth level
	}
	pool := &lz4Writers[i]
	w, ok := pool.Get().(*lz4.Writer)
	if !ok {
		w = lz4.NewWriter(nil)
		// Java's reader takes independent blocks only; 64 KiB is what Java writes, and a reader
		// allocates the declared block size whatever the batch holds.
		opts := []lz4.Option{lz4.BlockSizeOption(lz4.Block64Kb)}
		if i > 0 {
			opts = append(opts, lz4.CompressionLevelOption(lz4.CompressionLevel(1<<(8+i))))
		}
		err = w.Apply(opts...)
	}
	return w, func() { pool.Put(w) }, err
}

const (
	kafkaLZ4Level  = 9
	kafkaZstdLevel = 3
)

// zstdAt is the encoder of a level. Only EncodeAll is used, which starts no goroutine. One encoder a
// level at a time, because nothing on a hot path compresses: producers do.
func zstdAt(level int) (*zstd.Encoder, error) {
	if level == DefaultLevel {
		level = kafkaZstdLevel
	}
	speed := zstd.EncoderLevelFromZstd(level)
	e := &zstdEncoder[speed]
	e.once.Do(func() {
		e.enc, e.err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithEncoderLevel(speed))
	})
	return e.enc, e.err
}

// compress appends src, encoded at the default level, to dst.
func compress(codec Codec, dst, src []byte) ([]byte, error) {
	return compressAt(codec, DefaultLevel, dst, src)
}

// compressAt appends src, encoded, to dst. Levels are Kafka's; those that a codec does not have are
// taken as its nearest. Snappy is written as one raw block, which every client reads, Java's too.
func compressAt(codec Codec, level int, dst, src []byte) ([]byte, error) {
	switch codec {
	case None:
		return append(dst, src...), nil
	case Gzip:
		w, back, err := gzipWriter(level)
		if err != nil {
			return nil, fmt.Errorf("start gzip: %w", err)
		}
		defer back()
		return writeAll(w, dst, src, w.Reset)
	case Snappy:
		return append(dst, snappy.Encode(nil, src)...), nil
	case LZ4:
		w, back, err := lz4Writer(level)
		if err != nil {
			return nil, fmt.Errorf("start lz4: %w", err)
		}
		defer back()
		return writeAll(w, dst, src, w.Reset)
	case Zstd:
		enc, err := zstdAt(level)
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
