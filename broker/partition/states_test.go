package partition

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAKillBetweenTheStepsOfANewFileDoesNotCostTheStates leaves the empty files that a kill -9 leaves.
func TestAKillBetweenTheStepsOfANewFileDoesNotCostTheStates(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	id := ID{Topic: "t", TopicID: [16]byte{1}, Partition: 3}
	s, err := OpenStates(dir, quiet())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(map[ID]State{id: {HW: 42}}); err != nil {
		t.Fatal(err)
	}
	before, err := s.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"000900.vlog", "00900.mem"} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if s, err = OpenStates(dir, quiet()); err != nil {
			t.Fatal(err)
		}
		st, ok := s.Get(id)
		after, err := s.Digest()
		if err != nil || !ok || st.HW != 42 || after != before {
			t.Errorf("state %+v %v, digest %s of %s: %v", st, ok, after, before, err)
		}
	}
	if err := s.Put(map[ID]State{id: {HW: 43}}); err != nil {
		t.Fatal(err)
	}
	if after, err := s.Digest(); err != nil || after == before {
		t.Errorf("another state has the same digest: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if aside, _ := filepath.Glob(dir + ".broken-*"); len(aside) != 0 {
		t.Errorf("set aside: %v", aside)
	}
}
