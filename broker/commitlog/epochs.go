package commitlog

import "slices"

// EpochStart says that Epoch's first record has offset Start.
type EpochStart struct {
	Epoch int32 `json:"epoch"`
	Start int64 `json:"start"`
}

// epochHistory is a partition's leader epochs, oldest first; both fields rise strictly. It is
// immutable: each change makes a new slice, so that it can be handed out without a copy.
type epochHistory []EpochStart

// last is the newest epoch, -1 if none is known.
func (h epochHistory) last() int32 {
	if len(h) == 0 {
		return -1
	}
	return h[len(h)-1].Epoch
}

// with adds a batch of epoch at offset. The caller has checked that epoch >= last.
func (h epochHistory) with(epoch int32, offset int64) epochHistory {
	if len(h) > 0 && h.last() >= epoch {
		return h
	}
	// An epoch that got no record before the next one began has no offsets: it is replaced.
	n := len(h)
	for n > 0 && h[n-1].Start >= offset {
		n--
	}
	return append(slices.Clip(h[:n]), EpochStart{epoch, offset})
}

// at is the epoch of the record at offset; ok is false below the first known start.
func (h epochHistory) at(offset int64) (epoch int32, ok bool) {
	for i := len(h) - 1; i >= 0; i-- {
		if h[i].Start <= offset {
			return h[i].Epoch, true
		}
	}
	return -1, false
}

// end answers OffsetForLeaderEpoch (KIP-101, KIP-279): the largest epoch <= asked that exists and
// its end, which is the start of the next one or leo. It answers -1, -1 if there is none.
func (h epochHistory) end(asked int32, leo int64) (epoch int32, end int64) {
	for i := len(h) - 1; i >= 0; i-- {
		if h[i].Epoch > asked {
			continue
		}
		if i+1 < len(h) {
			return h[i].Epoch, h[i+1].Start
		}
		return h[i].Epoch, leo
	}
	return -1, -1
}

// truncated drops what begins at or above end.
func (h epochHistory) truncated(end int64) epochHistory {
	n := len(h)
	for n > 0 && h[n-1].Start >= end {
		n--
	}
	return h[:n:n]
}

// from drops what ends at or below start; the epoch that covers start stays as it is.
func (h epochHistory) from(start int64) epochHistory {
	for len(h) > 1 && h[1].Start <= start {
		h = h[1:]
	}
	return h
}

// between is the part of the history that covers [start, end), its first entry clipped to start.
func (h epochHistory) between(start, end int64) []EpochStart {
	out := slices.Clone(h.truncated(end).from(start))
	if len(out) > 0 && out[0].Start < start {
		out[0].Start = start
	}
	return out
}

// valid tells whether both fields rise strictly and nothing is negative.
func (h epochHistory) valid() bool {
	for i, e := range h {
		if e.Epoch < 0 || e.Start < 0 {
			return false
		}
		if i > 0 && (e.Epoch <= h[i-1].Epoch || e.Start <= h[i-1].Start) {
			return false
		}
	}
	return true
}

// joined puts the older history that another source knows (the manifest, the checkpoint) before
// h, where h begins. An overlap is decided by h.
func (h epochHistory) joined(older []EpochStart) epochHistory {
	if len(h) == 0 {
		return slices.Clone(older)
	}
	first := h[0]
	var out epochHistory
	for _, e := range older {
		if e.Start < first.Start && e.Epoch < first.Epoch {
			out = append(out, e)
		}
	}
	// The older source may know that the first epoch of h began before h does.
	for _, e := range older {
		if e.Epoch == first.Epoch && e.Start < first.Start {
			out = append(out, e)
			h = h[1:]
			break
		}
	}
	return append(out, h...)
}
