package object

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func openTestDir(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := OpenDir(path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDirObjectIsAPlainFile(t *testing.T) {
	root := filepath.Join(t.TempDir(), "not", "yet", "there")
	d := openTestDir(t, root)
	if _, err := d.Put(t.Context(), "a/b/c.seg", Bytes([]byte("hello")), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, "a/b/c.seg"))
	if err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	left, err := os.ReadDir(filepath.Join(root, stagingDir))
	if err != nil || len(left) != 0 {
		t.Errorf("staging: %v, %v", left, err)
	}
}

func TestDirOpenRemovesLeftoversAndNothingElse(t *testing.T) {
	root := t.TempDir()
	first := openTestDir(t, root)
	if _, err := first.Put(t.Context(), "kept", Bytes([]byte("x")), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	staged := filepath.Join(root, stagingDir)
	if err := os.WriteFile(filepath.Join(staged, "LEFTOVER"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	live, err := createStaging(staged)
	if err != nil {
		t.Fatal(err)
	}
	defer live.discard()
	second := openTestDir(t, root)
	names, err := os.ReadDir(staged)
	if err != nil || len(names) != 1 || names[0].Name() != filepath.Base(live.file.Name()) {
		t.Errorf("staging holds %v, %v; want only the file in use", names, err)
	}
	page, err := second.List(t.Context(), "", "", 0)
	if err != nil || len(page.Objects) != 1 || page.Objects[0].Key != "kept" {
		t.Errorf("%+v, %v", page, err)
	}
}

func TestDirSharedByTwoStoresIsOneBucket(t *testing.T) {
	root := t.TempDir()
	a, b := openTestDir(t, root), openTestDir(t, root)
	if _, err := a.Put(t.Context(), "d/k", Bytes([]byte("from a")), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := ReadAll(t.Context(), b, "d/k", 100)
	if err != nil || string(got) != "from a" {
		t.Errorf("%q, %v", got, err)
	}
	_, err = b.Put(t.Context(), "d/k", Bytes([]byte("from b")), PutOptions{IfAbsent: true})
	if !errors.Is(err, ErrExists) {
		t.Error(err)
	}
}

func TestDirSurvivesAVanishedDirectory(t *testing.T) {
	root := t.TempDir()
	d := openTestDir(t, root)
	for range 2 {
		if _, err := d.Put(t.Context(), "p/0/x", Bytes([]byte("x")), PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(root, "p")); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(root, stagingDir)); err != nil {
			t.Fatal(err)
		}
	}
	page, err := d.List(t.Context(), "p/", "", 0)
	if err != nil || len(page.Objects) != 0 {
		t.Errorf("%+v, %v", page, err)
	}
}

func TestDirKeyBelowAnObjectIsInvalid(t *testing.T) {
	d := openTestDir(t, t.TempDir())
	if _, err := d.Put(t.Context(), "a", Bytes([]byte("x")), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := d.Put(t.Context(), "a/b", Bytes([]byte("x")), PutOptions{})
	if !errors.Is(err, ErrInvalidKey) || IsRetriable(err) {
		t.Error(err)
	}
	if _, err := d.Head(t.Context(), "a/b"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if err := d.Delete(t.Context(), "a/b"); err != nil {
		t.Error(err)
	}
}

func TestDirCanceledPutLeavesNothing(t *testing.T) {
	root := t.TempDir()
	d := openTestDir(t, root)
	ctx, cancel := context.WithCancel(t.Context())
	body := cancelingReader{cancel}
	_, err := d.Put(ctx, "k", Body{Reader: body, Size: 10 << 20}, PutOptions{})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(root, stagingDir)); len(left) != 0 {
		t.Errorf("staging: %v", left)
	}
	if _, err := d.Head(t.Context(), "k"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// cancelingReader cancels in the middle of a body.
type cancelingReader struct{ cancel context.CancelFunc }

func (r cancelingReader) ReadAt(p []byte, off int64) (int, error) {
	if off > 1<<20 {
		r.cancel()
	}
	return len(p), nil
}

func TestDirRefusesAFileAsRoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := OpenDir(path, Config{})
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
}

func FuzzKeyStaysInsideTheRoot(f *testing.F) {
	for _, k := range []string{
		"a/b", "../a", "a/../../b", "/etc/passwd", "a//b", "a/./b", "..", ".", "a\x00", ".tmp~staging/x", "ü/é", "a\\..\\b",
		"c/topics/orders.AAAAAAAAAAAAAAAAAAAAAA/0/00000000000000000000-1-abc.seg.lz4",
	} {
		f.Add(k)
	}
	d := &Dir{root: "/bucket/root", name: "dir:///bucket/root"}
	f.Fuzz(func(t *testing.T, key string) {
		if CheckKey(key) != nil {
			return
		}
		path := d.path(key)
		rel, err := filepath.Rel(d.root, path)
		if err != nil || filepath.ToSlash(rel) != key || strings.HasPrefix(key, stagingDir) {
			t.Fatalf("key %q becomes %q", key, path)
		}
		if err := checkPrefix("", key); err != nil {
			t.Fatalf("a key is no prefix: %v", err)
		}
	})
}

func TestDirBelowAFileSaysWhichAndWhatToDo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(file, "bucket"), filepath.Join(file, "a", "b")} {
		_, err := Open(t.Context(), "dir://"+path, Config{})
		if !errors.Is(err, ErrMisconfigured) || IsRetriable(err) {
			t.Fatalf("%s: %v", path, err)
		}
		for _, want := range []string{file + " is a file and not a directory", "name another directory in the store URL"} {
			if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %q does not say %q in one line", path, err, want)
			}
		}
	}
}
