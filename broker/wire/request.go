package wire

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// SendfileMin is the shortest file part that may leave by sendfile. Below, one copied write is
// cheaper than two calls (8.3 against 4.4 microseconds at 4 KiB).
const SendfileMin = 64 << 10

// Handler answers requests. Serve is called on the connection's reader goroutine, one request of a
// connection at a time and in order; it may block, which stops that connection only. Each request
// must end in exactly one Reply or NoReply, in Serve or later, from any goroutine. A reply given
// while Serve runs leaves when Serve returns.
type Handler interface {
	Serve(req *Request)
}

// Request is one decoded request header with the bytes behind it. It is recycled after its reply
// has been written: neither the handler nor anyone else may hold it after Reply or NoReply, except
// for the rest of the Serve call that it was given to.
type Request struct {
	Conn          *Conn
	Key, Version  int16
	CorrelationID int32
	ClientID      string // "" for a null client id
	Body          []byte // what follows the header; a view of the pooled frame, valid until Release
	Received      time.Time

	frame         []byte // the whole frame, charged to the request memory until released
	released      atomic.Bool
	flexibleReply bool
	header        [9]byte // length word and response header, as written

	// next, state, silent and resp are guarded by Conn.mu until the request is taken off the queue.
	next   *Request
	state  requestState
	silent bool // NoReply: keeps its place in the order and writes nothing
	resp   Response
}

// requestState goes one way: open, answered, taken; then the request is recycled.
type requestState uint8

const (
	open     requestState = iota // the handler owes an answer
	answered                     // waits for its turn
	taken                        // somebody writes or discards it
)

// Response is what follows the response header, which the server writes.
type Response struct {
	// Body goes first. It is nil or comes from GetBuffer, and goes back to the pool with its whole
	// capacity when the reply is finished; bytes of any other origin belong in Parts.
	Body []byte
	// Parts follow Body in order. The slice and the bytes stay the handler's and must not change
	// before Done; views of Body's buffer behind Body are allowed.
	Parts []Part
	// Done is called once, after the last byte was handed to the socket or when it never will be.
	// It must not block: it runs between two replies.
	Done func()
}

// Part is a piece of a reply: Bytes, or Len bytes of File from Pos.
type Part struct {
	Bytes    []byte
	File     File
	Pos, Len int64
}

// File is what a part is read from. FD is the descriptor for sendfile; ok is false where there is
// none, and then the part is copied.
type File interface {
	io.ReaderAt
	FD() (fd uintptr, ok bool)
}

func (p *Part) size() int64 {
	if p.File != nil {
		return p.Len
	}
	return int64(len(p.Bytes))
}

func (r *Response) size() int64 {
	n := int64(len(r.Body))
	for i := range r.Parts {
		n += r.Parts[i].size()
	}
	return n
}

// Release gives the frame back early, so that its memory does not wait for the reply; Body must
// not be touched after it. It may be called before Reply, or during Serve. Without it, the frame
// goes back before the reply is written: a reply must not hold views of it.
func (q *Request) Release() {
	if q.released.Swap(true) {
		return
	}
	q.Conn.srv.memory.give(len(q.frame))
	PutBuffer(q.frame)
	q.frame, q.Body = nil, nil
}

// Reply answers the request. It never blocks. On a connection that died meanwhile it only calls
// r.Done.
func (q *Request) Reply(r Response) { q.answer(r, false) }

// NoReply ends a request that gets no answer (Produce with acks=0).
func (q *Request) NoReply() { q.answer(Response{}, true) }

func (q *Request) answer(r Response, silent bool) {
	c := q.Conn
	c.mu.Lock()
	if q.state != open {
		c.mu.Unlock()
		panic(fmt.Sprintf("wire: second answer to request %d (api key %d version %d)", q.CorrelationID, q.Key, q.Version))
	}
	q.resp, q.silent, q.state = r, silent, answered
	serving := c.mu.serving == q
	dead := c.mu.dead && !serving
	if dead {
		q.state = taken
	}
	wake := c.mu.head == q && !c.mu.writing && !serving && !dead
	c.mu.Unlock()
	if dead {
		q.finish()
	}
	if wake {
		c.wakeWriter()
	}
}

// finish ends a taken request: everything it holds goes back.
func (q *Request) finish() {
	q.Release()
	PutBuffer(q.resp.Body)
	done := q.resp.Done
	q.resp = Response{}
	if done != nil {
		done()
	}
}

// reset makes a finished request ready for the next frame.
func (q *Request) reset() {
	q.next, q.state, q.silent = nil, open, false
	q.released.Store(false)
}
