package vfs

import (
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
)

// Op names an operation that a Rule can meet.
type Op string

// The operations of an FS and of its files.
const (
	OpCreate        Op = "create"
	OpOpen          Op = "open"
	OpOpenReadWrite Op = "open_read_write"
	OpRename        Op = "rename" // matched by the new name
	OpRemove        Op = "remove"
	OpRemoveAll     Op = "remove_all"
	OpMkdirAll      Op = "mkdir_all"
	OpReadDir       Op = "read_dir"
	OpStat          Op = "stat"
	OpSyncDir       Op = "sync_dir"
	OpLock          Op = "lock"
	OpUsage         Op = "usage"
	OpRead          Op = "read"
	OpWrite         Op = "write"
	OpTruncate      Op = "truncate"
	OpAllocate      Op = "allocate"
	OpSync          Op = "sync"
	OpDropCache     Op = "drop_cache" // an error makes it do nothing
	OpResident      Op = "resident"
	OpClose         Op = "close" // the file is closed all the same
)

// Rule says what happens to some operations. All that is set happens, in the order Hook, Block, Err.
type Rule struct {
	Op   Op
	Glob string // path.Match on the whole name, or on its last part if Glob has no slash; "" is every name
	Nth  int    // meets only the nth matching operation, counted from 1; 0 meets all

	Hook  func(op Op, name string)
	Block <-chan struct{} // the operation waits until it is closed
	Err   error           // the operation fails with it
	// WriteFirst is for OpWrite with Err: so many bytes are written before it fails.
	WriteFirst int
}

// Fault decorates a file system with rules. After an injected Sync error the file's unsynced
// bytes are lost as Linux loses them, if the inner file system can (Mem does): readable until
// the cache is dropped, never on disk, and the next Sync succeeds.
type Fault struct {
	inner FS

	mu struct {
		sync.Mutex
		rules []*Injected
	}
}

// NewFault decorates inner. Rules can be added later with Inject.
func NewFault(inner FS, rules ...Rule) *Fault {
	f := &Fault{inner: inner}
	for _, r := range rules {
		f.Inject(r)
	}
	return f
}

// Injected is a rule in force.
type Injected struct {
	f       *Fault
	rule    Rule
	matched int // guarded by f.mu
	fired   int // guarded by f.mu
	removed bool
}

// Inject puts a rule in force from now on.
func (f *Fault) Inject(r Rule) *Injected {
	i := &Injected{f: f, rule: r}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.rules = append(f.mu.rules, i)
	return i
}

// Remove ends the rule; operations that it blocks go on waiting for its channel.
func (i *Injected) Remove() {
	i.f.mu.Lock()
	defer i.f.mu.Unlock()
	i.removed = true
}

// Hits is how often the rule met an operation, so that a test can tell that its fault happened.
func (i *Injected) Hits() int {
	i.f.mu.Lock()
	defer i.f.mu.Unlock()
	return i.fired
}

// meet applies all rules to an operation and returns the first error, and its rule.
func (f *Fault) meet(op Op, name string) (Rule, error) {
	f.mu.Lock()
	var met []Rule
	for _, i := range f.mu.rules {
		if i.removed || i.rule.Op != op || !matches(i.rule.Glob, name) {
			continue
		}
		i.matched++
		if i.rule.Nth == 0 || i.rule.Nth == i.matched {
			i.fired++
			met = append(met, i.rule)
		}
	}
	f.mu.Unlock()
	for _, r := range met {
		if r.Hook != nil {
			r.Hook(op, name)
		}
		if r.Block != nil {
			<-r.Block
		}
		if r.Err != nil {
			return r, &fs.PathError{Op: string(op), Path: name, Err: r.Err}
		}
	}
	return Rule{}, nil
}

func (f *Fault) check(op Op, name string) error {
	_, err := f.meet(op, name)
	return err
}

func matches(glob, name string) bool {
	if glob == "" {
		return true
	}
	if !strings.Contains(glob, "/") {
		name = path.Base(name)
	}
	ok, err := path.Match(glob, name)
	if err != nil {
		panic("vfs: bad glob in a fault rule: " + glob)
	}
	return ok
}

// Create implements FS.
func (f *Fault) Create(name string) (File, error) { return f.open(OpCreate, name, f.inner.Create) }

// Open implements FS.
func (f *Fault) Open(name string) (File, error) { return f.open(OpOpen, name, f.inner.Open) }

// OpenReadWrite implements FS.
func (f *Fault) OpenReadWrite(name string) (File, error) {
	return f.open(OpOpenReadWrite, name, f.inner.OpenReadWrite)
}

func (f *Fault) open(op Op, name string, open func(string) (File, error)) (File, error) {
	if err := f.check(op, name); err != nil {
		return nil, err
	}
	file, err := open(name)
	if err != nil {
		return nil, err
	}
	return &faultFile{File: file, f: f}, nil
}

// Rename implements FS.
func (f *Fault) Rename(oldName, newName string) error {
	if err := f.check(OpRename, newName); err != nil {
		return err
	}
	return f.inner.Rename(oldName, newName)
}

// Remove implements FS.
func (f *Fault) Remove(name string) error { return f.named(OpRemove, name, f.inner.Remove) }

// RemoveAll implements FS.
func (f *Fault) RemoveAll(name string) error { return f.named(OpRemoveAll, name, f.inner.RemoveAll) }

// MkdirAll implements FS.
func (f *Fault) MkdirAll(name string) error { return f.named(OpMkdirAll, name, f.inner.MkdirAll) }

// SyncDir implements FS.
func (f *Fault) SyncDir(name string) error { return f.named(OpSyncDir, name, f.inner.SyncDir) }

func (f *Fault) named(op Op, name string, do func(string) error) error {
	if err := f.check(op, name); err != nil {
		return err
	}
	return do(name)
}

// ReadDir implements FS.
func (f *Fault) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := f.check(OpReadDir, name); err != nil {
		return nil, err
	}
	return f.inner.ReadDir(name)
}

// Stat implements FS.
func (f *Fault) Stat(name string) (fs.FileInfo, error) {
	if err := f.check(OpStat, name); err != nil {
		return nil, err
	}
	return f.inner.Stat(name)
}

// Lock implements FS.
func (f *Fault) Lock(name string) (io.Closer, error) {
	if err := f.check(OpLock, name); err != nil {
		return nil, err
	}
	return f.inner.Lock(name)
}

// Usage implements FS.
func (f *Fault) Usage(name string) (Usage, error) {
	if err := f.check(OpUsage, name); err != nil {
		return Usage{}, err
	}
	return f.inner.Usage(name)
}
