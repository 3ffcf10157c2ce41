package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
)

// crashes runs claim on clones of m: one that lost everything unsynced, then seeded ones.
func crashes(t *testing.T, m *Mem, claim func(t *testing.T, c *Mem)) {
	t.Run("lost", func(t *testing.T) { claim(t, m.CrashClone(nil)) })
	for seed := range uint64(200) {
		t.Run(fmt.Sprintf("seed-%d", seed), func(t *testing.T) {
			claim(t, m.CrashClone(rand.New(rand.NewPCG(seed, 0))))
		})
	}
}

func content(t *testing.T, fsys FS, name string) (string, bool) {
	t.Helper()
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false
	}
	must(t, err)
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	must(t, err)
	return string(b), true
}

func TestSyncedBytesUnderSyncedNamesSurvive(t *testing.T) {
	m := NewMem()
	must(t, m.MkdirAll("d/e"))
	must(t, m.SyncDir("."))
	must(t, m.SyncDir("d"))
	f := mustCreate(t, m, "d/e/a")
	mustWrite(t, f, 0, strings.Repeat("s", 6000))
	must(t, f.Sync())
	must(t, m.SyncDir("d/e"))
	mustWrite(t, f, 6000, strings.Repeat("u", 6000))
	crashes(t, m, func(t *testing.T, c *Mem) {
		got, ok := content(t, c, "d/e/a")
		if !ok || !strings.HasPrefix(got, strings.Repeat("s", 6000)) || len(got) > 12_000 {
			t.Fatalf("synced content is damaged: %d bytes, there %v", len(got), ok)
		}
	})
	mustContain(t, m, "d/e/a", strings.Repeat("s", 6000)+strings.Repeat("u", 6000))
}

func TestEveryKindOfLossHappens(t *testing.T) {
	m := NewMem()
	f := mustCreate(t, m, "a")
	mustWrite(t, f, 0, strings.Repeat("s", 4096))
	must(t, f.Sync())
	must(t, m.SyncDir("."))
	mustWrite(t, f, 0, strings.Repeat("u", 8192))
	seen := map[string]bool{}
	for seed := range uint64(500) {
		got, ok := content(t, m.CrashClone(rand.New(rand.NewPCG(seed, 1))), "a")
		if !ok {
			t.Fatal("a durable name is gone")
		}
		seen["short"] = seen["short"] || len(got) == 4096
		seen["between"] = seen["between"] || (len(got) > 4096 && len(got) < 8192)
		seen["full"] = seen["full"] || len(got) == 8192
		seen["none"] = seen["none"] || strings.Count(got, "u") == 0
		seen["all"] = seen["all"] || strings.Count(got, "u") == 8192
		seen["hole"] = seen["hole"] || strings.Contains(got, "\x00")
		seen["torn"] = seen["torn"] || strings.Contains(got[:4096], "su")
		for i := 0; i+memPieceBytes <= len(got); i += memPieceBytes {
			if p := got[i : i+memPieceBytes]; strings.Count(p, p[:1]) != memPieceBytes {
				t.Fatalf("seed %d: the piece at %d is torn inside", seed, i)
			}
		}
	}
	for _, kind := range []string{"short", "between", "full", "none", "all", "hole", "torn"} {
		if !seen[kind] {
			t.Errorf("no seed showed %q", kind)
		}
	}
}

func TestTheSameSeedGivesTheSameCrash(t *testing.T) {
	m := NewMem()
	for i := range 20 {
		dir := fmt.Sprintf("d%d", i%4)
		must(t, m.MkdirAll(dir))
		mustWrite(t, mustCreate(t, m, fmt.Sprintf("%s/f%d", dir, i)), int64(i*700), strings.Repeat("x", 5000))
	}
	must(t, m.SyncDir("."))
	dump := func() string {
		var b strings.Builder
		c := m.CrashClone(rand.New(rand.NewPCG(7, 7)))
		walk(t, c, ".", func(name, content string) { fmt.Fprintf(&b, "%s %q\n", name, content) })
		return b.String()
	}
	first := dump()
	if first == "" {
		t.Fatal("nothing survived this seed: take another")
	}
	if again := dump(); again != first {
		t.Fatalf("clones differ:\n%.300s\n%.300s", first, again)
	}
}

func walk(t *testing.T, fsys FS, dir string, each func(name, content string)) {
	list, err := fsys.ReadDir(dir)
	must(t, err)
	for _, e := range list {
		name := path.Join(dir, e.Name())
		if e.IsDir() {
			walk(t, fsys, name, each)
			continue
		}
		c, _ := content(t, fsys, name)
		each(name, c)
	}
}

func TestRenameOfAnUnsyncedFileCanLeaveNothingInIt(t *testing.T) {
	m := NewMem()
	old := mustCreate(t, m, "a")
	mustWrite(t, old, 0, "old")
	must(t, old.Sync())
	must(t, m.SyncDir("."))
	mustWrite(t, mustCreate(t, m, "a.tmp"), 0, "new")
	must(t, m.Rename("a.tmp", "a"))
	must(t, m.SyncDir("."))
	if got, ok := content(t, m.CrashClone(nil), "a"); !ok || got != "" {
		t.Fatalf("content %q, there %v", got, ok)
	}
}

func TestSyncedRenameIsAllOrNothing(t *testing.T) {
	m := NewMem()
	old := mustCreate(t, m, "a")
	mustWrite(t, old, 0, "old")
	must(t, old.Sync())
	must(t, m.SyncDir("."))
	f := mustCreate(t, m, "a.tmp")
	mustWrite(t, f, 0, "new")
	must(t, f.Sync())
	must(t, m.Rename("a.tmp", "a"))
	seen := map[string]bool{}
	crashes(t, m, func(t *testing.T, c *Mem) {
		got, ok := content(t, c, "a")
		if !ok || (got != "old" && got != "new") {
			t.Fatalf("content %q, there %v", got, ok)
		}
		seen[got] = true
	})
	if len(seen) != 2 {
		t.Fatalf("only %v was seen", seen)
	}
}

func TestMovedFilesAreNeverUnderNoName(t *testing.T) {
	m := NewMem()
	must(t, m.MkdirAll("pool"))
	must(t, m.MkdirAll("log"))
	must(t, m.SyncDir("."))
	f := mustCreate(t, m, "pool/1")
	mustWrite(t, f, 0, "x")
	must(t, f.Sync())
	must(t, m.SyncDir("pool"))
	must(t, m.Rename("pool/1", "log/1"))
	both := false
	check := func(t *testing.T, c *Mem) {
		_, inPool := content(t, c, "pool/1")
		_, inLog := content(t, c, "log/1")
		if !inPool && !inLog {
			t.Fatal("the file has no name")
		}
		both = both || (inPool && inLog)
	}
	crashes(t, m, check)
	if !both {
		t.Fatal("no seed left both names")
	}
	must(t, m.SyncDir("pool"))
	crashes(t, m, check)
	if _, ok := content(t, m.CrashClone(nil), "log/1"); !ok {
		t.Fatal("the old name is durably gone and the new one is not there")
	}
}

func TestUnsyncedNamesMayBeLostOrComeBack(t *testing.T) {
	m := NewMem()
	f := mustCreate(t, m, "old")
	must(t, f.Sync())
	must(t, m.SyncDir("."))
	must(t, m.Remove("old"))
	g := mustCreate(t, m, "new")
	mustWrite(t, g, 0, "x")
	must(t, g.Sync())
	seen := map[string]bool{}
	crashes(t, m, func(t *testing.T, c *Mem) {
		_, isOld := content(t, c, "old")
		_, isNew := content(t, c, "new")
		seen[fmt.Sprint(isOld, isNew)] = true
	})
	if len(seen) != 4 {
		t.Fatalf("only %v was seen", seen)
	}
	if _, ok := content(t, m.CrashClone(nil), "new"); ok {
		t.Fatal("a synced file without a synced name survived the loss of everything unsynced")
	}
}

func TestUnsyncedParentLosesWhatIsInIt(t *testing.T) {
	m := NewMem()
	must(t, m.MkdirAll("a/b"))
	f := mustCreate(t, m, "a/b/c")
	must(t, f.Sync())
	must(t, m.SyncDir("a/b"))
	must(t, m.SyncDir("a"))
	if _, err := m.CrashClone(nil).Stat("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("stat: %v", err)
	}
	must(t, m.SyncDir("."))
	if _, err := m.CrashClone(nil).Stat("a/b/c"); err != nil {
		t.Fatal(err)
	}
}

func TestUnsyncedTruncationHappensOrDoesNot(t *testing.T) {
	m := NewMem()
	f := mustCreate(t, m, "a")
	mustWrite(t, f, 0, strings.Repeat("s", 8000))
	must(t, f.Sync())
	must(t, m.SyncDir("."))
	must(t, f.Truncate(3000))
	mustWrite(t, f, 3000, strings.Repeat("u", 2000))
	seen := map[bool]bool{}
	crashes(t, m, func(t *testing.T, c *Mem) {
		got, _ := content(t, c, "a")
		undone := len(got) == 8000
		seen[undone] = true
		if undone && got != strings.Repeat("s", 8000) {
			t.Fatal("bytes written after a truncation that never was are in the file")
		}
		if !undone && (len(got) < 3000 || len(got) > 5000 || strings.Count(got, "s") != 3000) {
			t.Fatalf("truncated content: %d bytes, %d of the old", len(got), strings.Count(got, "s"))
		}
	})
	if len(seen) != 2 {
		t.Fatalf("only %v was seen", seen)
	}
}

func TestKillLosesNothingAndMakesNothingDurable(t *testing.T) {
	m := NewMem()
	if _, err := m.Lock("lock"); err != nil {
		t.Fatal(err)
	}
	f := mustCreate(t, m, "a")
	mustWrite(t, f, 0, "synced")
	must(t, f.Sync())
	must(t, m.SyncDir("."))
	mustWrite(t, f, 0, "SYNCED")
	must(t, m.Rename("a", "b"))
	k := m.KillClone()
	mustWrite(t, f, 0, "later!")
	mustContain(t, k, "b", "SYNCED")
	if _, err := k.Lock("lock"); err != nil {
		t.Fatalf("the lock outlives the kill: %v", err)
	}
	mustContain(t, k.CrashClone(nil), "a", "synced")
	must(t, k.SyncDir("."))
	mustContain(t, k.CrashClone(nil), "b", "synced")
	g, err := k.OpenReadWrite("b")
	must(t, err)
	must(t, g.Sync())
	mustContain(t, k.CrashClone(nil), "b", "SYNCED")
	mustContain(t, m, "b", "later!")
}

func TestOnSyncSeesEachSyncPoint(t *testing.T) {
	m := NewMem()
	var got []string
	m.OnSync(func(op, name string) {
		m.CrashClone(nil)
		got = append(got, op+" "+name)
	})
	f := mustCreate(t, m, "a")
	mustWrite(t, f, 0, "x")
	must(t, f.Sync())
	must(t, f.Truncate(0))
	must(t, m.Rename("a", "b"))
	must(t, m.SyncDir("."))
	must(t, m.Remove("b"))
	must(t, m.RemoveAll("b"))
	m.OnSync(nil)
	must(t, m.SyncDir("."))
	want := "sync a|truncate a|rename b|syncdir .|remove b|removeall b"
	if s := strings.Join(got, "|"); s != want {
		t.Fatalf("sync points %s, want %s", s, want)
	}
}

// TestReadersSeeOneFile compares a Mem with a plain byte slice over random operations, and its
// clones with what was synced.
func TestReadersSeeOneFile(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 3))
		m := NewMem()
		f := mustCreate(t, m, "a")
		must(t, m.SyncDir("."))
		var want, synced []byte
		for range 200 {
			switch rng.IntN(8) {
			case 0:
				must(t, f.Sync())
				synced = bytes.Clone(want)
			case 1:
				size := rng.IntN(20_000)
				must(t, f.Truncate(int64(size)))
				want = resize(want, size)
			case 2:
				f.DropCache(int64(rng.IntN(9000)), int64(rng.IntN(9000)))
			default:
				off, p := rng.IntN(20_000), bytes.Repeat([]byte{byte(rng.Uint32())}, 1+rng.IntN(6000))
				mustWrite(t, f, int64(off), string(p))
				want = resize(want, max(len(want), off+len(p)))
				copy(want[off:], p)
			}
			if got, _ := content(t, m, "a"); got != string(want) {
				t.Fatalf("seed %d: content differs from the model", seed)
			}
			if got, _ := content(t, m.CrashClone(nil), "a"); got != string(synced) {
				t.Fatalf("seed %d: a crash without survivors differs from the synced model", seed)
			}
			m.CrashClone(rng)
		}
	}
}

func resize(b []byte, n int) []byte {
	out := make([]byte, n)
	copy(out, b)
	return out
}
