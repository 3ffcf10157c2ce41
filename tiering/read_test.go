package tiering

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"varve/tiering/object"
)

// gated is a world whose GETs of objects can be held; nothing is cached.
func gated(t *testing.T, change func(*Config)) (*world, *gate) {
	var g *gate
	w := newWorld(t, func(c *Config) {
		c.ChunkBytes = 1 << 20
		g = newGate(c.Store)
		c.Store = g
		if change != nil {
			change(c)
		}
	})
	g.setOpen(true)
	return w, g
}

// bulk uploads objects of n incompressible batches of 64 KiB each.
func (w *world) bulk(objects, n int) {
	for range objects {
		w.upload(w.segment(n, 2, 64<<10-testHead-16, true))
	}
	w.reopen()
}

func (w *world) read(at int64, maxBytes int) *Data {
	w.t.Helper()
	d, err := w.p.Read(context.Background(), at, maxBytes, true)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func TestConcurrentReadersShareOneFetch(t *testing.T) {
	w, g := gated(t, nil)
	w.bulk(1, 8)
	g.setOpen(false)
	var wg sync.WaitGroup
	errs := make(chan error, 50)
	for range 50 {
		wg.Go(func() { errs <- w.readErr(3) })
	}
	<-g.came // the index
	g.release()
	<-g.came // the chunk
	g.release()
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if n := g.total(); n != 2 {
		t.Fatalf("%d GETs for 50 readers of one chunk", n)
	}
}

func TestSequentialReadKeepsTwoToFourLargeGetsInFlight(t *testing.T) {
	w, g := gated(t, func(c *Config) { c.MemoryBytes = 128 << 20 })
	w.bulk(1, 40*16) // 40 chunks of about 1 MiB
	at := int64(0)
	for range 8 { // the window grows to its full depth
		d := w.read(at, 1<<20)
		at = d.Next
		d.Release()
	}
	w.eventually("the window to fill", func() bool { return w.idle() })
	g.setOpen(false)
	seen := 0
	for range 12 { // what is read ahead suffices; behind it GETs begin
		if len(g.inFlight()) >= 2 {
			break
		}
		d := w.read(at, 1<<20)
		at = d.Next
		d.Release()
		w.eventually("planning", func() bool { return w.planned() })
	}
	w.eventually("GETs to reach the store", func() bool { seen = len(g.inFlight()); return seen >= 2 })
	for _, get := range g.inFlight() {
		if get.n < minRun || get.n > maxRun+slabSlack {
			t.Errorf("read-ahead of %d bytes", get.n)
		}
	}
	if seen > 4 {
		t.Fatalf("%d GETs in flight for one reader", seen)
	}
	g.setOpen(true)
	w.mustEqual(w.readAll(at, 1<<20), w.sourceFrom(at))
}

// idle: no fetch is under way and no planning goroutine runs.
func (w *world) idle() bool {
	if !w.planned() {
		return false
	}
	s := w.tier.chunks
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.mu.live {
		if !c.ready() {
			return false
		}
	}
	return true
}

func (w *world) planned() bool {
	for _, s := range w.tier.streamsByUse() {
		s.mu.Lock()
		planning := s.mu.planning
		s.mu.Unlock()
		if planning {
			return false
		}
	}
	return true
}

func TestReadAheadCrossesObjectBorders(t *testing.T) {
	w, g := gated(t, nil)
	w.bulk(6, 16) // six objects of one chunk each
	at := int64(0)
	for range 3 {
		d := w.read(at, 1<<20)
		at = d.Next
		d.Release()
	}
	w.eventually("read-ahead", func() bool { return w.idle() })
	g.mu.Lock()
	keys := map[string]bool{}
	for _, get := range g.mu.done {
		keys[get.key] = true
	}
	g.mu.Unlock()
	if len(keys) < 5 {
		t.Fatalf("after three objects, %d were touched", len(keys))
	}
	before := g.total()
	d := w.read(at, 1<<20)
	d.Release()
	w.eventually("read-ahead", func() bool { return w.idle() })
	if n := w.tier.Stats().MemoryHits; n == 0 {
		t.Fatalf("the fourth object was not ready (%d GETs before, %d after)", before, g.total())
	}
}

func TestRandomReadsAreNotReadAhead(t *testing.T) {
	w, _ := gated(t, nil)
	w.bulk(1, 160)
	for _, at := range []int64{100, 20, 250, 7, 300} {
		d := w.read(at, 1)
		d.Release()
	}
	w.eventually("quiet", func() bool { return w.idle() })
	if n := w.tier.Stats().ReadAheads; n != 0 {
		t.Fatalf("%d read-aheads", n)
	}
}

func TestReadAheadShrinksWithTheNumberOfReaders(t *testing.T) {
	w, _ := gated(t, nil) // 32 MiB of memory
	if one := w.tier.depthLimit(); one != 16<<20 {
		t.Fatalf("window of %d for one reader", one)
	}
	for i := range 8 { // of eight partitions
		p := w.tier.Partition(testID)
		s := p.streamFor(int64(i))
		s.advance(int64(i), 100)
		s.advance(100, 200)
	}
	if eight := w.tier.depthLimit(); eight != 2<<20 {
		t.Fatalf("window of %d for eight readers", eight)
	}
	w.clock.Advance(10 * time.Second)
	w.tier.sweep(w.clock.Now())
	if gone := w.tier.depthLimit(); gone != 16<<20 {
		t.Fatalf("window of %d when all have gone", gone)
	}
}

func TestAPartitionRemembersAFewReaders(t *testing.T) {
	w, _ := gated(t, nil)
	for i := range maxStreams + 5 {
		w.p.streamFor(int64(i))
	}
	if len(w.p.mu.streams) != maxStreams {
		t.Fatalf("%d streams of one partition", len(w.p.mu.streams))
	}
}

func TestIdleReadersGiveTheirMemoryBack(t *testing.T) {
	w, _ := gated(t, nil)
	w.bulk(1, 160)
	at := int64(0)
	for range 4 {
		d := w.read(at, 1<<20)
		at = d.Next
		d.Release()
	}
	w.eventually("read-ahead", func() bool { return w.idle() })
	if s := w.tier.Stats(); s.Streams != 1 {
		t.Fatalf("%d streams", s.Streams)
	}
	w.clock.Advance(time.Minute)
	w.tier.sweep(w.clock.Now())
	if s := w.tier.Stats(); s.Streams != 0 {
		t.Fatalf("%d streams", s.Streams)
	}
	w.clock.Advance(time.Hour)
	w.tier.sweep(w.clock.Now())
	w.tier.mu.Lock()
	held := w.tier.mu.viewBytes
	w.tier.mu.Unlock()
	if held != 0 {
		t.Fatalf("%d bytes of manifests are held for nobody", held)
	}
	w.mustEqual(w.readAll(at, 1<<20), w.sourceFrom(at))
}

func TestAReadWhoseCallerLeftGoesOnIntoTheCache(t *testing.T) {
	w, g := gated(t, nil)
	w.bulk(1, 32)
	g.setOpen(false)
	if _, err := w.p.TryRead(5, 1<<20, true); !errors.Is(err, ErrPending) || !IsRetriable(err) {
		t.Fatal(err)
	}
	<-g.came
	g.release() // the index; the manifest is not gated
	<-g.came    // the chunk is asked for although nobody waits
	if _, err := w.p.TryRead(5, 1<<20, true); !errors.Is(err, ErrPending) {
		t.Fatal(err)
	}
	g.release()
	w.eventually("the chunk", func() bool { return w.idle() })
	d, err := w.p.TryRead(5, 1<<20, true)
	if err != nil {
		t.Fatal(err)
	}
	d.Release()
	if n := g.total(); n != 2 {
		t.Fatalf("%d GETs", n)
	}
}

func TestADeadlineIsPendingAndSaysSo(t *testing.T) {
	w, g := gated(t, nil)
	w.bulk(1, 32)
	g.setOpen(false)
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err := w.p.Read(ctx, 5, 1<<20, true)
	if !errors.Is(err, ErrPending) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	g.setOpen(true)
}

func TestAReadThatFailsAfterItsCallerLeftTellsTheNextOnce(t *testing.T) {
	w, g := gated(t, nil)
	w.bulk(1, 32)
	g.setOpen(false)
	if _, err := w.p.TryRead(5, 1<<20, true); !errors.Is(err, ErrPending) {
		t.Fatal(err)
	}
	<-g.came
	w.fault.Add(&object.Rule{Op: object.OpGet, Key: segmentSuffix, Do: object.Missing()})
	g.release()
	w.eventually("the failure", func() bool {
		w.p.mu.Lock()
		defer w.p.mu.Unlock()
		return w.p.mu.warming[5] != nil && w.p.mu.warming[5].err != nil
	})
	if _, err := w.p.TryRead(5, 1<<20, true); !errors.Is(err, ErrMissing) {
		t.Fatal(err)
	}
	w.fault.Clear()
	g.setOpen(true)
	if err := w.readErr(5); err != nil {
		t.Fatal(err)
	}
}

func TestCloseEndsReadsThatHang(t *testing.T) {
	w, g := gated(t, nil)
	w.bulk(1, 32)
	g.setOpen(false)
	done := make(chan error, 1)
	p := w.p
	go func() {
		_, err := p.Read(context.Background(), 5, 1<<20, true)
		done <- err
	}()
	<-g.came
	w.close()
	if err := <-done; err == nil {
		t.Fatal("a read was answered by a closed tier")
	}
	if _, err := p.Read(context.Background(), 5, 1, true); err == nil {
		t.Fatal("a closed tier reads")
	}
}

func TestMemoryStaysInsideItsBudgetAndNobodyStarves(t *testing.T) {
	w, _ := gated(t, func(c *Config) { c.MemoryBytes = minMemoryBytes })
	w.bulk(3, 96) // 18 MiB behind 8 MiB of memory
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for range 40 {
				at := rng.Int64N(w.ptr.TieredEnd)
				d, err := w.p.Read(context.Background(), at, 1<<20, true)
				if err != nil {
					t.Error(err)
					return
				}
				if want := w.src[at/2].Bytes; !bytes.HasPrefix(d.Buffers[0], want) {
					t.Errorf("read at %d gives something else", at)
				}
				d.Release()
			}
		})
	}
	wg.Wait()
	w.mustEqual(w.readAll(0, 4<<20), w.sourceFrom(0))
}

func TestOneBatchLargerThanTheBudgetIsStillRead(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MemoryBytes = minMemoryBytes })
	w.upload(w.segment(2, 3, 20<<20, false))
	w.reopen()
	w.mustEqual(w.readAll(0, 1), w.sourceFrom(0))
}

func TestReadWithoutMinOneMayBeEmpty(t *testing.T) {
	w := newWorld(t, nil)
	w.upload(w.segment(10, 3, 500, false))
	d, err := w.p.Read(context.Background(), 4, 10, false)
	if err != nil || d.Len() != 0 || d.Next != 4 {
		t.Fatalf("%+v, %v", d, err)
	}
	d.Release()
	d = w.read(4, 10)
	if d.Len() != len(w.src[1].Bytes) || d.First != 3 || d.Next != 6 {
		t.Fatalf("%d bytes of [%d, %d)", d.Len(), d.First, d.Next)
	}
	d.Release()
}

func TestReadOutsideTheTieredRangeSaysSo(t *testing.T) {
	w := newWorld(t, nil)
	if err := w.readErr(0); !errors.Is(err, ErrNoPointer) {
		t.Fatal(err)
	}
	w.upload(w.segment(10, 3, 500, false))
	for _, at := range []int64{-1, 30, 1 << 60} {
		if err := w.readErr(at); !errors.Is(err, ErrOutOfRange) {
			t.Fatalf("at %d: %v", at, err)
		}
	}
	w.p.SetLogStart(7)
	if err := w.readErr(6); !errors.Is(err, ErrOutOfRange) {
		t.Fatal(err)
	}
	if err := w.readErr(7); err != nil {
		t.Fatal(err)
	}
}

// diskWorld has a disk cache and memory that holds nothing for long.
func diskWorld(t *testing.T, cacheBytes int64) (*world, string) {
	dir := filepath.Join(t.TempDir(), "cache")
	w, _ := gated(t, func(c *Config) { c.CacheDir, c.CacheBytes = dir, cacheBytes })
	return w, dir
}

func cacheFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestDiskCacheServesARestart(t *testing.T) {
	w, _ := diskWorld(t, 64<<20)
	w.bulk(2, 48)
	w.readAll(0, 1<<20)
	w.eventually("quiet", func() bool { return w.idle() && len(w.tier.disk.queue) == 0 })
	w.drainDisk()
	w.reopen()
	gets := w.counted(object.OpGet, func() { w.mustEqual(w.readAll(0, 1<<20), w.sourceFrom(0)) })
	if shed := w.tier.Stats().DiskShed; gets != 0 {
		t.Fatalf("%d GETs after a restart (%d writes shed)", gets, shed)
	}
	if w.tier.Stats().DiskHits == 0 {
		t.Fatal("no disk hits")
	}
}

// drainDisk returns when everything offered is written.
func (w *world) drainDisk() {
	w.t.Helper()
	d := w.tier.disk
	mark := diskWrite{ext: extent{object: hashObject("mark"), pos: int64(w.rng.Uint32()), len: 1}, data: []byte{1}}
	d.queued.Add(1)
	d.queue <- mark
	w.eventually("the disk cache", func() bool { return d.cat.has(&mark.ext) })
}

func TestARottenCacheFileIsReadFromTheStoreInstead(t *testing.T) {
	w, dir := diskWorld(t, 64<<20)
	w.bulk(1, 48)
	w.readAll(0, 1<<20)
	w.eventually("quiet", func() bool { return w.idle() })
	w.drainDisk()
	w.close()
	for i, f := range cacheFiles(t, dir) {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		switch i % 3 {
		case 0:
			b[len(b)/2] ^= 1
		case 1:
			b = b[:len(b)-1]
		case 2:
			clear(b)
		}
		if err := os.WriteFile(f, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "ab.tmp"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
	w.mustEqual(w.readAll(0, 1<<20), w.sourceFrom(0))
	if _, err := os.Stat(filepath.Join(dir, "ab.tmp")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a torn file stays: %v", err)
	}
}

func TestAVanishedCacheDirectoryIsOnlyAMiss(t *testing.T) {
	w, dir := diskWorld(t, 64<<20)
	w.bulk(1, 48)
	w.readAll(0, 1<<20)
	w.eventually("quiet", func() bool { return w.idle() })
	w.drainDisk()
	w.reopen()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	w.mustEqual(w.readAll(0, 1<<20), w.sourceFrom(0))
}

func TestDiskCacheKeepsItsLimitAndWhatIsUsedThroughAScan(t *testing.T) {
	limit := int64(4 << 20)
	w, dir := diskWorld(t, limit)
	w.bulk(12, 16) // twelve objects of 1 MiB
	first := w.entries()[0]
	hot := func() { w.read(first.First, 1).Release() }
	hot()
	w.drainDisk()
	w.reopen()
	hot() // from disk: now it has been used twice
	for range 2 {
		w.readAll(first.Last+1, 1<<20)
		w.eventually("quiet", func() bool { return w.idle() })
		w.drainDisk()
		w.reopen()
		if used := w.tier.Stats().DiskBytes; used > limit {
			t.Fatalf("%d bytes cached, limit %d", used, limit)
		}
		if n := w.counted(object.OpGet, hot); n != 0 {
			t.Fatalf("a scan pushed out what was in use: %d GETs", n)
		}
		w.reopen()
		hot()
	}
	size := int64(0)
	for _, f := range cacheFiles(t, dir) {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > limit {
		t.Fatalf("%d bytes on disk, limit %d", size, limit)
	}
}

func TestAScanLargerThanTheCacheIsNotWrittenTwice(t *testing.T) {
	c := newCatalogue(10 << 20)
	obj := hashObject("a")
	written := 0
	offer := func(pos int64) {
		if c.admit(obj, pos, 1<<20, nil) {
			written++
			c.add(extent{object: obj, pos: pos, len: 1 << 20})
		}
	}
	for i := range int64(1000) {
		offer(i << 20)
	}
	if written != 10 {
		t.Fatalf("a scan of 1000 chunks wrote %d into a cache of 10", written)
	}
	offer(999 << 20)
	if written != 11 {
		t.Fatal("what is asked for again is not admitted")
	}
	if got := c.usedBytes(); got > 10<<20 {
		t.Fatalf("%d bytes", got)
	}
}

func TestCollectedObjectsLeaveTheDiskCache(t *testing.T) {
	w, _ := diskWorld(t, 64<<20)
	w.bulk(2, 16)
	w.readAll(0, 1<<20)
	w.eventually("quiet", func() bool { return w.idle() })
	w.drainDisk()
	e := w.entries()
	cached := func(i int) bool {
		c := w.tier.disk.cat
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.mu.objects[hashObject(resolve(w.p.dir, e[i].Key))]) > 0
	}
	if !cached(0) || !cached(1) {
		t.Fatal("not cached")
	}
	w.retain(Policy{LogStart: e[1].First, Age: noLimit, Bytes: noLimit})
	w.clock.Advance(time.Hour)
	if got := w.collect(); got.Objects != 1 {
		t.Fatalf("%+v", got)
	}
	if cached(0) || !cached(1) {
		t.Fatalf("cached: deleted object %v, live object %v", cached(0), cached(1))
	}
}
