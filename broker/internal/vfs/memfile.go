package vfs

import (
	"io"
	"io/fs"
	"math"
	"time"
)

// memFile is one open file of a Mem. closed is guarded by m.mu.
type memFile struct {
	m        *Mem
	n        *memNode
	name     string
	writable bool
	closed   bool
}

func (f *memFile) Name() string { return f.name }

func (f *memFile) FD() (uintptr, bool) { return 0, false }

// use checks that the operation is allowed; the caller holds m.mu.
func (f *memFile) use(op string, write bool, off int64) error {
	switch {
	case f.closed:
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrClosed}
	case write && !f.writable:
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrPermission}
	case off < 0:
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrInvalid}
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.use("read", false, off); err != nil {
		return 0, err
	}
	n := f.n.data.readAt(p, off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt writes all of p or, without space, nothing.
func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.use("write", true, off); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := f.m.take("write", f, int(off/memPageBytes), pagesUpTo(off+int64(len(p)))); err != nil {
		return 0, err
	}
	f.n.data.writeAt(p, off)
	f.n.mtime = time.Now()
	return len(p), nil
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.use("close", false, 0); err != nil {
		return err
	}
	f.closed = true
	f.n.handles--
	f.m.reclaim(f.n)
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.use("stat", false, 0); err != nil {
		return 0, err
	}
	return f.n.data.size, nil
}

func (f *memFile) Truncate(size int64) error {
	f.m.mu.Lock()
	err := f.use("truncate", true, size)
	if err == nil {
		f.n.data.truncate(size)
		f.m.release(f.n.data, pagesUpTo(size))
		f.n.mtime = time.Now()
	}
	f.m.mu.Unlock()
	if err == nil {
		f.m.synced("truncate", f.name)
	}
	return err
}

func (f *memFile) Allocate(off, n int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.use("fallocate", true, min(off, n-1)); err != nil {
		return err
	}
	return f.m.take("fallocate", f, int(off/memPageBytes), pagesUpTo(off+n))
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	err := f.use("fdatasync", false, 0)
	if err == nil {
		f.n.data.sync()
	}
	f.m.mu.Unlock()
	if err == nil {
		f.m.synced("sync", f.name)
	}
	return err
}

// LoseUnsynced is Mem.LoseUnsynced for an open file, whatever its name is now.
func (f *memFile) LoseUnsynced() {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.n.data.loseUnsynced()
}

// StartWriteback promises nothing, so it does nothing: pages stay as unsynced as they were.
func (f *memFile) StartWriteback(_, _ int64) {}

func (f *memFile) DropCache(off, n int64) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.n.data.dropCache(off, rangeEnd(off, n))
}

func (f *memFile) Resident(off, n int64) (bool, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.use("mincore", false, off); err != nil {
		return true, err
	}
	return f.n.data.resident(off, rangeEnd(off, n)), nil
}

// rangeEnd is the end of [off, off+n), where n 0 means to the end of the file.
func rangeEnd(off, n int64) int64 {
	if n == 0 {
		return math.MaxInt64
	}
	return off + n
}
