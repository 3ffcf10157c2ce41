package tiering

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"varve/tiering/object"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A test batch has the layout this package may know (base offset, length, last
// offset delta at 23) and, from byte 61 on, the timestamp of each record; random
// or repeated bytes follow.
const testHead = 61

type batchSpec struct {
	first   int64
	records int
	ts      int64 // of the first record; each next one is 1 ms later
	fill    int   // bytes after the timestamps
	random  bool  // bytes that do not compress
	epoch   int32
}

func (s batchSpec) make(rng *rand.Rand) Batch {
	b := make([]byte, testHead+8*s.records+s.fill)
	binary.BigEndian.PutUint64(b, uint64(s.first))
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[12:], uint32(s.epoch))
	b[16] = 2
	binary.BigEndian.PutUint32(b[23:], uint32(s.records-1))
	binary.BigEndian.PutUint32(b[57:], uint32(s.records))
	for i := range s.records {
		binary.BigEndian.PutUint64(b[testHead+8*i:], uint64(s.ts+int64(i)))
	}
	tail := b[testHead+8*s.records:]
	if s.random {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], rng.Uint64())
		n := copy(tail, word[:])
		fillFrom(tail[n:], randomBlock, int(word[0])) // of another place each time
	} else {
		fillFrom(tail, plainBlock, 0)
	}
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli))
	last := s.first + int64(s.records) - 1
	return Batch{
		Bytes: b, First: s.first, Last: last, BaseTimestamp: s.ts, MaxTimestamp: s.ts + int64(s.records) - 1,
		MaxTimestampOffset: last, Records: int32(s.records), Epoch: s.epoch, Compressed: s.random,
	}
}

// Blocks to copy from: making bytes one by one is slow with the race detector.
var randomBlock, plainBlock = func() (random, plain []byte) {
	rng := rand.New(rand.NewPCG(7, 7))
	for i := range 1 << 17 {
		random = binary.LittleEndian.AppendUint64(random, rng.Uint64())
		plain = append(plain, byte(i/64))
	}
	return random, plain
}()

func fillFrom(dst, block []byte, skip int) {
	for len(dst) > 0 {
		n := copy(dst, block[skip:])
		dst, skip = dst[n:], 0
	}
}

func testSplit(b []byte) (size int, first, last int64, err error) {
	if len(b) < testHead {
		return 0, 0, 0, errors.New("short batch")
	}
	first = int64(binary.BigEndian.Uint64(b))
	return 12 + int(binary.BigEndian.Uint32(b[8:])), first, first + int64(binary.BigEndian.Uint32(b[23:])), nil
}

func testTimestamps(b []byte, ts, from int64) (int64, int64, bool, error) {
	_, first, last, err := testSplit(b)
	for i := int64(0); err == nil && first+i <= last; i++ {
		t := int64(binary.BigEndian.Uint64(b[testHead+8*i:]))
		if first+i >= from && t >= ts {
			return first + i, t, true, nil
		}
	}
	return -1, -1, false, err
}

type sliceReader struct {
	batches []Batch
	err     error // after the last one; nil means io.EOF
}

func (r *sliceReader) Next() (Batch, error) {
	if len(r.batches) == 0 {
		if r.err != nil {
			return Batch{}, r.err
		}
		return Batch{}, io.EOF
	}
	b := r.batches[0]
	r.batches = r.batches[1:]
	return b, nil
}

func joinBatches(batches []Batch) []byte {
	var b []byte
	for i := range batches {
		b = append(b, batches[i].Bytes...)
	}
	return b
}

// testClock moves by hand, with the monotonic part that real times have.
type testClock struct{ ahead atomic.Int64 }

func (c *testClock) Now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *testClock) Advance(d time.Duration) { c.ahead.Add(int64(d)) }

// world is a Tier over a store that outlives it, one partition of it, and a raft
// that applies what it is told.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	mem   *object.Mem
	fault *object.Fault
	meter *object.Meter
	clock *testClock
	cfg   Config
	tier  *Tier
	p     *Partition
	ptr   Pointer
	epoch int32
	src   []Batch // everything that was uploaded, in order
}

var testID = PartitionID{
	Cluster: "cluster-1", Topic: "orders.eu", Partition: 3,
	TopicID: [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, TopicIDText: "AQIDBAUGBwgJCgsMDQ4PEA",
}

func newWorld(t *testing.T, change func(*Config)) *world {
	t.Helper()
	w := &world{t: t, rng: rand.New(rand.NewPCG(1, 2)), mem: object.NewMem(), clock: &testClock{}, epoch: 7}
	w.fault = object.NewFault(w.mem)
	w.meter = object.NewMeter(w.fault)
	w.cfg = Config{
		Store: w.meter, Cluster: "cluster-1", SpoolDir: t.TempDir(), MemoryBytes: 32 << 20,
		ChunkBytes: 4 << 10, Split: testSplit, Timestamps: testTimestamps, Now: w.clock.Now,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if change != nil {
		change(&w.cfg)
	}
	w.open()
	t.Cleanup(func() { w.close() })
	return w
}

func (w *world) open() {
	w.t.Helper()
	tier, err := New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.tier, w.p = tier, tier.Partition(testID)
	if w.ptr.Name != "" {
		w.p.SetPointer(w.ptr)
	}
}

// close also checks that every byte of the budget came back.
func (w *world) close() {
	w.t.Helper()
	if w.tier == nil {
		return
	}
	if err := w.tier.Close(); err != nil {
		w.t.Error(err)
	}
	if !w.tier.slabs.budget.TryAcquire(w.tier.slabs.size) {
		w.t.Error("memory of cold reads was not given back")
	}
	if n := len(w.tier.chunks.mu.live); n != 0 {
		w.t.Errorf("%d chunks are still live", n)
	}
	w.tier = nil
}

func (w *world) reopen() { w.close(); w.open() }

// segment makes n batches from the end of what was uploaded on.
func (w *world) segment(n, records, fill int, random bool) []Batch {
	next := w.ptr.TieredEnd
	if len(w.src) == 0 {
		next = max(next, w.ptr.LogStart)
	}
	var out []Batch
	for range n {
		b := batchSpec{first: next, records: records, ts: 1000 + next*10, fill: fill, random: random, epoch: w.epoch}.make(w.rng)
		out = append(out, b)
		next = b.Last + 1
	}
	return out
}

func (w *world) rangeOf(batches []Batch) Range {
	return Range{
		First: max(w.ptr.TieredEnd, w.ptr.LogStart), Next: batches[len(batches)-1].Last + 1, LeaderEpoch: w.epoch,
		Epochs:    []Epoch{{w.epoch, batches[0].First}},
		Producers: fmt.Appendf(nil, "producers as of %d", batches[len(batches)-1].Last+1), TopicConfig: map[string]string{"retention.ms": "1000"},
	}
}

func (w *world) upload(batches []Batch) Commit {
	w.t.Helper()
	c, err := w.p.Upload(context.Background(), w.rangeOf(batches), &sliceReader{batches: batches})
	if err != nil {
		w.t.Fatal(err)
	}
	w.src = append(w.src, batches...)
	w.apply(c)
	return c
}

// apply is raft: compare and swap, nothing goes back.
func (w *world) apply(c Commit) {
	w.t.Helper()
	if c.Prev != w.ptr.Name || c.LogStart < w.ptr.LogStart || c.TieredEnd < w.ptr.TieredEnd {
		w.t.Fatalf("commit %+v does not follow %+v", c, w.ptr)
	}
	w.ptr = c.Pointer()
	w.p.SetPointer(w.ptr)
}

// readAll reads [from, TieredEnd) in pieces of maxBytes.
func (w *world) readAll(from int64, maxBytes int) []byte {
	w.t.Helper()
	var out []byte
	for at := from; at < w.ptr.TieredEnd; {
		d, err := w.p.Read(context.Background(), at, maxBytes, true)
		if err != nil {
			w.t.Fatalf("read at %d: %v", at, err)
		}
		if d.Next <= at || d.Len() == 0 {
			w.t.Fatalf("read at %d of %d bytes went on to %d", at, d.Len(), d.Next)
		}
		for _, b := range d.Buffers {
			out = append(out, b...)
		}
		at = d.Next
		d.Release()
	}
	return out
}

// sourceFrom is what readAll must return.
func (w *world) sourceFrom(offset int64) []byte {
	for i := range w.src {
		if w.src[i].Last >= offset {
			return joinBatches(w.src[i:])
		}
	}
	return nil
}

func (w *world) mustEqual(got, want []byte) {
	w.t.Helper()
	if !bytes.Equal(got, want) {
		w.t.Fatalf("read %d bytes that differ from the %d that were uploaded", len(got), len(want))
	}
}

// count sums the calls of one operation.
func (w *world) count(op object.Op) (n int64) {
	for _, c := range w.meter.Snapshot() {
		if c.Op == op {
			n += c.Calls
		}
	}
	return n
}

// counts gives the difference that fn makes.
func (w *world) counted(op object.Op, fn func()) int64 {
	before := w.count(op)
	fn()
	return w.count(op) - before
}

func (w *world) keys() []string {
	var keys []string
	err := object.ListAll(context.Background(), w.mem, "", func(i object.Info) error {
		keys = append(keys, i.Key)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return keys
}

func (w *world) entries() []Entry {
	w.t.Helper()
	var out []Entry
	for e, err := range w.p.Entries(context.Background()) {
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

func (w *world) object(key string) []byte {
	w.t.Helper()
	b, err := object.ReadAll(context.Background(), w.mem, key, 1<<30)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// program returns the path of an outside program, or skips with the package that
// has it.
func program(t *testing.T, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("VARVE_REQUIRE") == "all" {
		t.Fatalf("%s is missing: install the Debian package %s", name, debianPackage)
	}
	t.Skipf("%s is missing: install the Debian package %s", name, debianPackage)
	return ""
}

// eventually waits for another goroutine's work; it gives up after a time that no
// working program needs.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			w.t.Fatalf("waited in vain for %s: %+v", what, w.tier.Stats())
		}
	}
}
