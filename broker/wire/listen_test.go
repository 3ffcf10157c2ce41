package wire

import (
	"errors"
	"net"
	"strings"
	"testing"
)

func listenOn(t *testing.T, l ...Listener) (*Server, error) {
	t.Helper()
	s, err := New(Config{Listeners: l, HeaderVersion: flexibleFrom3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Shutdown(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return s, s.Listen(t.Context())
}

func takenPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

func TestATakenPortIsNamedWithWhatToDo(t *testing.T) {
	taken := takenPort(t)
	_, err := listenOn(t, Listener{Name: "other", Address: "127.0.0.1:0"}, Listener{Name: "client", Address: taken})
	if !errors.Is(err, ErrAddressInUse) {
		t.Fatalf("error is %v", err)
	}
	for _, part := range []string{"listen client on " + taken, "another process has this port", "set another port"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

func TestListenNextTakesTheNextFreePort(t *testing.T) {
	taken := takenPort(t)
	s, err := listenOn(t, Listener{Name: "client", Address: taken, ListenNext: true})
	if err != nil {
		t.Fatal(err)
	}
	if a := s.Addr("client"); a == nil || a.String() == taken {
		t.Errorf("bound to %q beside %q", a, taken)
	}
	if a := s.Addr("none"); a != nil {
		t.Errorf("a listener that is not there is bound to %q", a)
	}
}

func TestAForeignAddressIsExplained(t *testing.T) {
	_, err := listenOn(t, Listener{Name: "client", Address: "192.0.2.1:0"}) // TEST-NET-1
	if err == nil || !strings.Contains(err.Error(), "no such address") {
		t.Errorf("error is %v", err)
	}
}

func TestValidateTellsEveryFault(t *testing.T) {
	_, err := New(Config{Listeners: []Listener{{Name: "a"}, {Name: "a"}}, MaxFrame: 2, RequestMemory: 1, MaxInFlight: -1, IdleTimeout: -1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{`listener "a" is there twice`, "header version function", "max frame 2", "request memory 1", "max in flight -1", "idle -1ns"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}
