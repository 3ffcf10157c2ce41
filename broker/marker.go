package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"varve/broker/internal/vfs"
)

// cleanMarker is the file that says that the last stop was clean: every log was synced before it
// was written. It is removed, and the directory synced, before the first append, and counts only
// for the broker epoch and the state database in it (design 6).
type cleanMarker struct {
	fs  vfs.FS
	dir string
}

const (
	markerName    = "clean"
	maxMarkerSize = 4096
)

type markerFile struct {
	BrokerEpoch int64 `json:"broker_epoch"`
	// States is the digest of the state database, whose checkpoints say where each log ended. The database
	// is not synced like a log: with another digest it is from before the stop, and proves nothing.
	States string `json:"states"`
}

func (m cleanMarker) path() string { return filepath.Join(m.dir, markerName) }

// take reads and removes the marker. ok is false if there is none that can be read: then the stop
// was not clean.
func (m cleanMarker) take() (file markerFile, ok bool, err error) {
	b, err := readSmall(m.fs, m.path(), maxMarkerSize)
	if errors.Is(err, fs.ErrNotExist) {
		return markerFile{}, false, nil
	}
	ok = err == nil && json.Unmarshal(b, &file) == nil
	if err := m.fs.Remove(m.path()); err != nil {
		return markerFile{}, false, fmt.Errorf("remove clean-stop marker: %w", err)
	}
	if err := m.fs.SyncDir(m.dir); err != nil {
		return markerFile{}, false, fmt.Errorf("remove clean-stop marker: %w", err)
	}
	return file, ok, nil
}

// put writes the marker durably: temporary file, fsync, rename, fsync of the directory.
func (m cleanMarker) put(file markerFile) error {
	b, err := json.Marshal(file)
	if err != nil {
		return err
	}
	tmp := m.path() + ".tmp"
	if err := m.fs.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := m.fs.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := m.fs.Rename(tmp, m.path()); err != nil {
		return err
	}
	return m.fs.SyncDir(m.dir)
}

func readSmall(fsys vfs.FS, name string, most int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > most {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read", name, size, most)
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}
