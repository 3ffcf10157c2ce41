package tiering

import (
	"errors"
	"time"
)

// warming is a read whose caller stopped waiting and that goes on into the cache.
// If it fails, the next caller is told, once: otherwise a read that is always
// slower than its callers' patience would never end in an answer. Errors live
// failedKeep at most, and are not asked by anyone else.
type warming struct {
	err  error // nil while under way
	when time.Time
}

// pend lets a read go on whose caller got ErrPending. Any other error passes.
func (p *Partition) pend(offset int64, maxBytes int, err error) error {
	if !errors.Is(err, ErrPending) {
		return err
	}
	p.mu.Lock()
	_, ok := p.mu.warming[offset]
	if !ok && len(p.mu.warming) >= maxWarming {
		p.dropFailedLocked()
		ok = len(p.mu.warming) >= maxWarming
	}
	if !ok {
		if p.mu.warming == nil {
			p.mu.warming = make(map[int64]*warming)
		}
		p.mu.warming[offset] = &warming{}
	}
	p.mu.Unlock()
	if !ok && !p.t.background(func() { p.endWarming(offset, p.warm(offset, maxBytes)) }) {
		p.endWarming(offset, nil)
	}
	return err
}

// dropFailedLocked makes room for reads by forgetting errors that nobody fetched.
func (p *Partition) dropFailedLocked() {
	for off, w := range p.mu.warming {
		if w.err != nil {
			delete(p.mu.warming, off)
		}
	}
}

// warm reads the chunk at offset, which stays pinned in the stream that expects
// the offset.
func (p *Partition) warm(offset int64, maxBytes int) error {
	ctx := p.t.ctx
	for {
		v, err := p.current(ctx)
		if err != nil {
			return err
		}
		if offset < p.first(v) || offset >= v.m.TieredEnd {
			return nil
		}
		s := p.streamFor(offset)
		pl, err := p.locate(ctx, v, offset)
		if err == nil {
			c := s.take(pl, maxBytes)
			err = c.wait(ctx)
			c.release()
		}
		if err == nil || !p.superseded(v, err) {
			return p.lost(err)
		}
	}
}

func (p *Partition) endWarming(offset int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		delete(p.mu.warming, offset)
		return
	}
	p.mu.warming[offset] = &warming{err: err, when: p.t.cfg.Now()}
}

// failedRead takes the error of a read that ended after its caller had left.
func (p *Partition) failedRead(offset int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.mu.warming[offset]
	if w == nil || w.err == nil {
		return nil
	}
	delete(p.mu.warming, offset)
	if p.t.cfg.Now().Sub(w.when) > failedKeep {
		return nil
	}
	return w.err
}
