package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// killGrace is how long Shutdown waits after its context for goroutines whose connections it has
// just closed: only a handler that ignores Conn.Context takes longer.
const killGrace = time.Second

// Server owns the listeners, their connections, and every goroutine of both.
type Server struct {
	cfg     Config
	handler Handler
	memory  *requestMemory
	logs    logLimit
	stop    chan struct{} // closed by Shutdown; ends the janitor and the accept loops

	acceptRate *rate.Limiter // of all listeners together

	conns sync.WaitGroup // goroutines of connections
	loops sync.WaitGroup // accept loops and janitor

	total struct {
		accepted, refused        atomic.Uint64
		requests, received, sent atomic.Uint64 // of connections that have ended
	}

	mu struct {
		sync.Mutex
		listeners []bound
		limits    Limits
		conns     map[*Conn]struct{}
		perIP     map[string]int
		started   bool
		closed    bool
	}
}

// New checks the configuration. Listen and Start follow.
func New(cfg Config) (*Server, error) {
	cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("wire configuration: %w", err)
	}
	s := &Server{cfg: cfg, memory: newRequestMemory(cfg.RequestMemory, cfg.MaxFrame), stop: make(chan struct{})}
	s.mu.conns = map[*Conn]struct{}{}
	s.mu.perIP = map[string]int{}
	s.acceptRate = rate.NewLimiter(rate.Inf, 1)
	s.SetLimits(Limits{MaxConns: cfg.MaxConns, MaxConnsPerIP: cfg.MaxConnsPerIP})
	return s, nil
}

// SetLimits changes the limits for connections that come from now on.
func (s *Server) SetLimits(l Limits) {
	s.mu.Lock()
	s.mu.limits = l
	s.mu.Unlock()
	if l.AcceptRate <= 0 {
		s.acceptRate.SetLimit(rate.Inf)
		return
	}
	s.acceptRate.SetBurst(l.AcceptRate) // before the limit: a second's worth at once, never none
	s.acceptRate.SetLimit(rate.Limit(l.AcceptRate))
}

// Start begins to accept on what Listen has bound.
func (s *Server) Start(h Handler) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed || s.mu.started || len(s.mu.listeners) == 0 {
		return errors.New("start wire server: it must be listening, not started and not shut down")
	}
	s.mu.started = true
	s.handler = h
	for _, b := range s.mu.listeners {
		s.loops.Go(func() { s.accept(b) })
	}
	s.loops.Go(func() { s.runJanitor(s.stop) })
	return nil
}

// accept takes connections until the listener is closed.
func (s *Server) accept(b bound) {
	const firstPause, lastPause = 5 * time.Millisecond, time.Second
	pause := firstPause
	for {
		nc, err := b.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors or memory: connections that end will bring some back.
			s.logs.warn(s.cfg.Log, "accept", "accept connection", "listener", b.name, "err", err)
			select {
			case <-time.After(pause):
			case <-s.stop:
				return
			}
			pause = min(2*pause, lastPause)
			continue
		}
		pause = firstPause
		s.admit(nc, b.name)
		if !s.awaitRate() {
			return
		}
	}
}

// awaitRate waits until the next connection may be accepted; false when the server stops. Peers
// wait in the kernel's queue meanwhile.
func (s *Server) awaitRate() bool {
	r := s.acceptRate.Reserve()
	d := r.Delay()
	if d <= 0 {
		return true
	}
	t := time.NewTimer(min(d, time.Second)) // a rate that was raised meanwhile counts soon
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.stop:
		return false
	}
}

// admit starts a connection, or closes it if there are too many.
func (s *Server) admit(nc net.Conn, listener string) {
	host := hostOf(nc.RemoteAddr())
	c := newConn(s, nc, listener, host)
	if s.cfg.AdmitDelay != nil {
		delay := s.cfg.AdmitDelay(host)
		c.Mute(delay)
		c.refused = delay > 0
	}
	s.mu.Lock()
	n, ofIP, limits := len(s.mu.conns), s.mu.perIP[host], s.mu.limits
	mostOfIP := limits.MaxConnsPerIP
	if own, ok := limits.MaxConnsOf[host]; ok {
		mostOfIP = own
	}
	refused := s.mu.closed || n >= limits.MaxConns || ofIP >= mostOfIP
	if !refused {
		s.mu.conns[c] = struct{}{}
		s.mu.perIP[host]++
		s.conns.Add(2)
	}
	s.mu.Unlock()
	if refused {
		s.total.refused.Add(1)
		c.cancel(ErrShutdown)
		c.cancelRead()
		s.logs.warn(s.cfg.Log, "refuse", "refused connection: too many", "peer", host, "listener", listener,
			"connections", n, "max", limits.MaxConns, "of_this_address", ofIP, "max_per_address", mostOfIP)
		_ = nc.Close() // after the line that says why
		return
	}
	s.total.accepted.Add(1)
	go func() {
		defer s.conns.Done()
		c.readLoop()
	}()
	go func() {
		defer s.conns.Done()
		c.writeLoop()
		s.forget(c)
	}()
}

// forget drops a dead connection from the tables.
func (s *Server) forget(c *Conn) {
	c.cancelRead()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.conns, c)
	if s.mu.perIP[c.ClientHost]--; s.mu.perIP[c.ClientHost] == 0 {
		delete(s.mu.perIP, c.ClientHost)
	}
	s.total.requests.Add(c.progress.frames.Load())
	s.total.received.Add(c.progress.received.Load())
	s.total.sent.Add(c.progress.sent.Load())
}

// Shutdown stops accepting and reading, lets the requests in flight be answered until ctx ends,
// then closes what is left. It returns nil if every reply went out, and waits no longer than a
// second after ctx.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.mu.closed {
		s.mu.closed = true
		close(s.stop)
	}
	for _, b := range s.mu.listeners {
		_ = b.ln.Close()
	}
	s.mu.Unlock()
	s.loops.Wait()
	for _, c := range s.snapshot() {
		c.drain()
	}
	ended := make(chan struct{})
	go func() {
		s.conns.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	cut := s.snapshot()
	for _, c := range cut {
		c.kill(ErrShutdown)
	}
	select {
	case <-ended:
		return fmt.Errorf("shut down wire server: %d connections were cut: %w", len(cut), ctx.Err())
	case <-time.After(killGrace):
		return fmt.Errorf("shut down wire server: a handler still runs: %w", ctx.Err())
	}
}

func (s *Server) snapshot() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Conn, 0, len(s.mu.conns))
	for c := range s.mu.conns {
		list = append(list, c)
	}
	return list
}

// Stats is what the server has done and holds. Counters never go back.
type Stats struct {
	Connections                 int
	Accepted, Refused           uint64
	Requests, BytesIn, BytesOut uint64
}

// Stats adds up all connections.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{
		Connections: len(s.mu.conns),
		Accepted:    s.total.accepted.Load(),
		Refused:     s.total.refused.Load(),
		Requests:    s.total.requests.Load(),
		BytesIn:     s.total.received.Load(),
		BytesOut:    s.total.sent.Load(),
	}
	for c := range s.mu.conns {
		st.Requests += c.progress.frames.Load()
		st.BytesIn += c.progress.received.Load()
		st.BytesOut += c.progress.sent.Load()
	}
	return st
}

func hostOf(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().String()
	}
	return a.String()
}
