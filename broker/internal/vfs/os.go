package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// dirPerm and filePerm keep data from other users of the machine: topics may hold anything.
const (
	dirPerm  = 0o750
	filePerm = 0o640
)

// NewOS is the file system of the operating system.
func NewOS() FS { return osFS{} }

type osFS struct{}

func (osFS) Create(name string) (File, error) {
	return openOS(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (osFS) Open(name string) (File, error) { return openOS(name, os.O_RDONLY) }

func (osFS) OpenReadWrite(name string) (File, error) { return openOS(name, os.O_RDWR) }

func (osFS) Rename(oldName, newName string) error { return markSpace(os.Rename(oldName, newName)) }

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) RemoveAll(name string) error { return os.RemoveAll(name) }

func (osFS) MkdirAll(name string) error { return markSpace(os.MkdirAll(name, dirPerm)) }

func (osFS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

func (osFS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

func (osFS) SyncDir(name string) (err error) {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return markSpace(d.Sync())
}

func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return nil, markSpace(err)
	}
	// flock and not fcntl: a second Lock in the same process must fail too.
	err = control(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if err == nil {
		return f, nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrLocked
	}
	return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
}

func (osFS) Usage(name string) (Usage, error) {
	var st unix.Statfs_t
	if err := retryEINTR(func() error { return unix.Statfs(name, &st) }); err != nil {
		return Usage{}, &fs.PathError{Op: "statfs", Path: name, Err: err}
	}
	return usageOf(&st), nil
}

func openOS(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, filePerm)
	if err != nil {
		return nil, markSpace(err)
	}
	return &osFile{f: f}, nil
}

// osFile is one open file. What Linux has and others have not is in os_linux.go and os_other.go.
type osFile struct{ f *os.File }

func (o *osFile) ReadAt(p []byte, off int64) (int, error) { return o.f.ReadAt(p, off) }

func (o *osFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := o.f.WriteAt(p, off)
	return n, markSpace(err)
}

func (o *osFile) Close() error { return o.f.Close() }

func (o *osFile) Name() string { return o.f.Name() }

func (o *osFile) Size() (int64, error) {
	fi, err := o.f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

func (o *osFile) Truncate(size int64) error { return markSpace(o.f.Truncate(size)) }

func (o *osFile) FD() (uintptr, bool) { return o.f.Fd(), true }

// pathError gives a bare errno the name and the operation.
func (o *osFile) pathError(op string, err error) error {
	if err == nil {
		return nil
	}
	return markSpace(&fs.PathError{Op: op, Path: o.f.Name(), Err: err})
}

// clip cuts [off, off+n) to the file's length and reports how much is left; n 0 means to the end.
func (o *osFile) clip(off, n int64) (int64, error) {
	size, err := o.Size()
	if err != nil {
		return 0, err
	}
	if n == 0 || n > size-off {
		n = size - off
	}
	return max(n, 0), nil
}

// control runs f on the descriptor while the file cannot be closed under it, and again as long
// as a signal interrupts it.
func control(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = conn.Control(func(fd uintptr) {
		inner = retryEINTR(func() error { return do(int(fd)) })
	})
	if err != nil {
		return err
	}
	return inner
}

func retryEINTR(do func() error) error {
	for {
		if err := do(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
