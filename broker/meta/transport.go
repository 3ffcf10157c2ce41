package meta

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	// transportTimeout bounds one raft RPC; snapshots get more by their size.
	transportTimeout = 5 * time.Second
	// helloTimeout bounds the wait for the first bytes of a connection.
	helloTimeout = 2 * time.Second
	// transportPool is how many idle connections to each other server are kept.
	transportPool = 3
	// maxRaftConns bounds accepted connections: 5 voters with a few connections each, four times.
	maxRaftConns = 64
)

// helloMagic and the cluster id open every connection between brokers, so that a stray client, a
// port scan or a broker of another cluster is turned away before raft's decoder sees a byte.
const helloMagic = "varve-raft/1 "

// stream is raft's network: TCP with a hello. It implements raft.StreamLayer. Closing it closes
// the accepted connections too, so that raft's readers end.
type stream struct {
	net.Listener
	hello string

	mu struct {
		sync.Mutex
		conns  map[*greeted]struct{} // accepted and open, at most maxRaftConns
		closed bool
	}
}

func listenStream(address, clusterID string) (*stream, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on internal address %s: %w", address, err)
	}
	s := &stream{Listener: l, hello: helloMagic + clusterID + "\n"}
	s.mu.conns = map[*greeted]struct{}{}
	return s, nil
}

// Dial implements raft.StreamLayer.
func (s *stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", string(address), timeout)
	if err != nil {
		return nil, err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(helloTimeout)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if _, err := io.WriteString(conn, s.hello); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, conn.SetWriteDeadline(time.Time{})
}

// Accept implements net.Listener. The hello is read at the connection's first Read: one slow peer
// must not hold up the others.
func (s *stream) Accept() (net.Conn, error) {
	for {
		conn, err := s.Listener.Accept()
		if err != nil {
			return nil, err
		}
		g := &greeted{Conn: conn, want: s.hello, stream: s}
		if s.keep(g) {
			return g, nil
		}
		_ = conn.Close() // full: the peer tries again
	}
}

func (s *stream) keep(g *greeted) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed || len(s.mu.conns) >= maxRaftConns {
		return false
	}
	s.mu.conns[g] = struct{}{}
	return true
}

func (s *stream) forget(g *greeted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.conns, g)
}

// Close implements net.Listener.
func (s *stream) Close() error {
	err := s.Listener.Close()
	s.mu.Lock()
	s.mu.closed = true
	open := slices.Collect(maps.Keys(s.mu.conns))
	s.mu.Unlock()
	for _, g := range open {
		_ = g.Close() // the listener's error is the one to tell
	}
	return err
}

// greeted is an accepted connection that gives no byte before the right hello.
type greeted struct {
	net.Conn
	want   string
	done   bool // belongs to the one reader
	stream *stream
}

var errHello = errors.New("peer did not greet as a broker of this cluster")

func (g *greeted) Read(b []byte) (int, error) {
	if !g.done {
		if err := g.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
			return 0, err
		}
		have := make([]byte, len(g.want))
		if _, err := io.ReadFull(g.Conn, have); err != nil {
			return 0, errors.Join(errHello, err)
		}
		if string(have) != g.want {
			return 0, errHello
		}
		if err := g.SetReadDeadline(time.Time{}); err != nil {
			return 0, err
		}
		g.done = true
	}
	return g.Conn.Read(b)
}

func (g *greeted) Close() error {
	g.stream.forget(g)
	return g.Conn.Close()
}

// transport is raft's transport and what it takes to close it. raft must be given the inner one:
// it looks for optional methods there, pre-vote among them.
type transport struct {
	raft.Transport
	close func() error
}

// newTransport listens on c.Internal, or stays inside the process if it is empty.
func newTransport(c *Config, clusterID string, log hclog.Logger) (*transport, error) {
	if c.Internal == "" {
		addr, t := raft.NewInmemTransport("")
		t.Connect(addr, t)
		return &transport{t, t.Close}, nil
	}
	s, err := listenStream(c.Internal, clusterID)
	if err != nil {
		return nil, err
	}
	t := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: s, MaxPool: transportPool, Timeout: transportTimeout, Logger: log,
		ServerAddressProvider: nil,
	})
	return &transport{&advertised{t, raft.ServerAddress(c.InternalAdvertise)}, func() error {
		t.CloseStreams() // the pool of outgoing connections
		return t.Close()
	}}, nil
}

// advertised is a network transport that others reach under another address than it listens on.
type advertised struct {
	*raft.NetworkTransport
	address raft.ServerAddress
}

// LocalAddr implements raft.Transport.
func (a *advertised) LocalAddr() raft.ServerAddress {
	if a.address != "" {
		return a.address
	}
	return a.NetworkTransport.LocalAddr()
}
