// Package badgerdir repairs the directory of a Badger database before it is opened: what a kill -9 leaves
// there that Badger itself does not get over. It knows file names and lengths, and nothing of what is in
// them. Its functions are for the one process that holds the lock of the data directory.
package badgerdir

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// RemoveEmpty removes the log files that a crash left without a byte. Badger makes such a file and
// sets its length in two steps; after a kill -9 between them it takes its own empty file for a new
// one and refuses to open ("Create a new file"). Nothing was ever written to it, let alone synced:
// the length comes first. The caller holds the lock of the data directory, so no other process is
// between the two steps.
func RemoveEmpty(dir string, log *slog.Logger) error {
	for _, pattern := range []string{"*.vlog", "*.mem"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return fmt.Errorf("list log files: %w", err)
		}
		for _, name := range names {
			info, err := os.Stat(name)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("look at log file: %w", err)
			}
			if err != nil || info.Size() > 0 || !info.Mode().IsRegular() {
				continue
			}
			log.Info("removing an empty log file that a crash left", "file", name)
			if err := os.Remove(name); err != nil {
				return fmt.Errorf("remove empty log file: %w", err)
			}
		}
	}
	return nil
}
