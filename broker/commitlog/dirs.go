package commitlog

import (
	"path"
	"sync"
)

// dirSet remembers which directories of this data directory have a durable name, so that the
// first append to a partition syncs only what is new. Partition directories are not in it: each
// log knows about its own.
type dirSet struct {
	env *Env
	mu  struct {
		sync.Mutex
		// durable holds directories whose entry in their parent was synced by this process
		// after they existed. One per topic, and the few above.
		durable map[string]bool
		// listed holds topic directories whose entries were synced by this process. It covers
		// the partitions of an earlier process only: those were there before.
		listed map[string]bool
		// fresh holds partition directories that this process made and whose entry it has not
		// synced yet, whoever finds them meanwhile.
		fresh map[string]bool
	}
}

// How much is known about the name of a partition's directory.
type dirState uint8

const (
	dirUnknown dirState = iota // may be new: its parent is synced with the next flush
	dirFound                   // left by an earlier process, durable or not
	dirDurable                 // its entry was synced
)

func (d *dirSet) init(e *Env) {
	d.env = e
	d.mu.durable = make(map[string]bool)
	d.mu.listed = make(map[string]bool)
	d.mu.fresh = make(map[string]bool)
}

// make creates the directory of a partition and all above it.
func (d *dirSet) make(dir string) error {
	d.mu.Lock()
	d.mu.fresh[dir] = true
	d.mu.Unlock()
	return d.env.cfg.FS.MkdirAll(dir)
}

// syncNames makes the names in dir durable, and the name of dir and of every directory above it up
// to the data directory. A directory that another log made but has not yet synced is synced here
// too: existing is not durable.
func (d *dirSet) syncNames(dir string, state dirState) error {
	fs := d.env.cfg.FS
	if err := asSyncError(fs.SyncDir(dir)); err != nil {
		return err
	}
	parent := path.Dir(dir)
	if state == dirUnknown || state == dirFound && !d.isListed(dir, parent) {
		if err := asSyncError(fs.SyncDir(parent)); err != nil {
			return err
		}
		d.mu.Lock()
		d.mu.listed[parent] = true
		delete(d.mu.fresh, dir)
		d.mu.Unlock()
	}
	for p := parent; len(p) > len(d.env.cfg.Dir); p = path.Dir(p) {
		d.mu.Lock()
		done := d.mu.durable[p]
		d.mu.Unlock()
		if done {
			break
		}
		if err := asSyncError(fs.SyncDir(path.Dir(p))); err != nil {
			return err
		}
		d.mu.Lock()
		d.mu.durable[p] = true
		d.mu.Unlock()
	}
	return nil
}

// isListed tells whether the entry of a partition's directory that was found is durable.
func (d *dirSet) isListed(dir, parent string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.listed[parent] && !d.mu.fresh[dir]
}

// forget drops what is known of a partition's directory and its topic's, when it is removed.
func (d *dirSet) forget(dir string) {
	d.mu.Lock()
	delete(d.mu.durable, path.Dir(dir))
	delete(d.mu.listed, path.Dir(dir))
	delete(d.mu.fresh, dir)
	d.mu.Unlock()
}
