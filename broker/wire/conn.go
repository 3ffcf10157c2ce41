package wire

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Why a connection ended, as context.Cause of Conn.Context tells.
var (
	ErrClosed    = errors.New("handler closed the connection")
	ErrShutdown  = errors.New("server shuts down")
	ErrIdle      = errors.New("connection was idle")
	ErrSlowFrame = errors.New("peer sends a request too slowly")
	ErrSlowPeer  = errors.New("peer does not read its replies")
)

// Conn is one client connection.
type Conn struct {
	ClientHost string // the peer's IP address
	Listener   string // Listener.Name it came in by
	Principal  string // who the peer is; set by the handler
	State      any    // the handler's own state of this connection, touched by Serve only

	srv      *Server
	nc       net.Conn
	progress progress
	in       frames
	out      outbox       // used by whoever has mu.writing
	clientID string       // the last one seen; reader only
	mute     atomic.Int64 // nanoseconds that the reader pauses for after the request it serves
	refused  bool         // ends after the pause without having read anything; set before the reader starts
	janitor  watch        // janitor goroutine only

	ctx        context.Context // ends when the connection dies
	cancel     context.CancelCauseFunc
	readCtx    context.Context // ends when the reader must stop
	cancelRead context.CancelFunc
	draining   atomic.Bool

	wake chan struct{} // one token: the writer has something to look at
	slot chan struct{} // one token: a place in flight is free

	// mu guards the queue of requests in flight, which the answers leave in order.
	//
	//	inFlight = length of the queue + requests that are being written <= MaxInFlight
	//	serving is nil or the tail of the queue, and is never taken off it
	//	writing is true while one goroutine has the right to write to the socket
	mu struct {
		sync.Mutex
		head, tail  *Request
		serving     *Request
		free        *Request // recycled, linked by next
		inFlight    int
		writing     bool
		waitingSlot bool
		readerDone  bool
		dead        bool
	}
}

func newConn(s *Server, nc net.Conn, listener, host string) *Conn {
	c := &Conn{
		ClientHost: host, Listener: listener, srv: s, nc: nc,
		wake: make(chan struct{}, 1), slot: make(chan struct{}, 1),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.readCtx, c.cancelRead = context.WithCancel(c.ctx)
	st := newStream(nc, &c.progress)
	c.in = frames{st: st, p: &c.progress, mem: s.memory, maxFrame: s.cfg.MaxFrame}
	c.out = outbox{st: st, noSendfile: s.cfg.DisableSendfile}
	return c
}

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// LocalAddr is the address that the peer dialled.
func (c *Conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// Context ends when the connection dies. A peer that hangs up while Serve blocks is noticed only
// when the reader reads again.
func (c *Conn) Context() context.Context { return c.ctx }

// Draining ends when the server shuts down or the connection dies: a handler that waits for
// something to happen (a long poll) answers then with what it has.
func (c *Conn) Draining() <-chan struct{} { return c.readCtx.Done() }

// Close ends the connection at once, replies that wait included. The handler says why in its log.
func (c *Conn) Close() { c.kill(ErrClosed) }

func (c *Conn) readLoop() {
	err := c.readRequests()
	c.in.close()
	if !c.draining.Load() {
		c.kill(err)
		return
	}
	c.mu.Lock()
	c.mu.readerDone = true
	c.mu.Unlock()
	c.wakeWriter()
}

func (c *Conn) readRequests() error {
	if c.refused {
		if err := c.pause(); err != nil {
			return err
		}
		return ErrConnectionRate
	}
	for !c.draining.Load() {
		q, err := c.place()
		if err != nil {
			return err
		}
		if err := c.read(q); err != nil {
			return err
		}
		c.push(q)
		c.srv.handler.Serve(q)
		if err := c.served(q); err != nil {
			return err
		}
		if err := c.pause(); err != nil {
			return err
		}
	}
	return nil
}

// place waits until fewer than MaxInFlight requests are in flight and returns an unused Request.
func (c *Conn) place() (*Request, error) {
	for {
		c.mu.Lock()
		if c.mu.inFlight < c.srv.cfg.MaxInFlight {
			q := c.mu.free
			if q != nil {
				c.mu.free = q.next
			}
			c.mu.Unlock()
			if q == nil {
				return &Request{Conn: c}, nil
			}
			q.reset()
			return q, nil
		}
		c.mu.waitingSlot = true
		c.mu.Unlock()
		select {
		case <-c.slot:
		case <-c.readCtx.Done():
			return nil, context.Cause(c.readCtx)
		}
	}
}

// read fills q with the next request.
func (c *Conn) read(q *Request) error {
	frame, err := c.in.next(c.readCtx)
	if err != nil {
		return err
	}
	q.frame = frame
	h, err := parseHeader(frame, c.srv.cfg.HeaderVersion)
	if err != nil {
		q.Release()
		return err
	}
	if string(h.clientID) != c.clientID {
		c.clientID = string(h.clientID)
	}
	q.Key, q.Version, q.CorrelationID, q.ClientID = h.key, h.version, h.correlationID, c.clientID
	q.Body, q.flexibleReply, q.Received = h.body, h.flexibleReply, time.Now()
	return nil
}

func (c *Conn) push(q *Request) {
	c.mu.Lock()
	if c.mu.tail == nil {
		c.mu.head = q
	} else {
		c.mu.tail.next = q
	}
	c.mu.tail, c.mu.serving = q, q
	c.mu.inFlight++
	c.mu.Unlock()
}

// served ends the Serve call of q. If q was answered in it and its turn has come, the reader
// writes the reply itself. Once serving is nil, q may belong to somebody else.
func (c *Conn) served(q *Request) error {
	c.mu.Lock()
	c.mu.serving = nil
	if c.mu.dead {
		orphan := q.state == answered
		if orphan {
			q.state = taken
		}
		c.mu.Unlock()
		if orphan {
			q.finish()
		}
		return context.Cause(c.ctx)
	}
	batch := c.takeLocked()
	c.mu.Unlock()
	return c.writeOut(batch)
}

// takeLocked takes the answered requests at the head, up to the one being served, and with them
// the right to write. It returns nil if there is none or somebody else is writing.
func (c *Conn) takeLocked() *Request {
	first := c.mu.head
	if c.mu.writing || c.mu.dead {
		return nil
	}
	var last *Request
	for q := first; q != nil && q.state == answered && q != c.mu.serving; q = q.next {
		q.state = taken
		last = q
	}
	if last == nil {
		return nil
	}
	c.mu.head, last.next = last.next, nil
	if c.mu.head == nil {
		c.mu.tail = nil
	}
	c.mu.writing = true
	return first
}

// writeOut writes a taken batch and every further one that is complete by then. The connection is
// dead when it returns an error.
func (c *Conn) writeOut(batch *Request) error {
	for batch != nil {
		err := c.out.write(batch)
		last := batch
		n := 0
		for q := batch; q != nil; q = q.next {
			q.finish()
			last = q
			n++
		}
		if err != nil {
			c.kill(err)
		}
		c.mu.Lock()
		last.next, c.mu.free = c.mu.free, batch
		c.mu.inFlight -= n
		c.mu.writing = false
		freed := c.mu.waitingSlot
		c.mu.waitingSlot = false
		drained := c.mu.readerDone && c.mu.head == nil
		batch = c.takeLocked()
		c.mu.Unlock()
		if freed {
			poke(c.slot)
		}
		if drained {
			c.wakeWriter()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeLoop writes what the reader does not. It ends when the connection is dead, after it has
// finished what was answered; what is not answered then is finished by its Reply.
func (c *Conn) writeLoop() {
	for range c.wake {
		c.mu.Lock()
		if c.mu.dead {
			orphans := c.orphansLocked()
			c.mu.Unlock()
			for _, q := range orphans {
				q.finish()
			}
			return
		}
		batch := c.takeLocked()
		drained := c.mu.readerDone && c.mu.head == nil && !c.mu.writing
		c.mu.Unlock()
		if drained {
			c.kill(ErrShutdown)
			continue
		}
		_ = c.writeOut(batch) // an error has killed the connection, which woke this loop
	}
}

// orphansLocked empties the queue of a dead connection and returns what was answered.
func (c *Conn) orphansLocked() []*Request {
	var list []*Request
	for q := c.mu.head; q != nil; q = q.next {
		if q.state == answered && q != c.mu.serving {
			q.state = taken
			list = append(list, q)
		}
	}
	c.mu.head, c.mu.tail, c.mu.free = nil, nil, nil
	return list
}

// drain stops the reader; the connection dies when the last reply is out.
func (c *Conn) drain() {
	c.draining.Store(true)
	c.cancelRead()
	_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // an error means that it is closed already
}

// kill ends the connection at once. Only the first call counts.
func (c *Conn) kill(cause error) {
	c.mu.Lock()
	first := !c.mu.dead
	c.mu.dead = true
	c.mu.Unlock()
	if !first {
		return
	}
	c.srv.logEnd(c, cause) // before the peer can see it
	c.cancel(cause)
	_ = c.nc.Close()
	c.wakeWriter()
}

func (c *Conn) wakeWriter() { poke(c.wake) }

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
