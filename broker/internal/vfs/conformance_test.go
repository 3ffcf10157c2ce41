package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"testing"
)

// conform runs one claim over every file system; dir is an empty directory of its own.
func conform(t *testing.T, claim func(t *testing.T, fsys FS, dir string)) {
	t.Run("os", func(t *testing.T) { claim(t, NewOS(), t.TempDir()) })
	for name, fsys := range map[string]FS{"mem": NewMem(), "fault": NewFault(NewMem())} {
		t.Run(name, func(t *testing.T) {
			must(t, fsys.MkdirAll("data/dir"))
			claim(t, fsys, "data/dir")
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustCreate(t *testing.T, fsys FS, name string) File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func mustWrite(t *testing.T, f File, off int64, s string) {
	t.Helper()
	if n, err := f.WriteAt([]byte(s), off); err != nil || n != len(s) {
		t.Fatalf("write of %d bytes at %d: %d, %v", len(s), off, n, err)
	}
}

func mustContain(t *testing.T, fsys FS, name, want string) {
	t.Helper()
	f, err := fsys.Open(name)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	size, err := f.Size()
	must(t, err)
	got := make([]byte, size)
	if _, err := f.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Fatalf("%s holds %.60q (%d bytes), want %.60q (%d bytes)", name, got, len(got), want, len(want))
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func TestCreateRefusesATakenName(t *testing.T) {
	conform(t, func(t *testing.T, fsys FS, dir string) {
		mustCreate(t, fsys, path.Join(dir, "a"))
		_, err := fsys.Create(path.Join(dir, "a"))
		wantErr(t, err, fs.ErrExist)
		_, err = fsys.Create(path.Join(dir, "no", "a"))
		wantErr(t, err, fs.ErrNotExist)
	})
}

func TestMissingNamesAreNotExist(t *testing.T) {
	conform(t, func(t *testing.T, fsys FS, dir string) {
		name := path.Join(dir, "missing")
		_, err := fsys.Open(name)
		wantErr(t, err, fs.ErrNotExist)
		_, err = fsys.OpenReadWrite(name)
		wantErr(t, err, fs.ErrNotExist)
		_, err = fsys.Stat(name)
		wantErr(t, err, fs.ErrNotExist)
		_, err = fsys.ReadDir(name)
		wantErr(t, err, fs.ErrNotExist)
		wantErr(t, fsys.Remove(name), fs.ErrNotExist)
		wantErr(t, fsys.Rename(name, name+"2"), fs.ErrNotExist)
		wantErr(t, fsys.SyncDir(name), fs.ErrNotExist)
		must(t, fsys.RemoveAll(name))
	})
}

func TestReadAtReturnsEOFOnlyWhenShort(t *testing.T) {
	conform(t, func(t *testing.T, fsys FS, dir string) {
		f := mustCreate(t, fsys, path.Join(dir, "a"))
		mustWrite(t, f, 0, "hello")
		buf := make([]byte, 5)
		if n, err := f.ReadAt(buf, 0); n != 5 || err != nil || string(buf) != "hello" {
			t.Fatalf("full read: %d, %v, %q", n, err, buf)
		}
		if n, err := f.ReadAt(buf, 3); n != 2 || err != io.EOF { //nolint:errorlint // ReaderAt promises the bare value
			t.Fatalf("short read: %d, %v", n, err)
		}
		if n, err := f.ReadAt(buf, 99); n != 0 || err != io.EOF { //nolint:errorlint // ReaderAt promises the bare value
			t.Fatalf("read past the end: %d, %v", n, err)
		}
		if _, err := f.ReadAt(buf, -1); err == nil {
			t.Fatal("a negative offset was read")
		}
	})
}

func TestWritesPastTheEndLeaveZeros(t *testing.T) {
	conform(t, func(t *testing.T, fsys FS, dir string) {
		name := path.Join(dir, "a")
		f := mustCreate(t, fsys, name)
		mustWrite(t, f, 10_000, "tail")
		mustWrite(t, f, 1, "head")
		want := make([]byte, 10_004)
		copy(want[1:], "head")
		copy(want[10_000:], "tail")
		mustContain(t, fsys, name, string(want))
	})
}

func TestTruncatedBytesDoNotComeBack(t *testing.T) {
	conform(t, func(t *testing.T, fsys FS, dir string) {
		name := path.Join(dir, "a")
		f := mustCreate(t, fsys, name)
		mustWrite(t, f, 0, string(bytes.Repeat([]byte("x"), 9000)))
		must(t, f.Sync())
		must(t, f.Truncate(5000))
		must(t, f.Truncate(9000))
		want := append(bytes.Repeat([]byte("x"), 5000), make([]byte, 4000)...)
		mustContain(t, fsys, name, string(want))
		f.DropCache(0, 0)
		must(t, f.Sync())
		f.DropCache(0, 0)
		mustContain(t, fsys, name, string(want))
	})
}

func TestAllocateKeepsTheLength(t *testing.T) {
	conform(t, func(t *testing.T, fsys FS, dir string) {
		f := mustCreate(t, fsys, path.Join(dir, "a"))
		mustWrite(t, f, 0, "abc")
		must(t, f.Allocate(0, 1<<20))
		if size, err := f.Size(); size != 3 || err != nil {
			t.Fatalf("size after Allocate: %d, %v", size, err)
		}
	})
}

func TestReadOnlyFilesRefuseWrites(t *testing.T) {
	conform(t, func(t *testing.T, fsys FS, dir string) {
		name := path.Join(dir, "a")
		mustWrite(t, mustCreate(t, fsys, name), 0, "abc")
		f, err := fsys.Open(name)
		must(t, err)
		if _, err := f.WriteAt([]byte("x"), 0); err == nil {
			t.Fatal("a read-only file was written")
		}
		if err := f.Truncate(0); err == nil {
			t.Fatal("a read-only file was truncated")
		}
		must(t, f.Close())
		wantErr(t, f.Close(), fs.ErrClosed)
		_, err = f.ReadAt(make([]byte, 1), 0)
		wantErr(t, err, fs.ErrClosed)
		mustContain(t, fsys, name, "abc")
	})
}

func TestRenameReplacesAndOpenFilesFollow(t *testing.T) {
	conform(t, func(t *testing.T, fsys FS, dir string) {
		a, b := path.Join(dir, "a"), path.Join(dir, "sub", "b")
		must(t, fsys.MkdirAll(path.Join(dir, "sub")))
		f, old := mustCreate(t, fsys, a), mustCreate(t, fsys, b)
		mustWrite(t, f, 0, "new")
		mustWrite(t, old, 0, "old")
		must(t, fsys.Rename(a, b))
		_, err := fsys.Stat(a)
		wantErr(t, err, fs.ErrNotExist)
		mustContain(t, fsys, b, "new")
		mustWrite(t, f, 3, "er")
		mustContain(t, fsys, b, "newer")
		buf := make([]byte, 3)
		if _, err := old.ReadAt(buf, 0); err != nil || string(buf) != "old" {
			t.Fatalf("the replaced file reads %q, %v", buf, err)
		}
		must(t, fsys.Rename(b, b))
		mustContain(t, fsys, b, "newer")
	})
}

func TestDirectoriesMoveWhole(t *testing.T) {
	conform(t, func(t *testing.T, fsys FS, dir string) {
		must(t, fsys.MkdirAll(path.Join(dir, "t", "0")))
		mustWrite(t, mustCreate(t, fsys, path.Join(dir, "t", "0", "log")), 0, "x")
		must(t, fsys.MkdirAll(path.Join(dir, "stray")))
		must(t, fsys.Rename(path.Join(dir, "t"), path.Join(dir, "stray", "t")))
		mustContain(t, fsys, path.Join(dir, "stray", "t", "0", "log"), "x")
		if err := fsys.Rename(path.Join(dir, "stray"), path.Join(dir, "stray", "t", "me")); err == nil {
			t.Fatal("a directory was moved into itself")
		}
	})
}

func TestRemoveTakesFilesAndEmptyDirectoriesOnly(t *testing.T) {
	conform(t, func(t *testing.T, fsys FS, dir string) {
		sub := path.Join(dir, "sub")
		must(t, fsys.MkdirAll(sub))
		f := mustCreate(t, fsys, path.Join(sub, "a"))
		mustWrite(t, f, 0, "abc")
		if err := fsys.Remove(sub); err == nil {
			t.Fatal("a directory with a file was removed")
		}
		must(t, fsys.Remove(path.Join(sub, "a")))
		if _, err := f.ReadAt(make([]byte, 3), 0); err != nil {
			t.Fatalf("read of an unlinked open file: %v", err)
		}
		must(t, fsys.Remove(sub))
		must(t, fsys.MkdirAll(path.Join(sub, "deep", "er")))
		mustCreate(t, fsys, path.Join(sub, "deep", "a"))
		must(t, fsys.RemoveAll(sub))
		_, err := fsys.Stat(sub)
		wantErr(t, err, fs.ErrNotExist)
	})
}

func TestReadDirIsSortedAndTyped(t *testing.T) {
	conform(t, func(t *testing.T, fsys FS, dir string) {
		must(t, fsys.MkdirAll(path.Join(dir, "b")))
		must(t, fsys.MkdirAll(path.Join(dir, "b")))
		for _, name := range []string{"c", "a"} {
			mustWrite(t, mustCreate(t, fsys, path.Join(dir, name)), 0, name+name)
		}
		list, err := fsys.ReadDir(dir)
		must(t, err)
		got := ""
		for _, e := range list {
			fi, err := e.Info()
			must(t, err)
			got += e.Name()
			if e.IsDir() {
				got += "/"
			} else if fi.Size() != 2 {
				t.Fatalf("%s has %d bytes", e.Name(), fi.Size())
			}
		}
		if got != "ab/c" {
			t.Fatalf("listing %q", got)
		}
		fi, err := fsys.Stat(path.Join(dir, "c"))
		must(t, err)
		if fi.Name() != "c" || fi.IsDir() || fi.Size() != 2 {
			t.Fatalf("stat: %v", fi)
		}
		if err := fsys.MkdirAll(path.Join(dir, "a", "x")); err == nil {
			t.Fatal("a directory was made under a file")
		}
	})
}

func TestLockIsExclusiveUntilClosed(t *testing.T) {
	conform(t, func(t *testing.T, fsys FS, dir string) {
		name := path.Join(dir, "lock")
		l, err := fsys.Lock(name)
		must(t, err)
		_, err = fsys.Lock(name)
		wantErr(t, err, ErrLocked)
		must(t, l.Close())
		l, err = fsys.Lock(name)
		must(t, err)
		must(t, l.Close())
	})
}

func TestUsageTellsTotalAndFree(t *testing.T) {
	conform(t, func(t *testing.T, fsys FS, dir string) {
		u, err := fsys.Usage(dir)
		must(t, err)
		if u.Free <= 0 || u.Total < u.Free {
			t.Fatalf("usage %+v", u)
		}
	})
}

func TestDroppedPagesAreNotResident(t *testing.T) {
	conform(t, func(t *testing.T, fsys FS, dir string) {
		f := mustCreate(t, fsys, path.Join(dir, "a"))
		if some, err := f.Resident(0, 0); err != nil || (some && !unknownResident(f)) {
			t.Fatalf("an empty file is resident: %v, %v", some, err)
		}
		mustWrite(t, f, 0, string(make([]byte, 300_000)))
		must(t, f.Allocate(0, 1<<20))
		f.StartWriteback(0, 300_000)
		if some, err := f.Resident(5000, 1); err != nil || !some {
			t.Fatalf("a page just written is not resident: %v, %v", some, err)
		}
		must(t, f.Sync())
		f.DropCache(0, 0)
		some, err := f.Resident(0, 0)
		must(t, err)
		if some && !unknownResident(f) {
			t.Fatal("pages survive sync and DropCache")
		}
	})
}

// unknownResident: a file system without mincore answers true, and one that keeps all its pages
// in memory (tmpfs) tells the truth when it does; only Mem must say no.
func unknownResident(f File) bool {
	_, isOS := f.(*osFile)
	return isOS
}

func TestMemTellsFullDisksByErrNoSpace(t *testing.T) {
	m := NewMem()
	f := mustCreate(t, m, "a")
	mustWrite(t, f, 0, "abc")
	must(t, f.Allocate(0, 2*memPageBytes))
	m.SetFree(memPageBytes)
	mustWrite(t, f, memPageBytes, "in the allocated page")
	mustWrite(t, f, 2*memPageBytes, "in the last free page")
	_, err := f.WriteAt([]byte("x"), 5*memPageBytes)
	wantErr(t, err, ErrNoSpace)
	wantErr(t, f.Allocate(0, 4*memPageBytes), ErrNoSpace)
	if size, _ := f.Size(); size != 2*memPageBytes+21 {
		t.Fatalf("a refused write changed the length to %d", size)
	}
	must(t, f.Truncate(memPageBytes))
	mustWrite(t, f, 5*memPageBytes, "x")
	must(t, m.Remove("a"))
	if u, _ := m.Usage("."); u.Free >= u.Total {
		t.Fatalf("an open file gave its space back: %+v", u)
	}
	must(t, f.Close())
	if u, _ := m.Usage("."); u.Free != u.Total {
		t.Fatalf("space leaks: %+v", u)
	}
}
