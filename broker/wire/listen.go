package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// ErrAddressInUse is in the error of Listen when another process has the port.
var ErrAddressInUse = errors.New("address already in use")

// nextPorts is how far ListenNext looks: a machine with a hundred ports taken in a row is not
// waiting for one more broker.
const nextPorts = 100

type bound struct {
	name string
	ln   net.Listener
}

// Listen binds every listener, or none. Connections wait in the kernel until Start.
func (s *Server) Listen(ctx context.Context) error {
	var list []bound
	for _, l := range s.cfg.Listeners {
		ln, err := s.bind(ctx, l)
		if err != nil {
			for _, b := range list {
				_ = b.ln.Close()
			}
			return err
		}
		list = append(list, bound{l.Name, ln})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.listeners = list
	return nil
}

// Addr is the address that a listener is bound to, nil before Listen or for an unknown name.
func (s *Server) Addr(name string) net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.mu.listeners {
		if b.name == name {
			return b.ln.Addr()
		}
	}
	return nil
}

func (s *Server) bind(ctx context.Context, l Listener) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", l.Address)
	if err == nil {
		return ln, nil
	}
	if !l.ListenNext || !errors.Is(err, syscall.EADDRINUSE) {
		return nil, explainListen(l, err)
	}
	host, port, splitErr := net.SplitHostPort(l.Address)
	first, convErr := strconv.Atoi(port)
	if splitErr != nil || convErr != nil {
		return nil, explainListen(l, err)
	}
	for p := first + 1; p <= min(first+nextPorts, 65535); p++ {
		ln, next := lc.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(p)))
		if next == nil {
			s.cfg.Log.Info("port is taken, using the next free one", "listener", l.Name, "wanted", l.Address, "address", ln.Addr())
			return ln, nil
		}
		if !errors.Is(next, syscall.EADDRINUSE) {
			return nil, explainListen(l, next)
		}
	}
	return nil, explainListen(l, err)
}

// explainListen says which address and what to do about it.
func explainListen(l Listener, err error) error {
	where := fmt.Sprintf("listen %s on %s", l.Name, l.Address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: %w: another process has this port (ss -ltnp shows which); stop it or set another port for this listener", where, ErrAddressInUse)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: this machine has no such address; use one of its own, or 0.0.0.0 for all: %w", where, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: not permitted; ports below 1024 need privileges, choose a higher one: %w", where, err)
	}
	return fmt.Errorf("%s: %w", where, err)
}
