package meta

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSortedMapAgreesWithAMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	m := sortedMap[int, int]{cmp: cmp.Compare[int]}
	model := map[int]int{}
	for step := range 20_000 {
		k, v := rng.IntN(3000), rng.IntN(1000)
		old, oldLen := m, m.len()
		if rng.IntN(3) == 0 {
			m = m.without(k)
			delete(model, k)
		} else {
			m = m.with(k, v)
			model[k] = v
		}
		if got, ok := m.get(k); ok != has(model, k) || got != model[k] {
			t.Fatalf("step %d: key %d is %d %v, want %d", step, k, got, ok, model[k])
		}
		if old.len() != oldLen || m.len() != len(model) {
			t.Fatalf("step %d: %d entries, want %d", step, m.len(), len(model))
		}
		if step%500 == 0 {
			checkSorted(t, m, model)
		}
	}
	doubled := m.mapValues(func(v int) int { return 2 * v })
	checkSorted(t, m, model)
	for k, v := range model {
		if got, _ := doubled.get(k); got != 2*v {
			t.Fatalf("key %d is %d, want %d", k, got, 2*v)
		}
	}
	for _, k := range slices.Collect(maps.Keys(model)) {
		m = m.without(k)
	}
	if m.len() != 0 || len(m.chunks) != 0 {
		t.Errorf("%d entries in %d chunks after the last was removed", m.len(), len(m.chunks))
	}
}

func has(m map[int]int, k int) bool { _, ok := m[k]; return ok }

func checkSorted(t *testing.T, m sortedMap[int, int], model map[int]int) {
	t.Helper()
	var want []int
	for _, k := range slices.Sorted(maps.Keys(model)) {
		want = append(want, model[k])
	}
	if have := slices.Collect(m.values()); !slices.Equal(have, want) {
		t.Fatalf("values %v, want %v", have, want)
	}
	for _, c := range m.chunks {
		if len(c) == 0 || len(c) > sortedMapChunk {
			t.Fatalf("a chunk has %d entries", len(c))
		}
	}
	if len(m.chunks) > 1 && !slices.IsSortedFunc(m.chunks, func(a, b []mapEntry[int, int]) int { return cmp.Compare(a[0].key, b[0].key) }) {
		t.Fatal("chunks are out of order")
	}
}

func TestChangeOfOnePartitionSharesTheRest(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	big := w.topic(1, "big", 1, 4*partitionChunk, nil, 1)
	other := w.topic(1, "other", 2, 2, nil, 1)
	before := w.img()
	w.must(1, &SetLogStart{TopicID: big, Partition: 300, LogStart: 5})
	after := w.img()
	if before.Partition(big, 300).LogStart != 0 || after.Partition(big, 300).LogStart != 5 {
		t.Fatal("an image changed")
	}
	if before.TopicByID(other) != after.TopicByID(other) {
		t.Error("another topic was copied")
	}
	a, b := before.TopicByID(big).Partitions.chunks, after.TopicByID(big).Partitions.chunks
	for i := range a {
		if shared := &a[i][0] == &b[i][0]; shared == (i == 300/partitionChunk) {
			t.Errorf("chunk %d shared: %v", i, shared)
		}
	}
}
