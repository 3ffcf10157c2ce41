package wire

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// repeatEvery is how often one kind of line is written: bad peers must not fill the disk.
const repeatEvery = 10 * time.Second

// logLimit writes the first line of a kind at once and then one each repeatEvery, with the number
// of those left out.
type logLimit struct {
	mu struct {
		sync.Mutex
		kinds map[string]*logKind // as many as there are kinds in the code
	}
}

type logKind struct {
	next    time.Time
	dropped int
}

func (l *logLimit) warn(log *slog.Logger, kind, msg string, args ...any) {
	now := time.Now()
	l.mu.Lock()
	k := l.mu.kinds[kind]
	if k == nil {
		k = &logKind{}
		if l.mu.kinds == nil {
			l.mu.kinds = map[string]*logKind{}
		}
		l.mu.kinds[kind] = k
	}
	if now.Before(k.next) {
		k.dropped++
		l.mu.Unlock()
		return
	}
	dropped := k.dropped
	k.next, k.dropped = now.Add(repeatEvery), 0
	l.mu.Unlock()
	if dropped > 0 {
		args = append(args, "similar_not_shown", dropped)
	}
	log.Warn(msg, args...)
}

// logEnd writes why a connection ended: a warning where peer or broker misbehaved.
func (s *Server) logEnd(c *Conn, cause error) {
	var frame *FrameError
	var unserved *unservedError
	kind := "connection"
	switch {
	case cause == nil, errors.Is(cause, io.EOF), errors.Is(cause, net.ErrClosed), errors.Is(cause, os.ErrDeadlineExceeded),
		errors.Is(cause, syscall.ECONNRESET), errors.Is(cause, syscall.EPIPE),
		errors.Is(cause, context.Canceled), errors.Is(cause, ErrClosed),
		errors.Is(cause, ErrShutdown), errors.Is(cause, ErrIdle):
		s.cfg.Log.Debug("connection ended", "peer", c.RemoteAddr(), "err", cause)
		return
	case errors.As(cause, &frame):
		kind = "frame"
	case errors.As(cause, &unserved):
		kind = "unserved"
	case errors.Is(cause, errHeader):
		kind = "header"
	case errors.Is(cause, ErrConnectionRate):
		kind = "rate"
	case errors.Is(cause, ErrSlowFrame), errors.Is(cause, ErrSlowPeer):
		kind = "slow"
	}
	s.logs.warn(s.cfg.Log, kind, "closed connection", "peer", c.RemoteAddr(), "listener", c.Listener, "err", cause)
}
