package tiering

import "os"

// writeBuffered writes a whole file through the page cache.
func writeBuffered(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// wholeExtent reports whether a file of size bytes may hold an extent of n: it
// has its length, or was padded to the next block.
func wholeExtent(size, n int64) bool {
	return size == n || size == (n+directAlign-1)/directAlign*directAlign
}
