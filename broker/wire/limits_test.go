package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"
)

func logTo(b *lockedBuffer) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

func TestABadFrameClosesItsConnectionWithOneClearLine(t *testing.T) {
	for _, tc := range []struct {
		name string
		send []byte
		line string
	}{
		{"zero", []byte{0, 0, 0, 0}, "frame of 0 bytes is outside 8..1000"},
		{"negative", []byte{0xff, 0xff, 0xff, 0xff}, "frame of -1 bytes is outside"},
		{"too long", []byte{0, 0, 0x03, 0xe9}, "frame of 1001 bytes is outside"},
		{"http", []byte("GET / HTTP/1.1\r\n\r\n"), "looks like HTTP"},
		{"tls", []byte{0x16, 0x03, 0x01, 0x02, 0x00, 0x01}, "looks like a TLS handshake"},
		{"header", []byte{0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0}, "malformed request header"},
		{"unknown key", request(99, 0, 1, "", nil), "api key 99 version 0 is not served"},
		{"unknown version", request(1, 13, 1, "", nil), "api key 1 version 13 is not served"},
		{"negative key", request(-3, 0, 1, "", nil), "api key -3 version 0 is not served"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var log lockedBuffer
			s := startServer(t, Config{MaxFrame: 1000, Log: logTo(&log)}, echo)
			other := dial(t, s)
			for range 20 {
				c := dial(t, s)
				c.send(tc.send)
				c.wantClosed()
			}
			other.send(request(0, 0, 1, "", []byte("alive")))
			if _, b := other.recv(); string(b) != "alive" {
				t.Errorf("another connection got %q", b)
			}
			if n := strings.Count(log.String(), tc.line); n != 1 || strings.Count(log.String(), "\n") != 1 {
				t.Errorf("the log is not one line with %q:\n%s", tc.line, log.String())
			}
		})
	}
}

func TestTenThousandRandomFramesHarmNobody(t *testing.T) {
	s := startServer(t, Config{MaxFrame: 4096, MaxConns: 100}, echo)
	other := dial(t, s)
	rng := rand.New(rand.NewPCG(9, 9))
	for sent, round := 0, int32(0); sent < 10_000; round++ {
		c := dial(t, s)
		var all []byte
		for range 200 {
			b := request(int16(rng.IntN(50)), int16(rng.IntN(13)), 1, "fuzz", make([]byte, rng.IntN(300)))
			if rng.IntN(40) == 0 {
				b[rng.IntN(len(b))] = byte(rng.Uint32())
			}
			all = append(all, b...)
			sent++
		}
		_, _ = c.Write(all) // the server may close in between
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		c.wantClosed()
		other.send(request(0, 0, round, "", nil))
		if id, _ := other.recv(); id != round {
			t.Fatalf("reply %d, want %d", id, round)
		}
	}
}

func TestUnknownApiVersionsVersionIsServedWithAV0Header(t *testing.T) {
	s := startServer(t, Config{}, func(q *Request) {
		if q.Key != 18 || q.Version != 99 || len(q.Body) != 0 {
			t.Errorf("served key %d version %d with %d bytes", q.Key, q.Version, len(q.Body))
		}
		q.Reply(Response{Body: append(GetBuffer(0), "v0"...)})
	})
	c := dial(t, s)
	b := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 10, 0, 18, 0, 99}, 42)
	c.send(append(b, 0xee, 0xee)) // and a client id that is none
	if id, body := c.recv(); id != 42 || string(body) != "v0" {
		t.Errorf("reply %d %q", id, body)
	}
}

func TestRequestMemoryHoldsReadersBack(t *testing.T) {
	const size = 6000
	held := make(chan *Request, 10)
	s := startServer(t, Config{MaxFrame: 10_000, RequestMemory: 10_000}, func(q *Request) { held <- q })
	a, b := dial(t, s), dial(t, s)
	a.send(request(0, 0, 1, "", make([]byte, size)))
	first := receive(t, held)
	b.send(request(0, 0, 2, "", make([]byte, size)))
	eventually(t, "b comes to the budget", s.memory.tight)
	select {
	case q := <-held:
		t.Fatalf("request %d was read above the budget", q.CorrelationID)
	default:
	}
	first.Release()
	second := receive(t, held)
	first.Reply(Response{})
	second.Reply(Response{})
	a.recv()
	if id, _ := b.recv(); id != 2 {
		t.Errorf("reply %d", id)
	}
	a.send(request(0, 0, 3, "", make([]byte, size)))
	receive(t, held).Reply(Response{})
	a.recv()
}

// TestLargeFramesLeaveRoomForOrdinaryOnes has peers promise frames of the greatest size and send
// nothing of them: requests of ordinary size are served all the same.
func TestLargeFramesLeaveRoomForOrdinaryOnes(t *testing.T) {
	const largest = 4 * trustedFrame
	s := startServer(t, Config{MaxFrame: largest, RequestMemory: 2 * largest}, echo)
	for range 4 {
		dial(t, s).send(binary.BigEndian.AppendUint32(nil, largest))
	}
	eventually(t, "the promises hold what they may", s.memory.tight)
	c := dial(t, s)
	for id := range int32(20) {
		c.send(request(0, 0, id, "", make([]byte, trustedFrame/2)))
		if got, _ := c.recv(); got != id {
			t.Fatalf("reply %d to request %d", got, id)
		}
	}
}

// TestJanitorRules plays the counters of one connection against the clock.
func TestJanitorRules(t *testing.T) {
	const timeout = time.Minute
	s, err := New(Config{
		Listeners: []Listener{{}}, HeaderVersion: flexibleFrom3, MaxFrame: 4 << 20, RequestMemory: 4 << 20,
		IdleTimeout: timeout, FrameTimeout: timeout, WriteTimeout: timeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	type step struct {
		phase    uint32
		received uint64 // since the step before
		frames   uint64
		sent     uint64
		stalled  bool
		tight    bool
		large    bool
		want     error
		after    time.Duration // the step before; zero: timeout
	}
	for name, steps := range map[string][]step{
		"idle":           {{phase: phaseIdle}, {phase: phaseIdle, want: ErrIdle}},
		"served between": {{phase: phaseIdle}, {phase: phaseIdle, frames: 1}, {phase: phaseIdle, want: ErrIdle}},
		"busy":           {{phase: phaseBusy}, {phase: phaseBusy}, {phase: phaseBusy}},
		"trickling":      {{phase: phaseFrame}, {phase: phaseFrame, received: minProgress - 1, want: ErrSlowFrame}},
		"moving":         {{phase: phaseFrame}, {phase: phaseFrame, received: minProgress}, {phase: phaseFrame, received: minProgress}},
		"next frame":     {{phase: phaseFrame}, {phase: phaseFrame, frames: 1, received: 10}, {phase: phaseFrame, want: ErrSlowFrame}},
		"large, room left": {
			{phase: phaseFrame, large: true},
			{phase: phaseFrame, large: true, received: minProgress},
			{phase: phaseFrame, large: true, received: minProgress},
		},
		"large, others wait": {
			{phase: phaseFrame, large: true, tight: true},
			{phase: phaseFrame, large: true, tight: true, received: minProgress, want: ErrSlowFrame},
		},
		"large, nothing comes, others wait": {
			{phase: phaseFrame, large: true},
			{phase: phaseFrame, large: true, tight: true, received: minProgress, want: ErrSlowFrame, after: hurryAfter},
		},
		"large, comes quickly, others wait": {
			{phase: phaseFrame, large: true},
			{phase: phaseFrame, large: true, tight: true, received: hurryLarge, after: hurryAfter},
		},
		"small, nothing comes, others wait": {
			{phase: phaseFrame},
			{phase: phaseFrame, tight: true, want: ErrSlowFrame, after: hurryAfter},
		},
		"small, others wait": {{phase: phaseFrame, tight: true}, {phase: phaseFrame, tight: true, received: minProgress}},
		"reads nothing":      {{phase: phaseBusy, stalled: true}, {phase: phaseBusy, stalled: true, sent: 10, want: ErrSlowPeer}},
		"reads slowly": {
			{phase: phaseBusy, stalled: true},
			{phase: phaseBusy, stalled: true, sent: minProgress},
			{phase: phaseBusy, stalled: true, sent: minProgress},
		},
		"another stall": {{phase: phaseBusy, stalled: true}, {phase: phaseBusy}, {phase: phaseBusy, stalled: true}},
	} {
		c := &Conn{srv: s}
		now := time.Unix(1_000_000, 0)
		for i, st := range steps {
			c.progress.phase.Store(st.phase)
			c.progress.received.Add(st.received)
			c.progress.frames.Add(st.frames)
			c.progress.sent.Add(st.sent)
			c.progress.large.Store(st.large)
			c.progress.setStalled(st.stalled)
			if st.after != 0 {
				now = now.Add(st.after - timeout)
			}
			if st.tight && !s.memory.all.TryAcquire(4<<20) {
				t.Fatal("budget is taken")
			}
			if err := c.overdue(now); !errors.Is(err, st.want) {
				t.Errorf("%s, step %d: %v, want %v", name, i, err, st.want)
			}
			if st.tight {
				s.memory.all.Release(4 << 20)
			}
			if err := c.overdue(now.Add(timeout - 1)); st.want == nil && err != nil {
				t.Errorf("%s, step %d, too early: %v", name, i, err)
			}
			now = now.Add(timeout)
		}
	}
}

func TestPeersThatDoNotReadAreCutAndTheirRepliesDropped(t *testing.T) {
	done := make(chan struct{}, 100)
	ended := make(chan error, 1)
	s := startServer(t, Config{WriteTimeout: 20 * time.Millisecond}, func(q *Request) {
		c := q.Conn
		context.AfterFunc(c.Context(), func() { ended <- context.Cause(c.Context()) })
		q.Reply(Response{Body: GetBuffer(64 << 20), Done: func() { done <- struct{}{} }})
	})
	c := dial(t, s)
	c.send(request(0, 0, 1, "", nil))
	if err := receive(t, ended); !errors.Is(err, ErrSlowPeer) {
		t.Errorf("ended with %v", err)
	}
	receive(t, done)
}

func TestAFrameThatTricklesIsCut(t *testing.T) {
	var log lockedBuffer
	s := startServer(t, Config{FrameTimeout: 20 * time.Millisecond, Log: logTo(&log)}, echo)
	for _, part := range [][]byte{{0, 0}, {0, 0, 1, 0, 0, 1}} {
		c := dial(t, s)
		c.send(part)
		c.wantClosed()
	}
	if !strings.Contains(log.String(), ErrSlowFrame.Error()) {
		t.Errorf("log: %s", log.String())
	}
}

func TestIdleConnectionsAreClosedAndWaitingOnesAreNot(t *testing.T) {
	held := make(chan *Request, 1)
	s := startServer(t, Config{IdleTimeout: 20 * time.Millisecond}, func(q *Request) { held <- q })
	waiting, idle := dial(t, s), dial(t, s)
	waiting.send(request(0, 0, 1, "", nil))
	q := receive(t, held)
	idle.wantClosed()
	late := dial(t, s)
	late.wantClosed()
	q.Reply(Response{})
	waiting.recv()
	waiting.wantClosed()
}

func TestConnectionLimits(t *testing.T) {
	var log lockedBuffer
	s := startServer(t, Config{MaxConns: 3, MaxConnsPerIP: 2, Log: logTo(&log)}, echo)
	a, b := dial(t, s), dial(t, s)
	for i, c := range []*client{a, b} {
		c.send(request(0, 0, int32(i), "", nil))
		c.recv()
	}
	over := dial(t, s)
	over.wantClosed()
	if !strings.Contains(log.String(), "refused connection: too many") {
		t.Errorf("log: %s", log.String())
	}
	a.Close()
	eventually(t, "the closed connection is forgotten", func() bool { return s.Stats().Connections == 1 })
	again := dial(t, s)
	again.send(request(0, 0, 7, "", []byte("in")))
	if _, body := again.recv(); !bytes.Equal(body, []byte("in")) {
		t.Errorf("got %q", body)
	}
	if st := s.Stats(); st.Accepted != 3 || st.Refused != 1 || st.Requests != 3 {
		t.Errorf("stats %+v", st)
	}
}
