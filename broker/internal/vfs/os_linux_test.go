package vfs

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMincoreSeesDroppedPages(t *testing.T) {
	dir := t.TempDir()
	var st unix.Statfs_t
	must(t, unix.Statfs(dir, &st))
	if st.Type == unix.TMPFS_MAGIC {
		t.Log("tmpfs keeps every page in memory: nothing to see here")
		return
	}
	f := mustCreate(t, NewOS(), filepath.Join(dir, "a"))
	// Two windows and a bit, so that the last window is a short one that starts inside the file.
	if err := f.Truncate(2*residentWindow + 12_345); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, 2*residentWindow+12_000, "the only page")
	if some, err := f.Resident(0, 0); err != nil || !some {
		t.Fatalf("the last page of the file is resident: %v, %v", some, err)
	}
	if some, err := f.Resident(0, 2*residentWindow); err != nil || some {
		t.Fatalf("a hole is resident: %v, %v", some, err)
	}
	must(t, f.Sync())
	f.DropCache(0, 0)
	if some, err := f.Resident(0, 0); err != nil || some {
		t.Fatalf("resident after sync and DropCache: %v, %v", some, err)
	}
}

func TestDescriptorsAreForSendfile(t *testing.T) {
	f := mustCreate(t, NewOS(), filepath.Join(t.TempDir(), "a"))
	if _, ok := f.FD(); !ok {
		t.Fatal("an OS file has no descriptor")
	}
	if _, ok := mustCreate(t, NewMem(), "a").FD(); ok {
		t.Fatal("a memory file has a descriptor")
	}
}
