package vfs

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// residentWindow bounds what one mincore call maps and asks for: its answer takes a byte a page,
// so a window of 64 MiB costs 16 KiB.
const residentWindow = 64 << 20

// Sync leaves out fsync's time stamps, which nobody here reads and which would cost a journal commit.
func (o *osFile) Sync() error {
	return o.pathError("fdatasync", control(o.f, unix.Fdatasync))
}

func (o *osFile) Allocate(off, n int64) error {
	err := control(o.f, func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return o.pathError("fallocate", err)
}

func (o *osFile) StartWriteback(off, n int64) {
	_ = control(o.f, func(fd int) error {
		return unix.SyncFileRange(fd, off, n, unix.SYNC_FILE_RANGE_WRITE)
	})
}

func (o *osFile) DropCache(off, n int64) {
	_ = control(o.f, func(fd int) error {
		return unix.Fadvise(fd, off, n, unix.FADV_DONTNEED)
	})
}

// Resident maps the range window by window and asks mincore. A mapping alone brings no page in.
func (o *osFile) Resident(off, n int64) (bool, error) {
	n, err := o.clip(off, n)
	if err != nil {
		return true, err
	}
	page := int64(os.Getpagesize())
	for end := off + n; off < end; {
		start := off - off%page
		size := min(end-start, residentWindow)
		some := false
		err := control(o.f, func(fd int) (err error) {
			some, err = residentIn(fd, start, int(size))
			return err
		})
		if err != nil || some {
			return true, o.pathError("mincore", err)
		}
		off = start + size
	}
	return false, nil
}

func residentIn(fd int, off int64, size int) (some bool, err error) {
	m, err := unix.Mmap(fd, off, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return true, fmt.Errorf("map %d bytes at %d: %w", size, off, err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(m)) }()
	page := os.Getpagesize()
	vec := make([]byte, (size+page-1)/page)
	_, _, errno := unix.Syscall(unix.SYS_MINCORE,
		uintptr(unsafe.Pointer(&m[0])), uintptr(size), uintptr(unsafe.Pointer(&vec[0])))
	if errno != 0 {
		return true, errno
	}
	for _, v := range vec {
		if v&1 != 0 {
			return true, nil
		}
	}
	return false, nil
}

func usageOf(st *unix.Statfs_t) Usage {
	return Usage{Total: int64(st.Blocks) * st.Frsize, Free: int64(st.Bavail) * st.Frsize}
}
