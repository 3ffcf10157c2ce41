//go:build !linux && !darwin

package commitlog

// makeSlots gets memory for a map.
func makeSlots(n int) (slots []keySlot, free func()) {
	return make([]keySlot, n), func() {}
}
