package meta

import (
	"iter"
	"slices"
	"sort"
)

// sortedMapChunk is the most entries a chunk of a sortedMap holds. A change copies one chunk and
// the list of chunks; at 100,000 entries 256 makes both about 400 to 4,000 words. Half or double
// moves the cost from one to the other.
const sortedMapChunk = 256

// sortedMap is an immutable map in key order: every change gives a new map that shares all but
// one chunk with the old one. A persistent tree would copy less at millions of entries; at the
// sizes of a cluster's metadata two flat levels are faster to read and need no library.
//
// The zero value with cmp set is empty. V is comparable so that mapValues can see what changed.
type sortedMap[K any, V comparable] struct {
	cmp    func(a, b K) int
	chunks [][]mapEntry[K, V] // none empty; first keys rise
	n      int
}

type mapEntry[K any, V comparable] struct {
	key   K
	value V
}

// newSortedMap builds a map from entries in rising key order.
func newSortedMap[K any, V comparable](cmp func(a, b K) int, entries []mapEntry[K, V]) sortedMap[K, V] {
	m := sortedMap[K, V]{cmp: cmp, n: len(entries)}
	for chunk := range slices.Chunk(entries, sortedMapChunk*3/4) { // room to grow before a split
		m.chunks = append(m.chunks, slices.Clip(chunk))
	}
	return m
}

func (m sortedMap[K, V]) len() int { return m.n }

// chunkOf is the chunk that holds key if any does: the last one whose first key is not above it.
func (m sortedMap[K, V]) chunkOf(key K) int {
	i := sort.Search(len(m.chunks), func(i int) bool { return m.cmp(m.chunks[i][0].key, key) > 0 })
	return max(i-1, 0)
}

func (m sortedMap[K, V]) find(chunk []mapEntry[K, V], key K) (int, bool) {
	return slices.BinarySearchFunc(chunk, key, func(e mapEntry[K, V], k K) int { return m.cmp(e.key, k) })
}

func (m sortedMap[K, V]) get(key K) (V, bool) {
	var zero V
	if m.n == 0 {
		return zero, false
	}
	chunk := m.chunks[m.chunkOf(key)]
	i, ok := m.find(chunk, key)
	if !ok {
		return zero, false
	}
	return chunk[i].value, true
}

// with is the map in which key has value.
func (m sortedMap[K, V]) with(key K, value V) sortedMap[K, V] {
	entry := mapEntry[K, V]{key, value}
	if m.n == 0 {
		return sortedMap[K, V]{m.cmp, [][]mapEntry[K, V]{{entry}}, 1}
	}
	c := m.chunkOf(key)
	old := m.chunks[c]
	i, found := m.find(old, key)
	if found {
		fresh := slices.Clone(old)
		fresh[i] = entry
		return m.replaceChunk(c, m.n, fresh)
	}
	fresh := make([]mapEntry[K, V], 0, len(old)+1)
	fresh = append(append(append(fresh, old[:i]...), entry), old[i:]...)
	if len(fresh) <= sortedMapChunk {
		return m.replaceChunk(c, m.n+1, fresh)
	}
	half := len(fresh) / 2
	return m.replaceChunk(c, m.n+1, slices.Clip(fresh[:half]), slices.Clip(fresh[half:]))
}

// without is the map that lacks key.
func (m sortedMap[K, V]) without(key K) sortedMap[K, V] {
	if m.n == 0 {
		return m
	}
	c := m.chunkOf(key)
	old := m.chunks[c]
	i, found := m.find(old, key)
	if !found {
		return m
	}
	if len(old) == 1 {
		return m.replaceChunk(c, m.n-1)
	}
	return m.replaceChunk(c, m.n-1, slices.Concat(old[:i], old[i+1:]))
}

func (m sortedMap[K, V]) replaceChunk(c, n int, with ...[]mapEntry[K, V]) sortedMap[K, V] {
	chunks := make([][]mapEntry[K, V], 0, len(m.chunks)-1+len(with))
	chunks = append(append(append(chunks, m.chunks[:c]...), with...), m.chunks[c+1:]...)
	return sortedMap[K, V]{m.cmp, chunks, n}
}

// mapValues is the map with f of each value. Chunks in which f changes nothing stay shared.
func (m sortedMap[K, V]) mapValues(f func(V) V) sortedMap[K, V] {
	chunks := slices.Clone(m.chunks)
	for c, old := range m.chunks {
		var fresh []mapEntry[K, V]
		for i, e := range old {
			v := f(e.value)
			if v == e.value {
				continue
			}
			if fresh == nil {
				fresh = slices.Clone(old)
			}
			fresh[i].value = v
		}
		if fresh != nil {
			chunks[c] = fresh
		}
	}
	return sortedMap[K, V]{m.cmp, chunks, m.n}
}

// values yields the values in key order.
func (m sortedMap[K, V]) values() iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, chunk := range m.chunks {
			for i := range chunk {
				if !yield(chunk[i].value) {
					return
				}
			}
		}
	}
}
