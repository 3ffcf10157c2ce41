package tiering

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pierrec/lz4/v4"

	"varve/tiering/object"
)

// shapes are segments that take every path of the object builder.
var shapes = []struct {
	name string
	make func(w *world) []Batch
}{
	{"one small batch", func(w *world) []Batch { return w.segment(1, 1, 0, false) }},
	{"many small batches", func(w *world) []Batch { return w.segment(500, 3, 40, false) }},
	{"compressed by the producer", func(w *world) []Batch { return w.segment(40, 10, 900, true) }},
	{"incompressible but not marked", func(w *world) []Batch {
		b := w.segment(40, 10, 900, true)
		for i := range b {
			b[i].Compressed = false
		}
		return b
	}},
	{"mixed in one chunk", func(w *world) []Batch {
		var out []Batch
		next := int64(0)
		for i := range 60 {
			b := batchSpec{first: next, records: 2, ts: 5, fill: 300 + i*20, random: i%3 == 0, epoch: 7}.make(w.rng)
			out = append(out, b)
			next = b.Last + 1
		}
		return out
	}},
	{"batch larger than a chunk", func(w *world) []Batch { return w.segment(3, 5, 70_000, false) }},
	{"batch larger than a block", func(w *world) []Batch { return w.segment(2, 5, 9<<20, false) }},
	{"stored batch larger than a block", func(w *world) []Batch { return w.segment(2, 5, 5<<20, true) }},
}

func TestReadReturnsWhatWasUploaded(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.upload(s.make(w))
			for _, maxBytes := range []int{1, 1000, 8 << 10, 64 << 20} {
				w.mustEqual(w.readAll(0, maxBytes), w.sourceFrom(0))
			}
			mid := w.ptr.TieredEnd / 2
			w.mustEqual(w.readAll(mid, 5000), w.sourceFrom(mid))
			w.reopen()
			w.mustEqual(w.readAll(0, 1<<20), w.sourceFrom(0))
		})
	}
}

func TestColdObjectIsAPlainLZ4FileOfTheSegment(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t, nil)
			batches := s.make(w)
			w.upload(batches)
			want := joinBatches(batches)
			obj := w.object(resolve(w.p.dir, w.entries()[0].Key))
			got, err := io.ReadAll(lz4.NewReader(bytes.NewReader(obj)))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("lz4.Reader gives %d bytes, segment has %d", len(got), len(want))
			}
			cmd := exec.Command(program(t, "lz4", "lz4"), "-d", "-c")
			cmd.Stdin = bytes.NewReader(obj)
			got, err = cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("lz4 program gives %d bytes, segment has %d", len(got), len(want))
			}
		})
	}
}

func TestCompressionIsGivenUpAfterTwoMisses(t *testing.T) {
	w := newWorld(t, nil)
	batches := w.segment(4, 2, 3<<10, true) // do not compress, and nobody said so
	for i := range batches {
		batches[i].Compressed = false
	}
	next := batches[3].Last + 1
	batches = append(batches, batchSpec{first: next, records: 2, ts: 1, fill: 3 << 10, epoch: 7}.make(w.rng))
	w.upload(batches)
	e := w.entries()[0]
	want := e.RawBytes + 5*int64(frameOverhead) + skipHead + e.IndexLen + int64(len("producers as of 10"))
	if e.StoredBytes != want {
		t.Fatalf("object has %d bytes, stored chunks and trailer make %d", e.StoredBytes, want)
	}
}

func TestNoCompressionStoresBatchesAsTheyAre(t *testing.T) {
	w := newWorld(t, nil)
	batches := w.segment(50, 2, 500, false)
	r := w.rangeOf(batches)
	r.NoCompression = true
	c, err := w.p.Upload(context.Background(), r, &sliceReader{batches: batches})
	if err != nil {
		t.Fatal(err)
	}
	w.apply(c)
	if e := w.entries()[0]; e.StoredBytes <= e.RawBytes {
		t.Fatalf("%d bytes stored for %d raw", e.StoredBytes, e.RawBytes)
	}
}

func TestAnUploadIsTwoPuts(t *testing.T) {
	w := newWorld(t, nil)
	for range 3 {
		if n := w.counted(object.OpPut, func() { w.upload(w.segment(20, 3, 500, false)) }); n != 2 {
			t.Fatalf("%d PUTs for one upload", n)
		}
	}
	if n := w.count(object.OpGet) + w.count(object.OpHead) + w.count(object.OpList); n != 0 {
		t.Fatalf("%d other requests for uploads", n)
	}
}

func TestFirstTouchIsTwoGetsAndCachedIsNone(t *testing.T) {
	cache := t.TempDir()
	w := newWorld(t, func(c *Config) { c.CacheDir, c.CacheBytes = cache, 64<<20 })
	w.upload(w.segment(200, 3, 500, false))
	w.reopen()
	if _, err := w.p.Describe(context.Background()); err != nil { // reads the manifest
		t.Fatal(err)
	}
	first := func() {
		d, err := w.p.Read(context.Background(), 300, 1000, true)
		if err != nil {
			t.Fatal(err)
		}
		d.Release()
	}
	if n := w.counted(object.OpGet, first); n != 2 {
		t.Fatalf("%d GETs for the first touch", n)
	}
	if n := w.counted(object.OpGet, first); n != 0 {
		t.Fatalf("%d GETs for what is in memory", n)
	}
	w.waitDiskWrites(3)
	w.reopen()
	if n := w.counted(object.OpGet, first); n != 0 {
		t.Fatalf("%d GETs for what is in the disk cache, manifest included", n)
	}
}

func TestUploadRefusesARangeThatDoesNotContinueTheTier(t *testing.T) {
	w := newWorld(t, nil)
	w.upload(w.segment(5, 3, 100, false))
	for name, change := range map[string]func(r *Range, b []Batch) []Batch{
		"starts late":       func(r *Range, b []Batch) []Batch { r.First += 3; return b[1:] },
		"ends late":         func(r *Range, b []Batch) []Batch { r.Next += 3; return b },
		"gap":               func(_ *Range, b []Batch) []Batch { return append(b[:1:1], b[2:]...) },
		"falling epoch":     func(_ *Range, b []Batch) []Batch { b[3].Epoch--; return b },
		"epoch unknown":     func(r *Range, b []Batch) []Batch { r.Epochs[0].Start += 1; return b },
		"no batches":        func(_ *Range, _ []Batch) []Batch { return nil },
		"aborted elsewhere": func(r *Range, b []Batch) []Batch { r.Aborted = []Aborted{{1, 0, 1}}; return b },
	} {
		b := w.segment(5, 3, 100, false)
		r := w.rangeOf(b)
		b = change(&r, b)
		_, err := w.p.Upload(context.Background(), r, &sliceReader{batches: b})
		if !errors.Is(err, ErrRange) {
			t.Errorf("%s: %v", name, err)
		}
	}
	boom := errors.New("rotten bit")
	b := w.segment(5, 3, 100, false)
	if _, err := w.p.Upload(context.Background(), w.rangeOf(b), &sliceReader{batches: b[:2], err: boom}); !errors.Is(err, boom) {
		t.Errorf("the reader's own error is lost: %v", err)
	}
	if len(w.keys()) != 2 {
		t.Errorf("refused uploads left objects: %v", w.keys())
	}
}

func TestUploadStartsInsideABatchThatLogStartCuts(t *testing.T) {
	w := newWorld(t, nil)
	w.upload(w.segment(5, 10, 100, false))
	w.ptr.LogStart, w.ptr.TieredEnd = 63, 63 // DeleteRecords went past the tier
	w.p.SetPointer(w.ptr)
	var batches []Batch
	for next := int64(60); next < 100; next += 10 {
		batches = append(batches, batchSpec{first: next, records: 10, ts: next, fill: 50, epoch: 7}.make(w.rng))
	}
	w.src = nil
	w.upload(batches)
	w.mustEqual(w.readAll(63, 1000), w.sourceFrom(63))
	if _, err := w.p.Read(context.Background(), 62, 1000, true); !errors.Is(err, ErrOutOfRange) {
		t.Fatalf("read below log start: %v", err)
	}
	m, err := w.p.Manifest(context.Background())
	if err != nil || len(m.Entries) != 1 || len(m.Deleted) != 1 {
		t.Fatalf("manifest %+v, %v", m, err)
	}
}

func TestManyEntriesMoveToPagesAndStayReadable(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.PageEntries = 4 })
	for range 18 {
		w.upload(w.segment(3, 2, 50, false))
	}
	m, err := w.p.Manifest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Pages) != 4 || len(m.Entries) != 2 || m.Count != 18 {
		t.Fatalf("%d pages, %d entries, %d in all", len(m.Pages), len(m.Entries), m.Count)
	}
	w.reopen()
	w.mustEqual(w.readAll(0, 1<<20), w.sourceFrom(0))
	if got := w.entries(); len(got) != 18 {
		t.Fatalf("%d entries", len(got))
	}
	pages := 0
	for _, k := range w.keys() {
		if strings.Contains(k, "/pages/") {
			pages++
		}
	}
	if pages != 4 {
		t.Fatalf("%d page objects", pages)
	}
}

// waitDiskWrites returns when the disk cache has written n files.
func (w *world) waitDiskWrites(n int64) {
	w.t.Helper()
	w.eventually("disk cache writes", func() bool { return w.tier.Stats().DiskWrites >= n })
}

func TestADirectoryStoreHoldsTheSame(t *testing.T) {
	store, err := object.Open(context.Background(), "dir://"+t.TempDir(), object.Config{})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *Config) { c.Store, c.PageEntries = store, 2 })
	for range 5 {
		w.upload(w.segment(30, 3, 500, false))
	}
	w.reopen()
	w.mustEqual(w.readAll(0, 5000), w.sourceFrom(0))
	w.retain(Policy{LogStart: 300, Age: noLimit, Bytes: noLimit})
	w.clock.Advance(time.Hour)
	if got := w.collect(); got.Objects != 3 || got.Pages != 1 {
		t.Fatalf("%+v", got)
	}
	w.mustEqual(w.readAll(300, 5000), w.sourceFrom(300))
	w.close()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}
