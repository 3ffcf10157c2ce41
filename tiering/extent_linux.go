package tiering

import (
	"os"

	"golang.org/x/sys/unix"
)

// dropPages lets the kernel forget pages that were just read: the cache must not
// push hot segments out of memory. It is advice; an error changes nothing.
func dropPages(f *os.File, off, n int64) {
	_ = unix.Fadvise(int(f.Fd()), off, n, unix.FADV_DONTNEED)
}
