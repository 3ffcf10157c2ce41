package tiering

import "os"

// writeExtent writes one cache file. It is not synced: a file that a crash cuts
// short has another length than its name says, or fails its CRC.
func writeExtent(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	dropPages(f, 0, int64(len(data)))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
