package commitlog

import (
	"fmt"
	"sync"

	"varve/broker/internal/vfs"
)

// filePool keeps segment files that retention dropped, for the next segments: overwriting a file
// that was written before takes a fraction of the CPU of a new one, and half the time of fdatasync
// (DESIGN 12.1). What makes it safe:
//
//   - A file enters only when no Span, reader or upload holds it, and, if a byte of it ever went out
//     by sendfile, when no page of it survives fdatasync and DropCache: a socket queue refers to
//     the page cache, not to a copy. Otherwise it is unlinked.
//   - CRC, offset and epoch do not tell another partition's batch from the next one. So a file is
//     taken without cleaning only by the log that wrote it, and only if all offsets it ever held
//     lie below the new base. Every other file is overwritten with zeros and fdatasynced first.
//   - What is said here lives in memory only. A restart empties the pool.
type filePool struct {
	env *Env
	dir string
	mu  struct {
		sync.Mutex
		files  []pooledFile // oldest first
		bytes  int64
		seq    uint64
		wanted int // takes that found only files in need of zeros
	}
	maxBytes int64
}

// pooledFile is one file in the pool.
type pooledFile struct {
	name string
	size int64
	// owner wrote every batch in it, all below end; nil once it holds only zeros.
	owner *Log
	end   int64
}

const (
	poolDirName = "pool"
	// poolShare is the share of the disk that the pool may hold when PoolBytes names none.
	poolShare = 50
	// A file much shorter than a segment saves little, one much longer wastes the disk.
	poolMinShare = 2 // at least 1/2 of SegmentBytes
	poolMaxTimes = 2 // at most 2 times SegmentBytes
)

// open empties the pool that an earlier process left. Only names are removed: after a crash one
// may still lead to a file that is a segment by now.
func (p *filePool) open(e *Env) error {
	p.env, p.dir = e, e.cfg.Dir+"/"+poolDirName
	if err := e.cfg.FS.RemoveAll(p.dir); err != nil {
		return fmt.Errorf("empty pool: %w", err)
	}
	p.maxBytes = e.cfg.PoolBytes
	if e.cfg.PoolFiles <= 0 {
		return nil
	}
	if err := e.cfg.FS.MkdirAll(p.dir); err != nil {
		return fmt.Errorf("make pool: %w", err)
	}
	if p.maxBytes <= 0 {
		u, err := e.cfg.FS.Usage(e.cfg.Dir)
		if err != nil {
			return fmt.Errorf("size the pool: %w", err)
		}
		p.maxBytes = u.Total / poolShare
	}
	return nil
}

func (p *filePool) syncDir() error { return asSyncError(p.env.cfg.FS.SyncDir(p.dir)) }

// take moves a fitting file to the name of s and opens it. It answers nil if there is none; then
// the janitor prepares one for the next time. Durable must not pass s.base before both directories
// are synced.
func (p *filePool) take(l *Log, s *segment) (vfs.File, int64, error) {
	got, ok := p.choose(l, s.base)
	if !ok {
		return nil, 0, nil
	}
	fs := p.env.cfg.FS
	if err := fs.Rename(got.name, s.logName()); err != nil {
		return nil, 0, fmt.Errorf("take recycled file: %w", err)
	}
	f, err := fs.OpenReadWrite(s.logName())
	if err != nil {
		return nil, 0, fmt.Errorf("open recycled file: %w", err)
	}
	return f, got.size, nil
}

// choose removes a file from the pool: the log's own, else one of zeros.
func (p *filePool) choose(l *Log, base int64) (pooledFile, bool) {
	cfg := l.config()
	p.mu.Lock()
	defer p.mu.Unlock()
	best := -1
	for i, f := range p.mu.files {
		if f.size < cfg.SegmentBytes/poolMinShare || f.size > cfg.SegmentBytes*poolMaxTimes {
			continue
		}
		if f.owner == l && f.end <= base && cfg.RecycleOwn {
			best = i
			break
		}
		if f.owner == nil && best < 0 {
			best = i
		}
	}
	if best < 0 {
		if len(p.mu.files) > 0 {
			p.mu.wanted++
			p.env.janitor.wake()
		}
		return pooledFile{}, false
	}
	return p.removeLocked(best), true
}

func (p *filePool) removeLocked(i int) pooledFile {
	f := p.mu.files[i]
	p.mu.files = append(p.mu.files[:i], p.mu.files[i+1:]...)
	p.mu.bytes -= f.size
	return f
}

// offer takes the file of a retired segment, or unlinks it. The caller has made it void (the
// start file lies above it) and knows that nothing holds it; sent tells whether a byte of it went
// out by sendfile.
func (p *filePool) offer(l *Log, s *segment, sent bool) error {
	fs := p.env.cfg.FS
	size, ok := p.fit(l, s, sent)
	if !ok {
		if err := fs.Remove(s.logName()); err != nil && !isNotExist(err) {
			return fmt.Errorf("unlink segment: %w", err)
		}
		return nil
	}
	p.mu.Lock()
	p.mu.seq++
	name := fmt.Sprintf("%s/%s", p.dir, segmentName(int64(p.mu.seq), ".pool"))
	p.mu.Unlock()
	if err := fs.Rename(s.logName(), name); err != nil {
		return fmt.Errorf("recycle segment: %w", err)
	}
	p.add(pooledFile{name: name, size: size, owner: l, end: s.meta.next})
	p.env.step("recycle.returned")
	return nil
}

// add puts a file in, and unlinks the oldest ones beyond the bounds.
func (p *filePool) add(f pooledFile) {
	p.mu.Lock()
	p.mu.files = append(p.mu.files, f)
	p.mu.bytes += f.size
	var over []string
	for len(p.mu.files) > p.env.cfg.PoolFiles || p.mu.bytes > p.maxBytes && len(p.mu.files) > 0 {
		over = append(over, p.removeLocked(0).name)
	}
	p.mu.Unlock()
	for _, name := range over {
		if err := p.env.cfg.FS.Remove(name); err != nil {
			p.env.cfg.Log.Warn("cannot unlink recycled file", "file", name, "err", err)
		}
	}
}

// fit decides whether a file may be recycled, with the proof for files that were sent.
func (p *filePool) fit(l *Log, s *segment, sent bool) (size int64, ok bool) {
	cfg := l.config()
	if p.env.cfg.PoolFiles <= 0 || cfg.RecycleWindow <= 0 || s.meta.size < cfg.SegmentBytes/poolMinShare {
		return 0, false
	}
	f, err := p.env.cfg.FS.OpenReadWrite(s.logName())
	if err != nil {
		return 0, false
	}
	defer f.Close()
	size, err = f.Size()
	if err != nil || size > cfg.SegmentBytes*poolMaxTimes || size > p.maxBytes {
		return 0, false
	}
	if !sent {
		return size, true
	}
	return size, noPageSurvives(f)
}

// noPageSurvives proves that no socket queue holds a page of the file: a page that is referenced
// elsewhere cannot be dropped, so it would still be resident.
func noPageSurvives(f vfs.File) bool {
	if f.Sync() != nil {
		return false // the file is unlinked; nothing that was acknowledged depends on it
	}
	f.DropCache(0, 0)
	resident, err := f.Resident(0, 0)
	return err == nil && !resident
}

// zeroOne cleans one file if a log asked for it. It runs on the janitor.
func (p *filePool) zeroOne() {
	p.mu.Lock()
	if p.mu.wanted == 0 {
		p.mu.Unlock()
		return
	}
	p.mu.wanted = 0
	i := 0
	for i < len(p.mu.files) && p.mu.files[i].owner == nil {
		i++
	}
	if i == len(p.mu.files) {
		p.mu.Unlock()
		return
	}
	f := p.removeLocked(i)
	p.mu.Unlock()

	if err := p.zero(f); err != nil {
		p.env.cfg.Log.Warn("cannot zero recycled file", "file", f.name, "err", err)
		_ = p.env.cfg.FS.Remove(f.name) // it is in nobody's way; the pool is emptied at start
		return
	}
	f.owner, f.end = nil, 0
	p.add(f)
	p.env.step("recycle.zeroed")
}

// zero overwrites a file and makes that durable. Its error is not final: the file held nothing,
// and is given up.
func (p *filePool) zero(f pooledFile) error {
	file, err := p.env.cfg.FS.OpenReadWrite(f.name)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer file.Close()
	for at := int64(0); at < f.size; {
		if p.env.closing.Load() {
			return ErrClosed
		}
		n, err := file.WriteAt(zeros[:min(int64(len(zeros)), f.size-at)], at)
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		at += int64(n)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// disown makes the files of a log that truncated, reset or closed everybody's: they are zeroed
// before use.
func (p *filePool) disown(l *Log) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.mu.files {
		if p.mu.files[i].owner == l {
			p.mu.files[i].owner = noOwner
		}
	}
}

// noOwner stands for a log that is gone: never equal to a log that asks.
var noOwner = new(Log)

// shed unlinks everything in the pool, for its space.
func (p *filePool) shed() {
	p.mu.Lock()
	files := p.mu.files
	p.mu.files, p.mu.bytes = nil, 0
	p.mu.Unlock()
	for _, f := range files {
		if err := p.env.cfg.FS.Remove(f.name); err != nil {
			p.env.cfg.Log.Warn("cannot unlink recycled file", "file", f.name, "err", err)
		}
	}
}
