package meta

import "fmt"

// unknownKeyReason names the known key that was probably meant.
func unknownKeyReason(name string) string {
	if len(name) > maxSuggestLen {
		return "unknown config"
	}
	names := make([]string, 0, len(topicConfigKeys))
	for _, k := range TopicConfigKeys() {
		names = append(names, k.Name)
	}
	if near := Nearest(name, names); near != "" {
		return fmt.Sprintf("unknown config; did you mean %s?", near)
	}
	return "unknown config"
}

// maxSuggestLen bounds the work of a suggestion; no key has half of it.
const maxSuggestLen = 128

// Nearest is the candidate with the smallest edit distance to name, the first of several, or
// empty if none is near: more than a third of name would have to change.
func Nearest(name string, candidates []string) string {
	best, nearest := len(name)/3+1, ""
	for _, c := range candidates {
		if d := editDistance(name, c, best); d < best {
			best, nearest = d, c
		}
	}
	return nearest
}

// editDistance counts insertions, deletions, substitutions and swaps of neighbours between a and b
// (optimal string alignment). It gives up with limit once the distance cannot be below it.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return min(prev[len(b)], limit)
}
