package partition

import (
	"errors"
	"strings"
	"testing"
)

// flipBit changes one bit of the middle of the first segment file on disk.
func (w *world) flipBit() {
	w.t.Helper()
	entries, err := w.fs.ReadDir(w.r.Dir())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".log") {
			continue
		}
		f, err := w.fs.OpenReadWrite(w.r.Dir() + "/" + e.Name())
		if err != nil {
			w.t.Fatal(err)
		}
		var b [1]byte
		if _, err := f.ReadAt(b[:], 2000); err != nil {
			w.t.Fatal(err)
		}
		b[0] ^= 0x10
		if _, err := f.WriteAt(b[:], 2000); err != nil {
			w.t.Fatal(err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			w.t.Fatal(err)
		}
		return
	}
	w.t.Fatal("no segment file")
}

func TestABitRottenInASealedSegmentIsNeverUploaded(t *testing.T) {
	w := newWorld(t, func(c *TopicConfig) { c.LocalBytes = 0 })
	w.append(60, 3, 100)
	w.flipBit()
	if err := w.work(); !errors.Is(err, ErrStorage) {
		t.Fatalf("an upload of a rotten segment: %v", err)
	}
	l, err := w.r.Log()
	if err != nil {
		t.Fatal(err)
	}
	if w.r.TieredEnd() != 0 || l.LocalStart() != 0 {
		t.Errorf("tiered to %d, local from %d: something rotten was committed or dropped", w.r.TieredEnd(), l.LocalStart())
	}
}
