package tiering

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// diskCache keeps ranges of cold objects as files, over restarts. It holds bytes
// as they are in the store, so the CRCs of indexes and manifests verify them on
// every read: nothing in it is believed, and nothing is ever synced.
//
// A file's name is its catalogue entry: <xx>/<hash of key>-<pos>-<length>.ext,
// <xx> being the first two digits of the hash. A nil *diskCache holds nothing.
type diskCache struct {
	dir   string
	log   *slog.Logger
	cat   *catalogue
	stats *stats
	// Offers wait here for the writer. Those that do not fit, or would make more than
	// maxQueued bytes of slabs wait for a disk, are shed.
	queue     chan diskWrite
	queued    atomic.Int64
	maxQueued int64
	short     func() bool // a read waits for memory: shed
	// spare is Config.DiskSpare. At most room bytes are taken until it is asked again.
	spare    func() int64
	headroom int64
	room     atomic.Int64
}

// diskWrite is one admitted range. slab, if any, holds data and is released after
// the write.
type diskWrite struct {
	ext  extent
	data []byte
	slab *slab
}

// objectHash stands for an object's key in file names, where keys are too long.
type objectHash [16]byte

func hashObject(key string) objectHash {
	sum := sha256.Sum256([]byte(key))
	return objectHash(sum[:16])
}

const (
	extentSuffix = ".ext"
	tempSuffix   = ".tmp"
)

func openDiskCache(cfg *Config, st *stats, short func() bool) (*diskCache, error) {
	dir := cfg.CacheDir
	d := &diskCache{
		dir: dir, log: cfg.Log, cat: newCatalogue(cfg.CacheBytes), stats: st,
		queue: make(chan diskWrite, maxDiskQueue), maxQueued: cfg.MemoryBytes / 4, short: short,
		spare: cfg.DiskSpare, headroom: min(maxHeadroom, cfg.CacheBytes/8),
	}
	d.room.Store(math.MaxInt64)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	if err := filepath.WalkDir(dir, d.restore); err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	return d, nil
}

// restore enters one file of an earlier run and removes what is not whole.
func (d *diskCache) restore(path string, e fs.DirEntry, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || e.IsDir() {
		return err
	}
	ext, ok := parseExtentName(e.Name())
	if !ok && !strings.HasSuffix(e.Name(), tempSuffix) {
		return nil // not ours
	}
	info, err := e.Info()
	if err != nil {
		return nil
	}
	if !ok || !wholeExtent(info.Size(), ext.len) {
		d.removeFile(path)
		return nil
	}
	evict, dup := d.cat.add(ext)
	d.removeAll(evict)
	if dup {
		d.removeFile(path)
	}
	return nil
}

func (d *diskCache) path(e *extent) string {
	h := hex.EncodeToString(e.object[:])
	return filepath.Join(d.dir, h[:2], fmt.Sprintf("%s-%x-%x%s", h, e.pos, e.len, extentSuffix))
}

func parseExtentName(name string) (extent, bool) {
	parts := strings.Split(strings.TrimSuffix(name, extentSuffix), "-")
	if len(parts) != 3 || !strings.HasSuffix(name, extentSuffix) {
		return extent{}, false
	}
	var e extent
	h, err := hex.DecodeString(parts[0])
	if err != nil || len(h) != len(e.object) {
		return extent{}, false
	}
	copy(e.object[:], h)
	if e.pos, err = strconv.ParseInt(parts[1], 16, 64); err != nil || e.pos < 0 {
		return extent{}, false
	}
	if e.len, err = strconv.ParseInt(parts[2], 16, 64); err != nil || e.len < 1 || e.len > math.MaxInt32 {
		return extent{}, false
	}
	return e, true
}

// read fills dst with the object's bytes from pos on, if they are cached. The
// caller checks them.
func (d *diskCache) read(object objectHash, pos int64, dst []byte) bool {
	if d == nil {
		return false
	}
	e, ok := d.cat.find(object, pos, int64(len(dst)))
	if !ok {
		return false
	}
	return d.readExtent(&e, pos-e.pos, dst)
}

// readWhole returns the cached object that begins and ends with one extent, nil
// if there is none. Used for small objects alone, whose size no one knows.
func (d *diskCache) readWhole(object objectHash) []byte {
	if d == nil {
		return nil
	}
	e, ok := d.cat.find(object, 0, -1)
	if !ok || e.len > maxManifestBytes {
		return nil
	}
	b := make([]byte, e.len)
	if !d.readExtent(&e, 0, b) {
		return nil
	}
	return b
}

func (d *diskCache) readExtent(e *extent, off int64, dst []byte) bool {
	f, err := os.Open(d.path(e))
	if err == nil {
		_, err = f.ReadAt(dst, off)
		dropPages(f, off, int64(len(dst)))
		_ = f.Close() // opened for reading
	}
	if err == nil {
		return true
	}
	// Evicted between the look-up and the open, or a bad disk: a miss either way.
	d.cat.remove(e.object, e.pos, e.len)
	if !errors.Is(err, fs.ErrNotExist) {
		d.stats.diskErrors.Add(1)
		d.log.Warn("cold cache read failed", "file", d.path(e), "err", err)
		d.removeFile(d.path(e))
	}
	return false
}

// drop removes what is cached of a range, because it turned out wrong.
func (d *diskCache) drop(object objectHash, pos, n int64) {
	if d == nil {
		return
	}
	d.stats.diskCorrupt.Add(1)
	d.removeAll(d.cat.remove(object, pos, n))
}

// forget removes everything of an object that was deleted.
func (d *diskCache) forget(key string) {
	if d != nil {
		d.removeAll(d.cat.remove(hashObject(key), 0, math.MaxInt64))
	}
}

// offer lets the cache take data, which lies in sl if sl is not nil. It never
// waits: a full queue sheds, because a cold read must not depend on the speed of
// a local disk that hot data needs.
func (d *diskCache) offer(object objectHash, pos int64, data []byte, sl *slab, starts ...int64) {
	if d == nil {
		return
	}
	if !d.cat.admit(object, pos, int64(len(data)), starts) {
		d.stats.diskRejected.Add(1)
		return
	}
	n := int64(len(data))
	if d.queued.Add(n) > d.maxQueued || d.short() || d.room.Load() < n {
		d.queued.Add(-n)
		d.stats.diskShed.Add(1)
		return
	}
	d.room.Add(-n)
	if sl != nil {
		sl.retain()
	}
	w := diskWrite{ext: extent{object: object, pos: pos, len: n}, data: data, slab: sl}
	select {
	case d.queue <- w:
	default:
		d.stats.diskShed.Add(1)
		d.release(&w)
	}
}

func (d *diskCache) release(w *diskWrite) {
	d.queued.Add(-w.ext.len)
	if w.slab != nil {
		w.slab.release()
	}
}

// run writes what was offered until ctx ends.
func (d *diskCache) run(ctx context.Context) {
	tick := time.NewTicker(spaceEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			d.drain()
			return
		case <-tick.C:
			d.giveBack()
		case w := <-d.queue:
			d.write(&w)
			d.release(&w)
		}
	}
}

// giveBack looks at the disk. While less than half of the headroom is free beyond
// the log's reserve, what is read least goes, as much as is missing: the cache is
// what can be had again. The space of a file that somebody still reads, or that the
// file system frees later, is seen at the next look.
func (d *diskCache) giveBack() {
	spare := d.spare()
	d.room.Store(spare - d.headroom)
	missing := d.headroom/2 - spare
	if missing <= 0 {
		return
	}
	gone := d.cat.coldest(missing, maxGiveBack)
	if len(gone) == 0 {
		return
	}
	d.removeAll(gone)
	d.stats.diskGivenBack.Add(int64(len(gone)))
	d.log.Info("disk is short of space: cold cache gives some back", "missing", missing, "files", len(gone), "cached", d.usedBytes())
}

// drain releases what is queued; what was not written is fetched again one day.
func (d *diskCache) drain() {
	for {
		select {
		case w := <-d.queue:
			d.release(&w)
		default:
			return
		}
	}
}

func (d *diskCache) write(w *diskWrite) {
	if d.cat.has(&w.ext) {
		d.room.Add(w.ext.len)
		return
	}
	if err := d.writeFile(d.path(&w.ext), w.data); err != nil {
		d.stats.diskErrors.Add(1)
		d.log.Warn("cold cache write failed", "err", err)
		return
	}
	d.stats.diskWrites.Add(1)
	evict, _ := d.cat.add(w.ext)
	d.stats.diskEvicted.Add(int64(len(evict)))
	d.removeAll(evict)
}

func (d *diskCache) writeFile(path string, data []byte) error {
	temp := path + tempSuffix
	err := writeExtent(temp, data)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = writeExtent(temp, data)
		}
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		d.removeFile(temp)
		return fmt.Errorf("write cache file: %w", err)
	}
	return nil
}

func (d *diskCache) removeAll(exts []extent) {
	for i := range exts {
		d.removeFile(d.path(&exts[i]))
	}
}

func (d *diskCache) removeFile(path string) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.stats.diskErrors.Add(1)
		d.log.Warn("cold cache removal failed", "err", err)
	}
}

func (d *diskCache) usedBytes() int64 { return d.cat.usedBytes() }
