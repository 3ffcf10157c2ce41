package object

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// staging is a file on its way into the bucket. Its owner holds a file lock on
// it from creation to its end, so that another process that opens the same
// bucket can tell it from the leftover of a process that died.
type staging struct {
	file   *os.File
	placed bool // it was renamed; there is nothing to remove
}

// createStaging returns a new, locked, empty staging file.
func createStaging(dir string) (*staging, error) {
	for {
		f, err := os.OpenFile(filepath.Join(dir, rand.Text()), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
		if os.IsNotExist(err) {
			err = os.MkdirAll(dir, 0o755) // somebody tidied up
			if err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		locked, err := lockFile(f)
		if err == nil && locked {
			// A cleaner may have been faster between the create and the lock.
			if _, err := os.Lstat(f.Name()); err == nil {
				return &staging{file: f}, nil
			}
		}
		f.Close()
		if err != nil {
			os.Remove(f.Name())
			return nil, err
		}
	}
}

// discard closes the file, which ends its lock, and removes it if it was not placed.
func (s *staging) discard() {
	if !s.placed {
		os.Remove(s.file.Name())
	}
	s.file.Close()
}

// cleanStaging removes the files of dir that nobody has locked.
func cleanStaging(dir string) (removed int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, e.Name()), os.O_RDWR, 0)
		if os.IsNotExist(err) {
			continue // its owner has just finished
		}
		if err != nil {
			return removed, err
		}
		locked, err := lockFile(f)
		if err == nil && locked && os.Remove(f.Name()) == nil {
			removed++
		}
		f.Close()
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// lockFile takes the exclusive advisory lock of f unless another open file has it.
func lockFile(f *os.File) (locked bool, err error) {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch err {
		case nil:
			return true, nil
		case syscall.EINTR:
			continue
		case syscall.EWOULDBLOCK:
			return false, nil
		default:
			return false, &os.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}
