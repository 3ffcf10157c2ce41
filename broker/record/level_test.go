package record

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func TestHigherLevelsOfACodecMakeSmallerBatchesThatReadAlike(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var text []byte
	for range 30_000 { // words of a language: some come often, most seldom
		text = fmt.Appendf(text, "w%x ", int(math.Abs(rng.NormFloat64())*1000))
	}
	size := func(codec Codec, level int) int {
		t.Helper()
		b := NewBuilder(codec)
		b.SetLevel(level)
		b.Append(Record{Value: text})
		batch, err := b.Build()
		if err != nil {
			t.Fatalf("%v at %d: %v", codec, level, err)
		}
		for r, err := range batch.Records(1 << 20) {
			if err != nil || !bytes.Equal(r.Value, text) {
				t.Fatalf("%v at %d reads otherwise: %v", codec, level, err)
			}
		}
		return batch.Len()
	}
	for _, x := range []struct {
		codec               Codec
		low, high, standard int
	}{{Gzip, 1, 9, -1}, {LZ4, 9, 12, 9}, {Zstd, 1, 19, 3}} {
		if low, high := size(x.codec, x.low), size(x.codec, x.high); high >= low {
			t.Errorf("%v: %d bytes at level %d, %d at %d", x.codec, low, x.low, high, x.high)
		}
		if a, b := size(x.codec, x.standard), size(x.codec, DefaultLevel); a != b {
			t.Errorf("%v: level %d makes %d bytes, the default %d", x.codec, x.standard, a, b)
		}
		size(x.codec, -131072)
		size(x.codec, 1<<20)
	}
}
