package partition

import "varve/broker/commitlog"

// epochOf finds the epoch that holds offset in a rising history; -1 if it begins above it.
func epochOf(history []commitlog.EpochStart, offset int64) int32 {
	e := int32(-1)
	for _, h := range history {
		if h.Start > offset {
			break
		}
		e = h.Epoch
	}
	return e
}
