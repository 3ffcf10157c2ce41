package tiering

import (
	"errors"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// directAlign is what O_DIRECT asks of address, position and length on every
// device in use. Slabs are page-aligned, as large Go objects are.
const directAlign = 4096

// dropPages lets the kernel forget pages that were just read: the cache must not
// push hot segments out of memory. It is advice; an error changes nothing.
func dropPages(f *os.File, off, n int64) {
	_ = unix.Fadvise(int(f.Fd()), off, n, unix.FADV_DONTNEED)
}

// writeExtent writes one cache file, past the page cache where that works: a file
// in new pages costs 5 to 10 times the CPU, and its writeback competes with the
// fdatasync of hot logs. The file may then be longer than data, up to the next
// block; what follows means nothing. It is not synced: a file that a crash cuts
// short has another length than its name says, or fails its CRC.
func writeExtent(path string, data []byte) error {
	err := writeDirect(path, data)
	if errors.Is(err, errNotDirect) {
		return writeBuffered(path, data)
	}
	return err
}

var errNotDirect = errors.New("not possible past the page cache")

func writeDirect(path string, data []byte) error {
	padded := (len(data) + directAlign - 1) &^ (directAlign - 1)
	if len(data) == 0 || padded > cap(data) || uintptr(unsafe.Pointer(unsafe.SliceData(data)))%directAlign != 0 {
		return errNotDirect
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_DIRECT, 0o600)
	if err != nil {
		return directError(err)
	}
	_, err = f.Write(data[:padded])
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return directError(err)
}

// directError: a file system without O_DIRECT says EINVAL.
func directError(err error) error {
	if errors.Is(err, syscall.EINVAL) {
		return errNotDirect
	}
	return err
}
