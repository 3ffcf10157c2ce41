package wire

import (
	"net"
	"sync/atomic"
	"testing"
	"time"
)

func TestAMutedConnectionIsNotReadUntilThePauseIsOver(t *testing.T) {
	var at [2]atomic.Int64 // when each request was served
	s := startServer(t, Config{IdleTimeout: 100 * time.Millisecond}, func(q *Request) {
		at[q.CorrelationID].Store(time.Now().UnixNano())
		if q.CorrelationID == 0 {
			q.Conn.Mute(time.Millisecond)
			q.Conn.Mute(500 * time.Millisecond) // the longest counts; longer than a connection may be idle
		}
		echo(q)
	})
	c := dial(t, s)
	c.send(append(request(0, 0, 0, "", []byte("a")), request(0, 0, 1, "", []byte("b"))...))
	if id, b := c.recv(); id != 0 || string(b) != "a" {
		t.Fatalf("%d %q", id, b)
	}
	if id, b := c.recv(); id != 1 || string(b) != "b" {
		t.Fatalf("%d %q", id, b)
	}
	if waited := time.Duration(at[1].Load() - at[0].Load()); waited < 500*time.Millisecond {
		t.Errorf("the second request was read after %v", waited)
	}
}

func TestAStopDoesNotWaitForAMutedConnection(t *testing.T) {
	s := startServer(t, Config{}, func(q *Request) {
		q.Conn.Mute(time.Hour)
		echo(q)
	})
	c := dial(t, s)
	c.send(request(0, 0, 1, "", nil))
	c.recv()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.wantClosed()
}

func TestAnAddressThatConnectsTooOftenIsClosedUnreadAndLater(t *testing.T) {
	var delay atomic.Int64
	var served atomic.Int64
	s := startServer(t, Config{AdmitDelay: func(string) time.Duration { return time.Duration(delay.Load()) }}, func(q *Request) {
		served.Add(1)
		echo(q)
	})
	delay.Store(int64(10 * time.Millisecond))
	c := dial(t, s)
	c.send(request(0, 0, 1, "", nil))
	c.wantClosed()
	if served.Load() != 0 {
		t.Error("a request of it was served")
	}
	delay.Store(0)
	c = dial(t, s)
	c.send(request(0, 0, 1, "", nil))
	c.recv()
}

func TestLimitsOfConnectionsChangeWhileTheServerRuns(t *testing.T) {
	s := startServer(t, Config{MaxConns: 1}, echo)
	works := func(c *client) {
		t.Helper()
		c.send(request(0, 0, 1, "", nil))
		c.recv()
	}
	first := dial(t, s)
	works(first)
	dial(t, s).wantClosed()
	s.SetLimits(Limits{MaxConns: 3, MaxConnsPerIP: 2})
	second := dial(t, s)
	works(second)
	dial(t, s).wantClosed() // two of this address
	s.SetLimits(Limits{MaxConns: 10, MaxConnsPerIP: 1, MaxConnsOf: map[string]int{"127.0.0.1": 3}})
	works(dial(t, s))
	dial(t, s).wantClosed()
	s.SetLimits(Limits{MaxConns: 1, MaxConnsPerIP: 1})
	works(first) // who is in stays
	works(second)
}

func TestConnectionsAreAcceptedNoFasterThanTheRate(t *testing.T) {
	s := startServer(t, Config{}, echo)
	s.SetLimits(Limits{MaxConns: 100, MaxConnsPerIP: 100, AcceptRate: 5})
	start := time.Now()
	for range 11 { // five at once, then five a second; the last waits for itself alone
		c := dial(t, s)
		c.send(request(0, 0, 1, "", nil))
		c.recv()
	}
	if took := time.Since(start); took < time.Second {
		t.Errorf("11 connections at 5 a second took %v", took)
	}
	s.SetLimits(Limits{MaxConns: 100, MaxConnsPerIP: 100})
	if _, err := net.Dial("tcp", s.Addr("client").String()); err != nil {
		t.Fatal(err)
	}
}
