//go:build !linux

package tiering

import "os"

// directAlign: nothing is padded where nothing is written past the page cache.
const directAlign = 1

// dropPages does nothing where there is no way to say it.
func dropPages(*os.File, int64, int64) {}

// writeExtent writes one cache file. It is not synced: a file that a crash cuts
// short has another length than its name says, or fails its CRC.
func writeExtent(path string, data []byte) error { return writeBuffered(path, data) }
