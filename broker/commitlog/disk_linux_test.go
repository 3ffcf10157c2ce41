package commitlog

import (
	"os"
	"syscall"
)

// diskBytes is what a file takes on disk, which is more than its length when it was allocated ahead.
func diskBytes(info os.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
