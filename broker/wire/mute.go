package wire

import (
	"context"
	"errors"
	"time"
)

// ErrConnectionRate is the cause of a connection that came faster than its address may.
var ErrConnectionRate = errors.New("address connects too often")

// Mute stops the reading of further requests for a while: what a peer gets that went over its quota
// (KIP-219). Called in Serve it holds before the next request; from elsewhere, when the reader may
// be reading that one already, before the one after. Of several calls the longest counts.
func (c *Conn) Mute(d time.Duration) {
	for {
		old := c.mute.Load()
		if old >= int64(d) || c.mute.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

// pause sits out what Mute asked for. The connection counts as busy, not as idle; a peer that hangs
// up is noticed at the end.
func (c *Conn) pause() error {
	if c.mute.Load() == 0 {
		return nil
	}
	d := time.Duration(c.mute.Swap(0))
	c.in.blocked()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.readCtx.Done():
		return context.Cause(c.readCtx)
	}
}
