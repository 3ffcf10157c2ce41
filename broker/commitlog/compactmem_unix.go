//go:build linux || darwin

package commitlog

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// makeSlots gets memory for a map. Large maps live outside the Go heap: the collector lets garbage grow
// to the size of what lives, so a map of 128 MiB in the heap would cost twice that. free gives it back.
func makeSlots(n int) (slots []keySlot, free func()) {
	bytes := n * int(keySlotBytes)
	if bytes < heapMapBytes {
		return make([]keySlot, n), func() {}
	}
	b, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return make([]keySlot, n), func() {}
	}
	return unsafe.Slice((*keySlot)(unsafe.Pointer(&b[0])), n), func() {
		_ = unix.Munmap(b) // it fails only for memory that was not mapped
	}
}
