package api

import (
	"context"
	"sync"
)

// decodeBudget bounds the memory of all kmsg decodes at work: a byte of input can become a
// hundred bytes of structs, so the frame budget alone does not.
type decodeBudget struct {
	mu    sync.Mutex
	free  int64
	freed chan struct{} // closed and made anew at each give while somebody waits
}

// take waits for n bytes; false if ctx ended first. One request may need more than all: it then
// waits until it is alone.
func (d *decodeBudget) take(ctx context.Context, n int64) bool {
	n = min(n, decodeMemory)
	for {
		d.mu.Lock()
		if d.free >= n {
			d.free -= n
			d.mu.Unlock()
			return true
		}
		if d.freed == nil {
			d.freed = make(chan struct{})
		}
		wait := d.freed
		d.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return false
		}
	}
}

func (d *decodeBudget) give(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free += min(n, decodeMemory)
	if d.freed != nil {
		close(d.freed)
		d.freed = nil
	}
}
