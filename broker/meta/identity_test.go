package meta

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"varve/broker/internal/vfs"
)

func TestIdentityIsMintedOnceAndKept(t *testing.T) {
	m := vfs.NewMem()
	first, err := LoadOrCreateIdentity(m, "data", 3)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrCreateIdentity(m.CrashClone(nil), "data", 3)
	if err != nil || again != first {
		t.Errorf("after a power cut: %+v, %v; was %+v", again, err, first)
	}
	if len(first.ClusterID) != 22 || first.ClusterID == first.DirectoryID || first.Bootstrapped {
		t.Errorf("identity %+v", first)
	}
	if nodeOfServer("3-"+"abc") != 3 || nodeOfServer("") != NoNode || nodeOfServer("x-y") != NoNode {
		t.Error("server ids are not taken apart")
	}
	if _, err := LoadOrCreateIdentity(m, "data", 4); !errors.Is(err, ErrNodeIDMismatch) {
		t.Errorf("directory of node 3 opened as node 4: %v", err)
	}
}

// A power cut at any point leaves no identity or a whole one, and an identity that was once
// returned stays.
func TestIdentitySurvivesAPowerCutAtEverySyncPoint(t *testing.T) {
	for seed := range uint64(40) {
		m := vfs.NewMem()
		var crashes []*vfs.Mem
		rng := rand.New(rand.NewPCG(seed, 1))
		m.OnSync(func(string, string) { crashes = append(crashes, m.CrashClone(rng)) })
		id, err := LoadOrCreateIdentity(m, "data", 1)
		if err != nil {
			t.Fatal(err)
		}
		created := len(crashes)
		marked := id
		marked.Bootstrapped = true
		if err := writeIdentity(m, "data", marked); err != nil {
			t.Fatal(err)
		}
		m.OnSync(nil)
		crashes = append(crashes, m.CrashClone(rng))
		for i, c := range crashes {
			got, err := LoadOrCreateIdentity(c, "data", 1)
			if err != nil {
				t.Fatalf("seed %d, crash %d: %v", seed, i, err)
			}
			last := i == len(crashes)-1
			if i >= created-1 && got.DirectoryID != id.DirectoryID || last && got != marked {
				t.Errorf("seed %d, crash %d: %+v, want %+v", seed, i, got, marked)
			}
		}
	}
}

func TestUnreadableIdentityIsNeverReplaced(t *testing.T) {
	good := `{"v":1,"cluster_id":"` + testCluster + `","node_id":1,"directory_id":"` + testDirA + `","bootstrapped":true}`
	for name, content := range map[string]string{
		"empty": "", "cut": good[:20], "version": strings.Replace(good, `"v":1`, `"v":2`, 1),
		"node id": strings.Replace(good, `"node_id":1`, `"node_id":0`, 1), "cluster id": strings.Replace(good, testCluster, "short", 1),
		"huge": good + strings.Repeat(" ", maxIdentityBytes), "two": good + good,
	} {
		m := vfs.NewMem()
		if err := m.MkdirAll("data"); err != nil {
			t.Fatal(err)
		}
		if err := writeSynced(m, "data/"+identityFile, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadOrCreateIdentity(m, "data", 1); err == nil {
			t.Errorf("%s: accepted", name)
		}
		f, err := m.Open("data/" + identityFile)
		if err != nil {
			t.Fatal(err)
		}
		have := make([]byte, len(content))
		if n, _ := f.ReadAt(have, 0); string(have[:n]) != content {
			t.Errorf("%s: the file was changed", name)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFailingDiskGivesNoIdentity(t *testing.T) {
	m := vfs.NewMem()
	m.SetFree(0)
	if _, err := LoadOrCreateIdentity(m, "data", 1); err == nil {
		t.Error("an identity on a full disk")
	}
	if _, err := readIdentity(m, "data/"+identityFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after a failure: %v", err)
	}
	if _, err := LoadOrCreateIdentity(m, "data", 0); err == nil {
		t.Error("node id 0")
	}
}

func TestTopicIDsHaveOneTextAndNeverStartWithADash(t *testing.T) {
	// '-' is 62 in base64url: ids whose first byte is 0xf8 to 0xfb are drawn again.
	random := append(bytes.Repeat([]byte{0xf8}, 16), bytes.Repeat([]byte{0x11}, 16)...)
	id, err := newTopicID(bytes.NewReader(random))
	if err != nil || id.String()[0] == '-' || id[0] != 0x11 {
		t.Errorf("id %s, %v", id, err)
	}
	if _, err := newTopicID(bytes.NewReader(nil)); err == nil {
		t.Error("an id without randomness")
	}
	back, err := ParseTopicID(id.String())
	if err != nil || back != id {
		t.Errorf("%s came back as %s, %v", id, back, err)
	}
	for _, bad := range []string{"", id.String()[:21], id.String() + "A", "!" + id.String()[1:], id.String()[:21] + "B", id.String()[:20] + "=="} {
		if _, err := ParseTopicID(bad); err == nil {
			t.Errorf("%q was parsed", bad)
		}
	}
}

func FuzzIdentity(f *testing.F) {
	f.Add([]byte(`{"v":1,"cluster_id":"` + testCluster + `","node_id":1,"directory_id":"` + testDirA + `","bootstrapped":true}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := parseIdentity(b)
		if err != nil {
			return
		}
		m := vfs.NewMem()
		if err := m.MkdirAll("d"); err != nil {
			t.Fatal(err)
		}
		if err := writeIdentity(m, "d", id); err != nil {
			t.Fatal(err)
		}
		if back, err := readIdentity(m, "d/"+identityFile); err != nil || back != id {
			t.Fatalf("%+v came back as %+v, %v", id, back, err)
		}
	})
}
