package vfs

import (
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// memNode is a file (data set) or a directory (data nil).
type memNode struct {
	data    *memData
	mtime   time.Time
	links   int // names that readers see
	handles int // open files

	entries map[string]*memNode // names as readers see them
	durable map[string]*memNode // names that a power cut leaves
	pending []*memChange        // what leads from durable to entries, in order
}

// memEdit sets a name to a node, or removes it (nil).
type memEdit struct {
	name string
	node *memNode
}

// memChange happens as a whole or not at all.
type memChange struct {
	dir   *memNode
	edits []memEdit
	// after is the other half of a rename between directories: if the old name is gone, the new
	// one is there. Journaling file systems promise that much without a sync.
	after *memChange
}

func newMemDir() *memNode {
	return &memNode{entries: map[string]*memNode{}, durable: map[string]*memNode{}, mtime: time.Now()}
}

// change edits what readers see and notes it as not yet durable.
func (n *memNode) change(edits ...memEdit) *memChange {
	for _, e := range edits {
		if old := n.entries[e.name]; old != nil {
			old.links--
		}
		if e.node == nil {
			delete(n.entries, e.name)
			continue
		}
		n.entries[e.name] = e.node
		e.node.links++
	}
	c := &memChange{dir: n, edits: edits}
	n.pending = append(n.pending, c)
	return c
}

// commit makes the first count pending changes durable.
func (n *memNode) commit(count int) {
	done := n.pending[:count]
	n.pending = slices.Clone(n.pending[count:])
	for _, c := range done {
		c.apply(n.durable)
	}
	for _, c := range done {
		if c.after == nil {
			continue
		}
		// The other directory is a journal too: everything up to the new name goes with it.
		if i := slices.Index(c.after.dir.pending, c.after); i >= 0 {
			c.after.dir.commit(i + 1)
		}
	}
}

func (c *memChange) apply(names map[string]*memNode) {
	for _, e := range c.edits {
		if e.node == nil {
			delete(names, e.name)
		} else {
			names[e.name] = e.node
		}
	}
}

// holds tells whether dir is n or lies under it.
func (n *memNode) holds(dir *memNode) bool {
	if n == dir {
		return true
	}
	for _, child := range n.entries {
		if child.data == nil && child.holds(dir) {
			return true
		}
	}
	return false
}

func (n *memNode) info(base string) memInfo {
	i := memInfo{name: base, dir: n.data == nil, mtime: n.mtime}
	if n.data != nil {
		i.size = n.data.size
	}
	return i
}

type memInfo struct {
	name  string
	size  int64
	dir   bool
	mtime time.Time
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) ModTime() time.Time { return i.mtime }
func (i memInfo) IsDir() bool        { return i.dir }
func (i memInfo) Sys() any           { return nil }

func (i memInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | dirPerm
	}
	return filePerm
}

// memParts splits a name; "/a/b" and "a/b" are the same file.
func memParts(name string) []string {
	name = strings.Trim(path.Clean(name), "/")
	if name == "" || name == "." {
		return nil
	}
	return strings.Split(name, "/")
}

func (m *Mem) find(op, name string) (*memNode, error) {
	n := m.mu.root
	for _, part := range memParts(name) {
		if n.data != nil {
			return nil, &fs.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
		}
		if n = n.entries[part]; n == nil {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
	}
	return n, nil
}

func (m *Mem) findDir(op, name string) (*memNode, error) {
	n, err := m.find(op, name)
	if err == nil && n.data != nil {
		err = &fs.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
	}
	return n, err
}

// parent is the directory that holds name, and the last part of name.
func (m *Mem) parent(op, name string) (*memNode, string, error) {
	parts := memParts(name)
	if len(parts) == 0 {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	dir, err := m.findDir(op, strings.Join(parts[:len(parts)-1], "/"))
	if err != nil {
		cause := err
		if of := (*fs.PathError)(nil); errors.As(err, &of) {
			cause = of.Err // the name asked for is told, not its parent's
		}
		return nil, "", &fs.PathError{Op: op, Path: name, Err: cause}
	}
	return dir, parts[len(parts)-1], nil
}

func sortedKeys(names map[string]*memNode) []string { return slices.Sorted(maps.Keys(names)) }
