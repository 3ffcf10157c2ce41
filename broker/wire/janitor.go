package wire

import "time"

// minProgress is what a slow peer must move in each timeout: with 30 s, 2 KiB/s.
const minProgress = 64 << 10

// While others wait for request memory, a frame that holds some must come faster: a small one must
// move minProgress in hurryAfter, a large one hurryLarge in each hurryAfter, which is 2 Mbit/s.
const (
	hurryAfter = 2 * time.Second
	hurryLarge = 512 << 10
)

// watch is what the janitor saw of a connection, and since when nothing changed.
type watch struct {
	phase            uint32
	frames, received uint64
	readSince        time.Time
	stall, sent      uint64
	writeSince       time.Time
}

// runJanitor closes idle connections and slow peers. One scan of counters replaces three timers a
// connection, which would be set on every request.
func (s *Server) runJanitor(stop <-chan struct{}) {
	every := max(min(s.cfg.IdleTimeout, s.cfg.FrameTimeout, s.cfg.WriteTimeout)/4, time.Millisecond)
	every = min(every, hurryAfter/2)
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case now := <-t.C:
			for _, c := range s.snapshot() {
				if err := c.overdue(now); err != nil {
					c.kill(err)
				}
			}
		case <-stop:
			return
		}
	}
}

// overdue tells why the connection must go, nil if it may stay.
func (c *Conn) overdue(now time.Time) error {
	if c.readOverdue(now) {
		if c.janitor.phase == phaseFrame {
			return ErrSlowFrame
		}
		return ErrIdle
	}
	if c.writeOverdue(now) {
		return ErrSlowPeer
	}
	return nil
}

func (c *Conn) readOverdue(now time.Time) bool {
	w, p := &c.janitor, &c.progress
	phase, frames, received := p.phase.Load(), p.frames.Load(), p.received.Load()
	same := phase == w.phase && frames == w.frames && !w.readSince.IsZero()
	waited := now.Sub(w.readSince)
	switch {
	case !same || phase == phaseBusy:
	case phase == phaseIdle && waited < c.srv.cfg.IdleTimeout:
		return false
	case phase == phaseIdle && c.answersOwed():
	case phase == phaseIdle:
		return true
	case waited >= hurryAfter && received-w.received < hurried(waited, p.large.Load()) && c.srv.memory.tight():
		return true
	case waited < c.srv.cfg.FrameTimeout:
		return false
	case received-w.received < minProgress:
		return true
	case p.large.Load() && c.srv.memory.tight():
		// It moves, but slowly, and holds what others wait for: three frames of the greatest size
		// that trickle would stop every producer for hours.
		return true
	}
	w.phase, w.frames, w.received, w.readSince = phase, frames, received, now
	return false
}

func (c *Conn) writeOverdue(now time.Time) bool {
	w, p := &c.janitor, &c.progress
	stall, sent := p.stall.Load(), p.sent.Load()
	if stall == w.stall && stall&1 == 1 {
		if now.Sub(w.writeSince) < c.srv.cfg.WriteTimeout {
			return false
		}
		if sent-w.sent < minProgress {
			return true
		}
	}
	w.stall, w.sent, w.writeSince = stall, sent, now
	return false
}

// hurried is how much of a frame must have come after a time, if others wait.
func hurried(waited time.Duration, large bool) uint64 {
	if large {
		return uint64(waited/hurryAfter) * hurryLarge
	}
	return minProgress
}

func (c *Conn) answersOwed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.inFlight > 0
}
