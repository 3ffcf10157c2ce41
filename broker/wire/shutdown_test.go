package wire

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestShutdownLetsRepliesInFlightGoOut(t *testing.T) {
	held := make(chan *Request, 10)
	s := startServer(t, Config{}, func(q *Request) { held <- q })
	c, idle := dial(t, s), dial(t, s)
	for i := range int32(3) {
		c.send(request(0, 0, i, "", []byte("in flight")))
	}
	var qs []*Request
	for range 3 {
		qs = append(qs, receive(t, held))
	}
	result := make(chan error, 1)
	go func() { result <- s.Shutdown(context.Background()) }()
	idle.wantClosed()
	<-qs[0].Conn.Draining()
	if qs[0].Conn.Context().Err() != nil {
		t.Error("a connection that owes replies is dead")
	}
	for i := 2; i >= 0; i-- {
		echo(qs[i])
	}
	for i := range int32(3) {
		if id, b := c.recv(); id != i || string(b) != "in flight" {
			t.Errorf("reply %d %q", id, b)
		}
	}
	c.wantClosed()
	if err := receive(t, result); err != nil {
		t.Error(err)
	}
	if _, err := net.DialTimeout("tcp", s.cfg.Listeners[0].Address, patience); err == nil {
		t.Error("still listening")
	}
}

func TestShutdownIsBoundedByItsContext(t *testing.T) {
	held := make(chan *Request, 10)
	var done atomic.Int32
	s := startServer(t, Config{}, func(q *Request) {
		held <- q
		if q.Key == 1 {
			<-q.Conn.Context().Done() // a long poll that only gives up with its connection
			q.Reply(Response{Done: func() { done.Add(1) }})
		}
	})
	c, d := dial(t, s), dial(t, s)
	c.send(request(0, 0, 1, "", nil))
	d.send(request(1, 0, 2, "", nil))
	a, b := receive(t, held), receive(t, held)
	if a.Key == 1 {
		a = b
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown said %v", err)
	}
	c.wantClosed()
	d.wantClosed()
	a.Reply(Response{Body: GetBuffer(10), Done: func() { done.Add(1) }}) // after death
	if n := done.Load(); n != 2 {
		t.Errorf("Done was called %d times for 2 replies", n)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("a second shutdown said %v", err)
	}
}

func TestShutdownBeforeStart(t *testing.T) {
	s, err := New(Config{Listeners: []Listener{{Name: "client", Address: "127.0.0.1:0"}}, HeaderVersion: flexibleFrom3})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Start(handlerFunc(echo)); err == nil {
		t.Error("started after shutdown")
	}
}

// TestDoneIsCalledOnceOnDeath cuts connections at random points of a busy exchange: each reply's
// Done is called exactly once, every frame's memory comes back, and nothing hangs.
func TestDoneIsCalledOnceOnDeath(t *testing.T) {
	const memory = 64 << 20
	var replies, dones atomic.Int64
	work := make(chan *Request, 10_000)
	var workers sync.WaitGroup
	for range 3 {
		workers.Go(func() {
			for q := range work {
				once := new(atomic.Bool)
				replies.Add(1)
				q.Reply(Response{Body: GetBuffer(30_000), Done: func() {
					if once.Swap(true) {
						t.Error("Done was called twice")
					}
					dones.Add(1)
				}})
			}
		})
	}
	var inServe sync.WaitGroup
	s := startServer(t, Config{MaxFrame: memory, RequestMemory: memory}, func(q *Request) {
		inServe.Add(1)
		defer inServe.Done()
		work <- q
	})
	var clients sync.WaitGroup
	for i := range 40 {
		clients.Go(func() {
			c := dial(t, s)
			for k := range int32(100) {
				if _, err := c.Write(request(0, 0, k, "", make([]byte, 5000))); err != nil {
					return
				}
				if int(k) == i*3 { // leaves replies behind, some never read
					c.Close()
					return
				}
				if k > 50 {
					c.recv()
				}
			}
		})
	}
	clients.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_ = s.Shutdown(ctx)
	inServe.Wait()
	close(work)
	workers.Wait()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if replies.Load() == 0 || replies.Load() != dones.Load() {
		t.Errorf("%d replies, %d times Done", replies.Load(), dones.Load())
	}
	if !s.memory.all.TryAcquire(memory) {
		t.Error("request memory is still charged")
	}
}
