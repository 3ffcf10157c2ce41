package object

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stagingDir holds the files of Puts under way, below the root so that a rename
// into place is atomic. One directory, and not one beside each object, because
// leftovers are then found without walking the bucket.
const stagingDir = reservedPrefix + "staging"

// copyBytes is the piece in which a body is copied; the context is looked at
// between pieces. Larger gained nothing, smaller costs system calls.
const copyBytes = 256 << 10

// Dir is a Store in a local directory: one file an object. Several processes may
// share it. Put writes a staging file, fsyncs it, renames it into place and
// fsyncs the directory and each parent it made. Directories are never removed: a
// directory that cannot vanish needs its chain to the root fsynced only once.
type Dir struct {
	root string
	name string
	now  func() time.Time
	buf  sync.Pool // *[]byte of copyBytes

	mu struct {
		sync.Mutex
		// durable are the directories whose entries up to the root have been
		// fsynced by this process.
		durable map[string]bool
	}
}

// OpenDir returns a store in the directory path, which is made if it is missing,
// and removes staging files whose owners are gone.
func OpenDir(path string, cfg Config) (*Dir, error) {
	cfg = cfg.withDefaults()
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, badURL("directory: " + err.Error())
	}
	d := &Dir{root: abs, name: "dir://" + filepath.ToSlash(abs), now: cfg.Now}
	d.buf.New = func() any { b := make([]byte, copyBytes); return &b }
	d.mu.durable = make(map[string]bool)
	if err := os.MkdirAll(filepath.Join(abs, stagingDir), 0o755); err != nil {
		if file := fileAbove(abs); file != "" {
			return nil, &Error{
				Op: "open", Store: d.name, Kind: ErrMisconfigured, Detail: file + " is a file and not a directory",
				Hint: "name another directory in the store URL, or move the file away",
			}
		}
		return nil, d.fail("open", "", err)
	}
	removed, err := cleanStaging(filepath.Join(abs, stagingDir))
	if err != nil {
		return nil, d.fail("open", "", err)
	}
	if removed > 0 {
		cfg.Log.Info("removed leftovers of interrupted writes", "store", d.name, "files", removed)
	}
	return d, nil
}

// fileAbove is the first element of path that is there and no directory, "" if there
// is none.
func fileAbove(path string) string {
	for ; ; path = filepath.Dir(path) {
		st, err := os.Stat(path)
		switch {
		case err == nil && st.IsDir(), path == filepath.Dir(path):
			return ""
		case err == nil:
			return path
		}
	}
}

// Name is "dir:///path".
func (d *Dir) Name() string { return d.name }

// Close does nothing: nothing is held between calls.
func (d *Dir) Close() error { return nil }

// Put writes body to a staging file and moves it into place.
func (d *Dir) Put(ctx context.Context, key string, body Body, opt PutOptions) (Info, error) {
	if err := checkPut(d.name, key, body); err != nil {
		return Info{}, err
	}
	if ctx.Err() != nil {
		return Info{}, canceled(ctx, OpPut, d.name, key)
	}
	tmp, err := createStaging(filepath.Join(d.root, stagingDir))
	if err != nil {
		return Info{}, d.fail(OpPut, key, err)
	}
	defer tmp.discard()
	crc, err := d.copyBody(ctx, tmp.file, key, body)
	if err != nil {
		return Info{}, err
	}
	if opt.CRC32C.Known && opt.CRC32C.Value != crc {
		return Info{}, checksumError(d.name, key, opt.CRC32C.Value, crc)
	}
	if err := tmp.file.Sync(); err != nil {
		return Info{}, d.fail(OpPut, key, err)
	}
	st, err := tmp.file.Stat()
	if err != nil {
		return Info{}, d.fail(OpPut, key, err)
	}
	if ctx.Err() != nil {
		return Info{}, canceled(ctx, OpPut, d.name, key)
	}
	if err := d.place(tmp, key, opt.IfAbsent); err != nil {
		return Info{}, d.fail(OpPut, key, err)
	}
	return Info{Key: key, Size: body.Size, CRC32C: CRC(crc), ModTime: st.ModTime()}, nil
}

// copyBody writes body to f and returns the CRC32C of what it wrote.
func (d *Dir) copyBody(ctx context.Context, f *os.File, key string, body Body) (uint32, error) {
	bufp := d.buf.Get().(*[]byte)
	defer d.buf.Put(bufp)
	var crc uint32
	for off := int64(0); off < body.Size; {
		if ctx.Err() != nil {
			return 0, canceled(ctx, OpPut, d.name, key)
		}
		buf := (*bufp)[:min(int64(copyBytes), body.Size-off)]
		if n, err := body.Reader.ReadAt(buf, off); n < len(buf) {
			return 0, bodyError(d.name, key, off+int64(n), body.Size, err)
		}
		if _, err := f.Write(buf); err != nil {
			return 0, d.fail(OpPut, key, err)
		}
		crc = crc32.Update(crc, castagnoli, buf)
		off += int64(len(buf))
	}
	return crc, nil
}

// place gives the finished staging file its name and makes the name durable.
func (d *Dir) place(tmp *staging, key string, ifAbsent bool) error {
	final := d.path(key)
	dir := filepath.Dir(final)
	move := func() error {
		if ifAbsent {
			return os.Link(tmp.file.Name(), final) // the only create that both never replaces and is atomic
		}
		return os.Rename(tmp.file.Name(), final)
	}
	if err := d.makeDir(dir); err != nil {
		return err
	}
	err := move()
	if errors.Is(err, fs.ErrNotExist) { // somebody removed the directory that we had made durable
		d.forgetDirs()
		if err := d.makeDir(dir); err != nil {
			return err
		}
		err = move()
	}
	if err != nil {
		return err
	}
	tmp.placed = !ifAbsent
	return syncDir(dir)
}

// makeDir makes dir and its parents up to the root, and makes their names
// durable, whoever made them.
func (d *Dir) makeDir(dir string) error {
	d.mu.Lock()
	known := d.mu.durable[dir]
	d.mu.Unlock()
	if known {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for parent := dir; parent != d.root; {
		parent = filepath.Dir(parent)
		if err := syncDir(parent); err != nil {
			return err
		}
	}
	if err := syncDir(filepath.Dir(d.root)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.mu.durable) >= maxDurableDirs {
		clear(d.mu.durable)
	}
	d.mu.durable[dir] = true
	return nil
}

// maxDurableDirs bounds the memory of makeDir; forgetting only costs a few fsyncs.
const maxDurableDirs = 1 << 16

func (d *Dir) forgetDirs() {
	d.mu.Lock()
	clear(d.mu.durable)
	d.mu.Unlock()
}

// GetRange reads from the object's file.
func (d *Dir) GetRange(ctx context.Context, key string, off int64, dst []byte) (int, error) {
	if err := checkGet(d.name, key, off); err != nil {
		return 0, err
	}
	if len(dst) == 0 {
		return 0, nil
	}
	if ctx.Err() != nil {
		return 0, canceled(ctx, OpGet, d.name, key)
	}
	f, err := os.Open(d.path(key))
	if err != nil {
		return 0, d.fail(OpGet, key, err)
	}
	defer f.Close()
	n, err := f.ReadAt(dst, off)
	switch {
	case err == nil || n == len(dst):
		return n, nil
	case !errors.Is(err, io.EOF):
		return n, d.fail(OpGet, key, err)
	}
	st, err := f.Stat()
	if err != nil {
		return n, d.fail(OpGet, key, err)
	}
	if off >= st.Size() {
		return 0, badRange(d.name, key, off, st.Size())
	}
	return n, shortRead(d.name, key, off, n, len(dst))
}

// Head describes an object from its file. The checksum is not known: it would
// cost reading the whole object.
func (d *Dir) Head(ctx context.Context, key string) (Info, error) {
	if err := checkKey(OpHead, d.name, key); err != nil {
		return Info{}, err
	}
	if ctx.Err() != nil {
		return Info{}, canceled(ctx, OpHead, d.name, key)
	}
	st, err := os.Stat(d.path(key))
	if err != nil {
		return Info{}, d.fail(OpHead, key, err)
	}
	if !st.Mode().IsRegular() {
		return Info{}, &Error{Op: OpHead, Store: d.name, Key: key, Kind: ErrNotFound}
	}
	return Info{Key: key, Size: st.Size(), ModTime: st.ModTime()}, nil
}

// Delete removes the object's file and makes that durable.
func (d *Dir) Delete(ctx context.Context, key string) error {
	if err := checkKey(OpDelete, d.name, key); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return canceled(ctx, OpDelete, d.name, key)
	}
	path := d.path(key)
	if st, err := os.Lstat(path); err == nil && st.IsDir() {
		return nil // a directory is not an object
	}
	err := os.Remove(path)
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err == nil || isAbsent(err) {
		return nil
	}
	return d.fail(OpDelete, key, err)
}

func (d *Dir) path(key string) string { return filepath.Join(d.root, filepath.FromSlash(key)) }

// isAbsent also takes ENOTDIR: with an object "a" there is no object "a/b".
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// fail classifies a file system error.
func (d *Dir) fail(op Op, key string, err error) error {
	e := &Error{Op: op, Store: d.name, Key: key, Kind: ErrUnavailable, Err: err, Detail: pathless(err)}
	switch {
	case op == OpPut && errors.Is(err, fs.ErrExist):
		e.Kind, e.Err, e.Detail = ErrExists, nil, ""
	case op == OpPut && (errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR)):
		e.Kind = ErrInvalidKey
		e.Hint = "another object's key is a path prefix of this one, or this one of another's"
	case isAbsent(err):
		e.Kind, e.Detail = ErrNotFound, ""
	case errors.Is(err, syscall.EISDIR): // a directory is not an object
		e.Kind, e.Detail = ErrNotFound, ""
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		e.Kind = ErrDenied
		e.Hint = fmt.Sprintf("let user id %d read and write %s", os.Getuid(), d.root)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Hint = "make room on the file system of " + d.root
	}
	return e
}

// pathless is the cause without the path, which the Error already names.
func pathless(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Op + ": " + pe.Err.Error()
	}
	var le *os.LinkError
	if errors.As(err, &le) {
		return le.Op + ": " + le.Err.Error()
	}
	return strings.TrimSpace(err.Error())
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
