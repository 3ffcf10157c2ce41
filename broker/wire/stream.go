package wire

import (
	"io"
	"net"
	"sync/atomic"
)

// stream is the byte level of one connection. read is called by the reader only; the write side by
// one goroutine at a time. Closing the net.Conn ends both.
type stream interface {
	// read fills what src offers, as far as one call of the system brings, and returns the number of
	// bytes; never 0 without an error.
	read(src source) (int, error)
	// writev writes all of bufs. more says that something follows at once.
	writev(bufs [][]byte, more bool) error
	// sendfile writes [pos, pos+n) of a file. ok is false if this stream cannot, and nothing was written.
	sendfile(fd uintptr, pos, n int64) (ok bool, err error)
}

// source says where received bytes go: first all of a, then b; not both are empty. blocked is
// called before a wait, so that a connection that waits need not hold a buffer; buffers is called
// again after it.
type source interface {
	buffers() (a, b []byte)
	blocked()
}

// progress is what the janitor watches: no timer is set on the hot path.
type progress struct {
	received atomic.Uint64 // bytes
	sent     atomic.Uint64 // bytes
	frames   atomic.Uint64 // frames read whole
	phase    atomic.Uint32 // what the reader does
	large    atomic.Bool   // the frame in progress is longer than trustedFrame
	stall    atomic.Uint64 // odd while a write waits for the peer
}

// What the reader does.
const (
	phaseIdle  = iota // between two frames
	phaseFrame        // a frame has begun
	phaseBusy         // serves a request, or waits for memory or for a place in flight
)

func (p *progress) setStalled(on bool) {
	if stalled := p.stall.Load()&1 == 1; stalled != on {
		p.stall.Add(1)
	}
}

// copyStream is the portable stream: plain reads and writes.
type copyStream struct {
	nc      net.Conn
	p       *progress
	backing net.Buffers
}

// copyChunk bounds one write, so that progress shows while a long reply goes out.
const copyChunk = 256 << 10

func (s *copyStream) read(src source) (int, error) {
	a, b := src.buffers()
	if len(a) == 0 {
		a = b
	}
	n, err := s.nc.Read(a)
	if n > 0 {
		s.p.received.Add(uint64(n))
		return n, nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return 0, err
}

func (s *copyStream) writev(bufs [][]byte, _ bool) error {
	s.p.setStalled(true)
	defer s.p.setStalled(false)
	for i := 0; i < len(bufs); {
		// Short runs of buffers go out together, long buffers in chunks.
		run, size := s.backing[:0], 0
		for ; i < len(bufs) && size+len(bufs[i]) <= copyChunk; i++ {
			run, size = append(run, bufs[i]), size+len(bufs[i])
		}
		if len(run) == 0 {
			run = append(run, bufs[i][:copyChunk])
			bufs[i] = bufs[i][copyChunk:]
		}
		s.backing = run[:0]
		n, err := run.WriteTo(s.nc)
		s.p.sent.Add(uint64(n))
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *copyStream) sendfile(uintptr, int64, int64) (bool, error) { return false, nil }
