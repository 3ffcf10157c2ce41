package gossip

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// maxStreams bounds the connections that peers have open at a time. Each is one exchange of state
// that lasts milliseconds; memberlist would take any number before it looks at the first byte.
const maxStreams = 64

// transport is memberlist's own with three things added: streams can be ended from here (memberlist
// has no way to cancel a dial or an exchange), their number is bounded, and a port that is taken is
// told by a sentinel.
type transport struct {
	*memberlist.NetTransport
	streams chan net.Conn
	relayed sync.WaitGroup

	ctx     context.Context // ends when streams are cut
	cancel  context.CancelFunc
	ending  chan struct{} // closed when Shutdown begins
	drained chan struct{} // closed when the listeners have ended
	once    sync.Once

	mu struct {
		sync.Mutex
		open    map[*stream]struct{}
		inbound int // of open; <= maxStreams
	}
}

// stream is a connection that the transport can close.
type stream struct {
	net.Conn
	owner   *transport
	inbound bool
}

func listen(bind netip.AddrPort, logger *log.Logger) (*transport, error) {
	cfg := &memberlist.NetTransportConfig{BindAddrs: []string{bind.Addr().String()}, BindPort: int(bind.Port()), Logger: logger}
	// A free TCP port may be taken for UDP, so port 0 gets several tries.
	tries := 1
	if bind.Port() == 0 {
		tries = 10
	}
	var inner *memberlist.NetTransport
	var err error
	for range tries {
		if inner, err = memberlist.NewNetTransport(cfg); err == nil {
			break
		}
	}
	if err != nil {
		// memberlist wraps without %w: the text is all there is.
		if strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) {
			return nil, ErrAddressInUse
		}
		return nil, fmt.Errorf("open sockets: %w", err)
	}
	t := &transport{NetTransport: inner, streams: make(chan net.Conn), ending: make(chan struct{}), drained: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.mu.open = make(map[*stream]struct{})
	t.relayed.Go(t.relay)
	return t, nil
}

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: address}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout}
	conn, err := dialer.DialContext(t.ctx, "tcp", a.Addr)
	if err != nil {
		return nil, err
	}
	s := t.track(conn, false)
	if s == nil {
		return nil, net.ErrClosed
	}
	return s, nil
}

// Shutdown implements memberlist.Transport: it returns when the listeners have ended.
func (t *transport) Shutdown() error {
	var err error
	t.once.Do(func() {
		t.cut()
		close(t.ending)
		err = t.NetTransport.Shutdown()
		close(t.drained)
		t.relayed.Wait()
	})
	return err
}

// cut ends every stream and lets no new one begin. Packets still come and go.
func (t *transport) cut() {
	t.cancel()
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.mu.open {
		_ = s.Conn.Close() // its user sees the error and closes it again
	}
}

// relay hands accepted streams on. During a shutdown it also takes the packets that nobody reads any
// more: a listener that hangs on one would never end.
func (t *transport) relay() {
	ending := t.ending
	var packets <-chan *memberlist.Packet
	for {
		select {
		case conn := <-t.NetTransport.StreamCh():
			t.accept(conn)
		case <-packets:
		case <-ending:
			ending, packets = nil, t.PacketCh()
		case <-t.drained:
			return
		}
	}
}

func (t *transport) accept(conn net.Conn) {
	s := t.track(conn, true)
	if s == nil {
		return
	}
	select {
	case t.streams <- s:
	case <-t.ctx.Done():
		_ = s.Close() // nothing was said on it
	}
}

// track returns nil, and closes conn, if streams are cut or there are too many.
func (t *transport) track(conn net.Conn, inbound bool) *stream {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil || (inbound && t.mu.inbound >= maxStreams) {
		_ = conn.Close() // refused: the peer sees it closed
		return nil
	}
	s := &stream{Conn: conn, owner: t, inbound: inbound}
	t.mu.open[s] = struct{}{}
	if inbound {
		t.mu.inbound++
	}
	return s
}

// Close implements net.Conn.
func (s *stream) Close() error {
	t := s.owner
	t.mu.Lock()
	if _, open := t.mu.open[s]; open {
		delete(t.mu.open, s)
		if s.inbound {
			t.mu.inbound--
		}
	}
	t.mu.Unlock()
	return s.Conn.Close()
}
