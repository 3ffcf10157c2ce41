package tiering

import (
	"io"
	"io/fs"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
)

// testDisk is a disk of which the cache has one directory and others fill the rest.
type testDisk struct {
	t      *testing.T
	dir    string
	size   int64
	others atomic.Int64
}

// spare is what is free; the log's reserve counts among the others.
func (d *testDisk) spare() int64 {
	used := d.others.Load()
	err := filepath.WalkDir(d.dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		used += info.Size()
		return err
	})
	if err != nil {
		d.t.Error(err)
	}
	return d.size - used
}

const cacheFile = 4096

// diskCacheOn opens a cache of 64 files' limit, hence 8 of headroom, on a disk.
func diskCacheOn(t *testing.T, spare func() int64, dir string) *diskCache {
	t.Helper()
	cfg := Config{
		CacheDir: dir, CacheBytes: 64 * cacheFile, DiskSpare: spare,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	cfg.setDefaults()
	d, err := openDiskCache(&cfg, &stats{}, func() bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// fill offers and writes n files of different objects.
func (d *diskCache) fill(n int) {
	for i := range n {
		d.offer(objectHash{byte(i)}, 0, make([]byte, cacheFile), nil)
		select {
		case w := <-d.queue:
			d.write(&w)
			d.release(&w)
		default:
		}
	}
}

func (d *diskCache) holds() (out []int) {
	for i := range 64 {
		if d.cat.has(&extent{object: objectHash{byte(i)}, len: cacheFile}) {
			out = append(out, i)
		}
	}
	return out
}

func TestDiskCacheTakesNothingOfTheHeadroomAboveTheReserve(t *testing.T) {
	disk := &testDisk{t: t, dir: filepath.Join(t.TempDir(), "cache"), size: 28 * cacheFile}
	d := diskCacheOn(t, disk.spare, disk.dir)
	d.giveBack()
	d.fill(40) // with no look at the disk in between
	if got, want := len(d.holds()), 20; got != want {
		t.Fatalf("%d files cached, want %d", got, want)
	}
	if shed := d.stats.diskShed.Load(); shed != 20 || d.queued.Load() != 0 {
		t.Errorf("shed %d, %d bytes queued", shed, d.queued.Load())
	}
	disk.others.Store(-4 * cacheFile) // others remove something
	d.giveBack()
	d.fill(40)
	if got := len(d.holds()); got != 24 {
		t.Errorf("%d files cached once there is more space, want 24", got)
	}
}

func TestDiskCacheGivesItsColdestBackUntilTheReserveIsFree(t *testing.T) {
	disk := &testDisk{t: t, dir: filepath.Join(t.TempDir(), "cache"), size: 100 * cacheFile}
	d := diskCacheOn(t, disk.spare, disk.dir)
	d.fill(32)
	for i := range 8 { // read again: these stay longest
		if !d.read(objectHash{byte(i)}, 0, make([]byte, cacheFile)) {
			t.Fatal("not cached")
		}
	}
	disk.others.Store(100*cacheFile - 32*cacheFile - 4*cacheFile) // half of the headroom is left
	d.giveBack()
	if got := len(d.holds()); got != 32 {
		t.Fatalf("%d of 32 files left, and nothing was missing", got)
	}
	disk.others.Add(10 * cacheFile) // others take ten more
	d.giveBack()
	want := append([]int{0, 1, 2, 3, 4, 5, 6, 7}, sequence(18, 32)...)
	if got := d.holds(); !slices.Equal(got, want) {
		t.Fatalf("left %v, want %v", got, want)
	}
	if spare := disk.spare(); spare != 4*cacheFile {
		t.Errorf("%d bytes are free beyond the reserve, want %d", spare, 4*cacheFile)
	}
	disk.others.Add(1000 * cacheFile) // the log itself is below its reserve
	d.giveBack()
	if got, used := d.holds(), d.usedBytes(); len(got) != 0 || used != 0 {
		t.Errorf("files %v, %d bytes left on a full disk", got, used)
	}
	if free := disk.size - disk.others.Load(); disk.spare() != free {
		t.Errorf("files of the cache are still on the disk: %d free, want %d", disk.spare(), free)
	}
	d.giveBack() // nothing to give
	disk.others.Store(0)
	d.giveBack()
	d.fill(3)
	if got := len(d.holds()); got != 3 {
		t.Errorf("%d files taken after the disk has space again", got)
	}
}

func TestDiskCacheGivesBackALimitedNumberOfFilesAtATime(t *testing.T) {
	cat := newCatalogue(math.MaxInt32)
	for i := range 2 * maxGiveBack {
		cat.add(extent{object: objectHash{1}, pos: int64(i), len: 1})
	}
	d := &diskCache{
		dir: t.TempDir(), cat: cat, stats: &stats{}, spare: func() int64 { return math.MinInt32 }, headroom: 8,
		log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	d.giveBack()
	if left := cat.usedBytes(); left != maxGiveBack {
		t.Errorf("%d files left of %d, at most %d go at a time", left, 2*maxGiveBack, maxGiveBack)
	}
}

// The whole tier: its own goroutine looks at the disk, also at what an earlier run left there.
func TestACacheOfAnEarlierRunIsGivenBackOnAFullDisk(t *testing.T) {
	full := &atomic.Bool{}
	w := newWorld(t, func(c *Config) {
		c.CacheDir, c.CacheBytes = filepath.Join(t.TempDir(), "cache"), 1<<20
		c.DiskSpare = func() int64 {
			if full.Load() {
				return -1 << 30
			}
			return 1 << 30
		}
	})
	w.upload(w.segment(40, 3, 500, false))
	w.mustEqual(w.readAll(0, 1<<20), w.sourceFrom(0))
	w.eventually("the cache", func() bool { return w.tier.Stats().DiskBytes > 0 })
	w.close()
	full.Store(true)
	w.open()
	w.eventually("an empty cache", func() bool { return w.tier.Stats().DiskBytes == 0 })
	w.mustEqual(w.readAll(0, 1<<20), w.sourceFrom(0))
}

func sequence(from, end int) (out []int) {
	for i := from; i < end; i++ {
		out = append(out, i)
	}
	return out
}
