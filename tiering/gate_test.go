package tiering

import (
	"context"
	"strings"
	"sync"

	"varve/tiering/object"
)

// gate is a store whose GETs of objects (not of JSON) wait until they are let go,
// and that remembers each.
type gate struct {
	object.Store
	mu struct {
		sync.Mutex
		open    bool
		waiting []*gatedGet
		done    []*gatedGet
	}
	came chan struct{} // one token for each GET that has come; large enough
}

type gatedGet struct {
	key string
	off int64
	n   int
	go_ chan struct{}
}

func newGate(inner object.Store) *gate {
	return &gate{Store: inner, came: make(chan struct{}, 10_000)}
}

func (g *gate) GetRange(ctx context.Context, key string, off int64, dst []byte) (int, error) {
	if !strings.HasSuffix(key, segmentSuffix) {
		return g.Store.GetRange(ctx, key, off, dst)
	}
	get := &gatedGet{key: key, off: off, n: len(dst), go_: make(chan struct{})}
	g.mu.Lock()
	if g.mu.open {
		close(get.go_)
		g.mu.done = append(g.mu.done, get)
	} else {
		g.mu.waiting = append(g.mu.waiting, get)
	}
	g.mu.Unlock()
	g.came <- struct{}{}
	select {
	case <-get.go_:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return g.Store.GetRange(ctx, key, off, dst)
}

// release lets all that wait go, and says how many they were.
func (g *gate) release() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := len(g.mu.waiting)
	for _, get := range g.mu.waiting {
		close(get.go_)
		g.mu.done = append(g.mu.done, get)
	}
	g.mu.waiting = nil
	return n
}

// setOpen lets everything pass from now on, or stops everything.
func (g *gate) setOpen(open bool) {
	g.mu.Lock()
	g.mu.open = open
	g.mu.Unlock()
	if open {
		g.release()
	}
}

func (g *gate) inFlight() []gatedGet {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []gatedGet
	for _, get := range g.mu.waiting {
		out = append(out, *get)
	}
	return out
}

func (g *gate) total() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.mu.done) + len(g.mu.waiting)
}
