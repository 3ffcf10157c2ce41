package badgerdir

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyEmptyLogFilesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"000001.vlog": "", "00001.mem": "", "000002.vlog": "x", "00002.mem": "x", "000001.sst": "", "MANIFEST": "",
	} {
		write(t, filepath.Join(dir, name), content)
	}
	if err := RemoveEmpty(dir, quiet()); err != nil {
		t.Fatal(err)
	}
	for name, stays := range map[string]bool{
		"000001.vlog": false, "00001.mem": false, "000002.vlog": true, "00002.mem": true, "000001.sst": true, "MANIFEST": true,
	} {
		if _, err := os.Stat(filepath.Join(dir, name)); stays != (err == nil) {
			t.Errorf("%s stays %v: %v", name, stays, err)
		}
	}
}

func TestOfWhatWasSetAsideOnlyTheNewestIsKept(t *testing.T) {
	data := t.TempDir()
	dir := filepath.Join(data, "state")
	write(t, filepath.Join(data, "state.broken-by-hand", "f"), "not ours")
	now := time.Unix(1_700_000_000, 0)
	var moved []string
	for i := range 6 {
		write(t, filepath.Join(dir, "f"), "x")
		when := now.Add(time.Duration(i) * time.Hour)
		if i == 5 {
			when = now.Add(-time.Hour) // the clock went back
		}
		to, err := SetAside(dir, when, quiet())
		if err != nil {
			t.Fatal(err)
		}
		moved = append(moved, to)
	}
	for i, to := range moved {
		if _, err := os.Stat(to); (i >= 3) != (err == nil) {
			t.Errorf("move %d of %d: %v", i, len(moved), err)
		}
	}
	if _, err := os.Stat(filepath.Join(data, "state.broken-by-hand", "f")); err != nil {
		t.Error(err)
	}
}
