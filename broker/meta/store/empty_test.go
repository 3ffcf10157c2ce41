package store

import (
	"os"
	"path/filepath"
	"testing"
)

// TestCrashBetweenTheStepsOfANewFileDoesNotStopTheNextOpen leaves what a kill -9 leaves in the
// middle of each creation of a file: a name without a byte, above the files that hold the log.
func TestCrashBetweenTheStepsOfANewFileDoesNotStopTheNextOpen(t *testing.T) {
	dir := t.TempDir()
	o := open(t, dir)
	if err := o.StoreLogs(entries(1, 20)); err != nil {
		t.Fatal(err)
	}
	o.close(t)
	for range 3 { // each open makes files of its own
		for _, name := range []string{"000900.vlog", "00900.mem"} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		o = open(t, dir)
		first, err := o.FirstIndex()
		last, lastErr := o.LastIndex()
		if err != nil || lastErr != nil || first != 1 || last != 20 {
			t.Errorf("entries %d to %d: %v %v", first, last, err, lastErr)
		}
		o.close(t)
		if err := o.fatal.Load(); err != nil {
			t.Errorf("a storage error was told: %v", *err)
		}
	}
}
