package partition

import (
	"log/slog"
	"sync"
	"time"
)

// clockGuard notices a wall clock that jumped: retention by time stops while wall and monotonic
// clock have parted by more than maxClockJump since the start (design 8.5), because a clock a year
// ahead would make everything look expired.
type clockGuard struct {
	mu     sync.Mutex
	began  time.Time // wall clock at the start
	jumped bool
}

const maxClockJump = 5 * time.Minute

func (g *clockGuard) start(wall time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.began, g.jumped = wall.Round(0), false
}

// look compares the wall clock with the monotonic time since start, and warns once per change.
func (g *clockGuard) look(wall time.Time, elapsed time.Duration, log *slog.Logger) {
	g.mu.Lock()
	defer g.mu.Unlock()
	drift := wall.Round(0).Sub(g.began) - elapsed
	jumped := drift.Abs() > maxClockJump
	if jumped == g.jumped {
		return
	}
	g.jumped = jumped
	if jumped {
		log.Warn("wall clock jumped, retention by time is stopped until it is right again or the broker restarts",
			"jump", drift.Round(time.Second).String())
		return
	}
	log.Info("wall clock is right again, retention by time goes on")
}

func (g *clockGuard) trusted() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.jumped
}
