package wire

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestRepliesLeaveInRequestOrderWhateverTheOrderOfCompletion(t *testing.T) {
	const n, window = 2000, 40
	todo := make(chan *Request, DefaultMaxInFlight)
	var workers sync.WaitGroup
	workers.Go(func() {
		rng := rand.New(rand.NewPCG(1, 2))
		var held []*Request
		for q := range todo {
			held = append(held, q)
			for len(held) > window/2 || len(todo) == 0 && len(held) > 0 {
				i := rng.IntN(len(held))
				q := held[i]
				held = append(held[:i], held[i+1:]...)
				if q.Key == 1 {
					q.NoReply()
				} else {
					echo(q)
				}
			}
		}
	})
	s := startServer(t, Config{}, func(q *Request) {
		if q.CorrelationID%3 == 0 {
			echo(q) // on the reader
			return
		}
		todo <- q
	})
	c := dial(t, s)
	var sender sync.WaitGroup
	sender.Go(func() {
		for i := range int32(n) {
			key := int16(0)
			if i%5 == 1 && i%3 != 0 {
				key = 1 // gets no reply
			}
			body := binary.BigEndian.AppendUint32(bytes.Repeat([]byte{byte(i)}, int(i%97)*50), uint32(i))
			if _, err := c.Write(request(key, 3, i, "order", body)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for i := range int32(n) {
		if i%5 == 1 && i%3 != 0 {
			continue
		}
		id, b := c.recv()
		if id != i || b[0] != 0 || len(b) != 1+int(i%97)*50+4 || binary.BigEndian.Uint32(b[len(b)-4:]) != uint32(i) {
			t.Fatalf("reply %d came with %d bytes where %d was due", id, len(b), i)
		}
	}
	sender.Wait()
	if err := s.Shutdown(t.Context()); err != nil { // no Serve sends to todo any more
		t.Error(err)
	}
	close(todo)
	workers.Wait()
}

// writerOf tells which goroutine of the connection runs the caller, by its stack.
func writerOf() string {
	stack := make([]byte, 16<<10)
	stack = stack[:runtime.Stack(stack, false)]
	switch {
	case bytes.Contains(stack, []byte("readLoop")):
		return "reader"
	case bytes.Contains(stack, []byte("writeLoop")):
		return "writer"
	}
	return "other"
}

func TestReplyInServeLeavesOnTheReaderAndLaterOnesOnTheWriter(t *testing.T) {
	wrote := make(chan string, 2)
	later := make(chan *Request, 1)
	done := func() { wrote <- writerOf() }
	s := startServer(t, Config{}, func(q *Request) {
		if q.CorrelationID == 1 {
			q.Reply(Response{Done: done})
			return
		}
		later <- q
	})
	c := dial(t, s)
	c.send(request(0, 0, 1, "", nil))
	c.recv()
	if got := receive(t, wrote); got != "reader" {
		t.Errorf("a reply in Serve left on the %s", got)
	}
	c.send(request(0, 0, 2, "", nil))
	receive(t, later).Reply(Response{Done: done})
	c.recv()
	if got := receive(t, wrote); got != "writer" {
		t.Errorf("a later reply left on the %s", got)
	}
}

func TestReplyNeverWaitsForASlowPeer(t *testing.T) {
	const n = 20
	held := make(chan *Request, n)
	s := startServer(t, Config{}, func(q *Request) { held <- q })
	c := dial(t, s)
	for i := range int32(n) {
		c.send(request(0, 0, i, "", nil))
	}
	// 20 x 4 MiB is far above what both socket buffers hold, and the peer does not read yet.
	var qs []*Request
	for range n {
		qs = append(qs, receive(t, held))
	}
	for _, q := range qs {
		q.Reply(Response{Body: GetBuffer(maxClass)})
	}
	for i := range int32(n) {
		if id, b := c.recv(); id != i || len(b) != maxClass {
			t.Fatalf("reply %d with %d bytes, want %d", id, len(b), i)
		}
	}
}

func TestASlowReaderDoesNotBlockOthers(t *testing.T) {
	s := startServer(t, Config{}, func(q *Request) {
		if q.Key == 1 {
			q.Reply(Response{Body: GetBuffer(64 << 20)})
			return
		}
		echo(q)
	})
	slow, quick := dial(t, s), dial(t, s)
	slow.send(request(1, 0, 1, "", nil))
	for i := range int32(1000) {
		quick.send(request(0, 0, i, "", []byte("x")))
		if id, _ := quick.recv(); id != i {
			t.Fatalf("reply %d, want %d", id, i)
		}
	}
	if _, b := slow.recv(); len(b) != 64<<20 {
		t.Fatalf("slow reader got %d bytes", len(b))
	}
}

func TestReaderStopsAtMaxInFlight(t *testing.T) {
	const limit = 3
	held := make(chan *Request, 100)
	var served atomic.Int32
	s := startServer(t, Config{MaxInFlight: limit}, func(q *Request) { served.Add(1); held <- q })
	c := dial(t, s)
	var all []byte
	for i := range int32(10) {
		all = append(all, request(0, 0, i, "", nil)...)
	}
	c.send(all)
	for i := range int32(10) {
		q := receive(t, held)
		if n := served.Load(); n > i+limit {
			t.Fatalf("%d requests were served with %d answered", n, i)
		}
		q.Reply(Response{})
		if id, _ := c.recv(); id != i {
			t.Fatalf("reply %d, want %d", id, i)
		}
	}
}

// callStream counts writes and keeps what was written.
type callStream struct {
	copyStream
	calls int
	out   bytes.Buffer
}

func (s *callStream) writev(bufs [][]byte, _ bool) error {
	s.calls++
	for _, b := range bufs {
		s.out.Write(b)
	}
	return nil
}

func TestManyCompletionsLeaveInOneWrite(t *testing.T) {
	s, err := New(Config{Listeners: []Listener{{}}, HeaderVersion: flexibleFrom3})
	if err != nil {
		t.Fatal(err)
	}
	st := &callStream{}
	o := outbox{st: st}
	var first, last *Request
	var want bytes.Buffer
	for i := range int32(100) {
		q := &Request{Conn: &Conn{srv: s}, CorrelationID: i}
		q.resp.Body = bytes.Repeat([]byte{byte(i)}, 60)
		if i%10 == 0 {
			q.resp.Parts = []Part{{Bytes: bytes.Repeat([]byte{byte(i)}, copyBelow+1)}, {}, {Bytes: []byte("end")}}
		}
		var h [9]byte
		want.Write(putReplyHeader(&h, i, false, int(q.resp.size())))
		want.Write(q.resp.Body)
		for _, p := range q.resp.Parts {
			want.Write(p.Bytes)
		}
		if first == nil {
			first = q
		} else {
			last.next = q
		}
		last = q
	}
	if err := o.write(first); err != nil {
		t.Fatal(err)
	}
	if st.calls != 1 {
		t.Errorf("100 replies took %d writes", st.calls)
	}
	if !bytes.Equal(st.out.Bytes(), want.Bytes()) {
		t.Error("the bytes differ")
	}
}

func TestSecondAnswerPanics(t *testing.T) {
	panicked := make(chan any, 1)
	s := startServer(t, Config{}, func(q *Request) {
		defer func() { panicked <- recover() }()
		q.Reply(Response{})
		q.NoReply()
	})
	c := dial(t, s)
	c.send(request(4, 2, 77, "", nil))
	if p, _ := receive(t, panicked).(string); !strings.Contains(p, "second answer to request 77 (api key 4 version 2)") {
		t.Errorf("panic %q", p)
	}
	c.recv()
}

func TestClientIDAndHeadersArriveAsSent(t *testing.T) {
	type seen struct {
		key, version int16
		id           string
		body         string
	}
	got := make(chan seen, 1)
	s := startServer(t, Config{}, func(q *Request) {
		got <- seen{q.Key, q.Version, q.ClientID, string(q.Body)}
		q.Release()
		q.Release()
		q.Reply(Response{})
	})
	c := dial(t, s)
	for _, w := range []seen{
		{0, 2, "a", "body"}, {1, 3, "b", "more body"}, {18, 99, "c", ""}, {7, 0, "", "\x00\x00shutdown"}, {3, 3, "", ""},
	} {
		b := request(w.key, w.version, 5, w.id, []byte(w.body))
		if w.key == 7 {
			b = request(w.key, w.version, 5, "", []byte("shutdown")) // header v0: the id's length belongs to the body
		}
		c.send(b)
		if g := receive(t, got); g != w {
			t.Errorf("got %+v, want %+v", g, w)
		}
		_, reply := c.recv()
		wantTags := w.version >= 3 && w.key != 18
		if (len(reply) == 1) != wantTags {
			t.Errorf("key %d version %d: response header has %d bytes after the correlation id", w.key, w.version, len(reply))
		}
	}
}
