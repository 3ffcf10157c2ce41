package meta

import (
	"cmp"
	"slices"
)

const (
	// windowEntries is how many proposals' results are kept per broker. It is four times
	// maxInFlight, so that a retry of an unanswered proposal always finds its first outcome.
	windowEntries = 128
	// maxInFlight bounds the proposals of one broker whose outcome is still open.
	maxInFlight = 32
)

// window holds the results of a broker incarnation's last proposals, so that a retry under the
// same sequence gets the first outcome instead of a second application.
//
//	floor < entries[0].Sequence < entries[1].Sequence < ...     len(entries) <= windowEntries
//
// A sequence at or below floor is never applied: its outcome may have been evicted.
type window struct {
	epoch   int64
	floor   uint64
	entries []windowEntry
}

// windowEntry is immutable once it is in a window.
type windowEntry struct {
	Sequence uint64    `json:"seq"`
	Index    uint64    `json:"index"`
	Results  []outcome `json:"results"`
}

func (w *window) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(w.entries, seq, func(e windowEntry, s uint64) int { return cmp.Compare(e.Sequence, s) })
}

func (w *window) add(e windowEntry) {
	i, _ := w.find(e.Sequence)
	w.entries = slices.Insert(w.entries, i, e)
	if len(w.entries) > windowEntries {
		w.floor = w.entries[0].Sequence
		w.entries = slices.Delete(w.entries, 0, 1)
	}
}

func (w *window) clone() *window {
	return &window{w.epoch, w.floor, slices.Clone(w.entries)}
}
