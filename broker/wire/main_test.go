package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must happen; nothing is measured with it.
const patience = 20 * time.Second

type handlerFunc func(*Request)

func (f handlerFunc) Serve(q *Request) { f(q) }

// flexibleFrom3 serves api keys 0 to 49; versions from 3 on are flexible, versions above 12 unknown.
func flexibleFrom3(key, version int16) (flexible, ok bool) {
	return version >= 3, key >= 0 && key < 50 && version >= 0 && version <= 12
}

// echo answers each request with its own body.
func echo(q *Request) {
	body := GetBuffer(len(q.Body))
	copy(body, q.Body)
	q.Reply(Response{Body: body})
}

// lockedBuffer is a log that a test may read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startServer runs a server on a free loopback port until the test ends.
func startServer(t testing.TB, cfg Config, h handlerFunc) *Server {
	t.Helper()
	if cfg.Listeners == nil {
		cfg.Listeners = []Listener{{Name: "client", Address: "127.0.0.1:0"}}
	}
	if cfg.HeaderVersion == nil {
		cfg.HeaderVersion = flexibleFrom3
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(h); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown at the end: %v", err)
		}
	})
	return s
}

// client is a small framing client.
type client struct {
	net.Conn
	t testing.TB
}

func dial(t testing.TB, s *Server) *client {
	t.Helper()
	nc, err := net.Dial("tcp", s.Addr("client").String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{nc, t}
}

// request builds a frame with its length word and header v1 or v2.
func request(key, version int16, correlationID int32, clientID string, body []byte) []byte {
	b := make([]byte, 4, 64+len(body))
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, uint32(correlationID))
	b = binary.BigEndian.AppendUint16(b, uint16(len(clientID)))
	b = append(b, clientID...)
	if flexible, _ := flexibleFrom3(key, version); flexible {
		b = append(b, 0)
	}
	b = append(b, body...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func (c *client) send(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// recv reads one reply: correlation id and everything after it.
func (c *client) recv() (int32, []byte) {
	c.t.Helper()
	var word [4]byte
	if _, err := io.ReadFull(c, word[:]); err != nil {
		c.t.Fatal("read reply length: ", err)
	}
	b := make([]byte, binary.BigEndian.Uint32(word[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		c.t.Fatal("read reply: ", err)
	}
	return int32(binary.BigEndian.Uint32(b)), b[4:]
}

// wantClosed waits until the server has closed the connection, and drops what still came.
func (c *client) wantClosed() {
	c.t.Helper()
	_, err := io.Copy(io.Discard, c)
	if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		c.t.Fatal("connection is still open")
	}
}

func receive[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// eventually spins until cond holds: for states that no event tells.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !cond(); runtime.Gosched() {
		if time.Now().After(until) {
			t.Fatal("never: " + what)
		}
	}
}
