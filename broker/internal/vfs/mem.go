package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// memTotal is the size a Mem says it has until SetFree: larger than any test fills.
const memTotal = 1 << 40

// Mem is a file system in memory that knows what a power cut would leave: what was not synced may
// be lost, and CrashClone says how. See memdata.go for contents and memdir.go for names.
type Mem struct {
	onSync atomic.Pointer[func(op, name string)]

	mu struct {
		sync.Mutex
		root  *memNode
		locks map[string]bool
		total int64
		used  int64
	}
}

// NewMem is an empty file system with a root directory.
func NewMem() *Mem { return newMem(newMemDir()) }

func newMem(root *memNode) *Mem {
	m := &Mem{}
	m.mu.root, m.mu.locks, m.mu.total = root, map[string]bool{}, memTotal
	return m
}

// OnSync calls f after each Sync, SyncDir, Rename, Remove, RemoveAll and Truncate, with no lock
// held, so that f may clone. nil ends it.
func (m *Mem) OnSync(f func(op, name string)) {
	if f == nil {
		m.onSync.Store(nil)
		return
	}
	m.onSync.Store(&f)
}

// SetFree leaves bytes free from now on; 4 KiB pages are what is counted.
func (m *Mem) SetFree(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.total = m.mu.used + bytes
}

// LoseUnsynced does to a file what Linux does after a failed fdatasync: what was not synced
// never reaches the disk, stays readable until DropCache of the file (opening it anew does not
// help), and the next Sync succeeds.
func (m *Mem) LoseUnsynced(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n, err := m.find("lose", name); err == nil && n.data != nil {
		n.data.loseUnsynced()
	}
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parent("open", name)
	if err != nil {
		return nil, err
	}
	if dir.entries[base] != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	}
	n := &memNode{data: &memData{}, mtime: time.Now()}
	dir.change(memEdit{base, n})
	return m.open(n, name, true), nil
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.openName(name, false) }

// OpenReadWrite implements FS.
func (m *Mem) OpenReadWrite(name string) (File, error) { return m.openName(name, true) }

func (m *Mem) openName(name string, writable bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("open", name)
	if err != nil {
		return nil, err
	}
	if n.data == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
	}
	return m.open(n, name, writable), nil
}

func (m *Mem) open(n *memNode, name string, writable bool) File {
	n.handles++
	return &memFile{m: m, n: n, name: name, writable: writable}
}

// Rename implements FS. Inside one directory it happens or not as a whole; between two it can
// leave both names after a power cut, and never neither.
func (m *Mem) Rename(oldName, newName string) error {
	if err := m.rename(oldName, newName); err != nil {
		return err
	}
	m.synced("rename", newName)
	return nil
}

func (m *Mem) rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, oldBase, err := m.parent("rename", oldName)
	if err != nil {
		return err
	}
	to, newBase, err := m.parent("rename", newName)
	if err != nil {
		return err
	}
	n, target := from.entries[oldBase], to.entries[newBase]
	switch {
	case n == nil:
		return &fs.PathError{Op: "rename", Path: oldName, Err: fs.ErrNotExist}
	case n == target:
		return nil
	case n.holds(to):
		return &fs.PathError{Op: "rename", Path: newName, Err: syscall.EINVAL}
	case target != nil && (target.data == nil) != (n.data == nil):
		return &fs.PathError{Op: "rename", Path: newName, Err: fs.ErrExist}
	case target != nil && len(target.entries) > 0:
		return &fs.PathError{Op: "rename", Path: newName, Err: syscall.ENOTEMPTY}
	}
	if from == to {
		from.change(memEdit{oldBase, nil}, memEdit{newBase, n})
	} else {
		link := to.change(memEdit{newBase, n})
		from.change(memEdit{oldBase, nil}).after = link
	}
	m.reclaim(target)
	return nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	err := func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		dir, base, err := m.parent("remove", name)
		if err != nil {
			return err
		}
		n := dir.entries[base]
		if n == nil {
			return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
		}
		if len(n.entries) > 0 {
			return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
		}
		m.unlink(dir, base)
		return nil
	}()
	if err == nil {
		m.synced("remove", name)
	}
	return err
}

// RemoveAll implements FS. Each name goes by itself, so a power cut can leave any part of the tree.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	dir, base, err := m.parent("removeall", name)
	if err == nil && dir.entries[base] != nil {
		m.unlink(dir, base)
	}
	m.mu.Unlock()
	m.synced("removeall", name)
	return nil
}

// unlink removes a name and, first, what is under it.
func (m *Mem) unlink(dir *memNode, base string) {
	n := dir.entries[base]
	for _, name := range sortedKeys(n.entries) {
		m.unlink(n, name)
	}
	dir.change(memEdit{base, nil})
	m.reclaim(n)
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.mu.root
	for _, part := range memParts(name) {
		next := n.entries[part]
		if next == nil {
			next = newMemDir()
			n.change(memEdit{part, next})
		}
		if next.data != nil {
			return &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
		}
		n = next
	}
	return nil
}

// ReadDir implements FS.
func (m *Mem) ReadDir(name string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, err := m.findDir("readdir", name)
	if err != nil {
		return nil, err
	}
	var list []fs.DirEntry
	for _, base := range sortedKeys(dir.entries) {
		list = append(list, fs.FileInfoToDirEntry(dir.entries[base].info(base)))
	}
	return list, nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("stat", name)
	if err != nil {
		return nil, err
	}
	return n.info(path.Base(path.Clean(name))), nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	dir, err := m.findDir("syncdir", name)
	if err == nil {
		dir.commit(len(dir.pending))
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	m.synced("syncdir", name)
	return nil
}

// Lock implements FS. A clone starts with no lock held.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parent("lock", name)
	if err != nil {
		return nil, err
	}
	key := path.Clean(name)
	if m.mu.locks[key] {
		return nil, fmt.Errorf("lock %s: %w", name, ErrLocked)
	}
	if dir.entries[base] == nil {
		dir.change(memEdit{base, &memNode{data: &memData{}, mtime: time.Now()}})
	}
	m.mu.locks[key] = true
	return &memLock{m: m, key: key}, nil
}

type memLock struct {
	m    *Mem
	key  string
	once sync.Once
}

func (l *memLock) Close() error {
	l.once.Do(func() {
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		delete(l.m.mu.locks, l.key)
	})
	return nil
}

// Usage implements FS.
func (m *Mem) Usage(string) (Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Usage{Total: m.mu.total, Free: max(m.mu.total-m.mu.used, 0)}, nil
}

func (m *Mem) synced(op, name string) {
	if f := m.onSync.Load(); f != nil {
		(*f)(op, name)
	}
}

// take marks pages [from, to) of a file as allocated, all of them or none.
func (m *Mem) take(op string, f *memFile, from, to int) error {
	d := f.n.data
	need := int64(0)
	for i := from; i < to; i++ {
		if i >= len(d.slots) || !d.slots[i].alloc {
			need += memPageBytes
		}
	}
	if need == 0 {
		return nil
	}
	if need > m.mu.total-m.mu.used {
		return &fs.PathError{Op: op, Path: f.name, Err: ErrNoSpace}
	}
	d.grow(to)
	for i := from; i < to; i++ {
		d.slots[i].alloc = true
	}
	m.mu.used += need
	return nil
}

// release gives back the space of a file from a page on.
func (m *Mem) release(d *memData, from int) {
	for i := from; i < len(d.slots); i++ {
		if d.slots[i].alloc {
			d.slots[i].alloc = false
			m.mu.used -= memPageBytes
		}
	}
}

// reclaim gives back the space of a file that has no name and no handle any more.
func (m *Mem) reclaim(n *memNode) {
	if n != nil && n.data != nil && n.links == 0 && n.handles == 0 {
		m.release(n.data, 0)
	}
}
