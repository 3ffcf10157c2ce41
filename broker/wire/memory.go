package wire

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// requestMemory is the budget of all frames that are held, broker-wide. A frame is charged with its
// whole length before any of it is read: charging by pieces could leave many connections each
// holding a part and waiting for the rest. Frames that are charged more than one could trust share
// a part of the budget only, so that some which promise much and send nothing cannot stop those of
// ordinary size:
//
//	held by frames above trustedFrame <= large <= all
type requestMemory struct {
	all, large *semaphore.Weighted
}

// largeShare of the budget, in quarters, is what frames above trustedFrame may hold together. Half
// would slow producers of large batches down on a good day; all but an eighth leaves ordinary ones
// too few frames at once.
const largeShare = 3

func newRequestMemory(all int64, maxFrame int) *requestMemory {
	large := max(all/4*largeShare, int64(maxFrame)) // the greatest frame must fit
	return &requestMemory{all: semaphore.NewWeighted(all), large: semaphore.NewWeighted(large)}
}

// take waits until a frame of n bytes may be held; ctx ends that.
func (m *requestMemory) take(ctx context.Context, n int) error {
	if n > trustedFrame {
		if err := m.large.Acquire(ctx, int64(n)); err != nil {
			return err
		}
	}
	if err := m.all.Acquire(ctx, int64(n)); err != nil {
		if n > trustedFrame {
			m.large.Release(int64(n))
		}
		return err
	}
	return nil
}

func (m *requestMemory) give(n int) {
	m.all.Release(int64(n))
	if n > trustedFrame {
		m.large.Release(int64(n))
	}
}

// tight tells whether a reader waits for memory, or the next one would.
func (m *requestMemory) tight() bool {
	for _, s := range []*semaphore.Weighted{m.all, m.large} {
		if !s.TryAcquire(1) {
			return true
		}
		s.Release(1)
	}
	return false
}
