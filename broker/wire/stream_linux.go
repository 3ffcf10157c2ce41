package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxVec is the kernel's limit of pieces in one call (UIO_MAXIOV).
const maxVec = 1024

// sendfileChunk bounds one sendfile call. It is far above a socket buffer, so the socket decides.
const sendfileChunk = 4 << 20

// tcpStream calls the system itself, because net.Conn has no readv, no MSG_MORE and no sendfile
// with an explicit offset (its ReadFrom moves the file position, which other connections share).
// It waits in the runtime's poller like any net.Conn.
type tcpStream struct {
	raw syscall.RawConn
	p   *progress

	// rd belongs to the reader, wr to whoever writes. The functions are kept so that a call
	// allocates no closure.
	rd struct {
		step func(fd uintptr) bool
		src  source
		vec  [2][]byte
		n    int
		err  error
	}
	wr struct {
		step, file func(fd uintptr) bool
		vec        []unix.Iovec // what is still to write
		backing    []unix.Iovec
		msg        unix.Msghdr
		flags      int
		fd         int
		pos, left  int64
		err        error
	}
}

func newStream(nc net.Conn, p *progress) stream {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return &copyStream{nc: nc, p: p}
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return &copyStream{nc: nc, p: p}
	}
	unpaced(tcp, raw)
	s := &tcpStream{raw: raw, p: p}
	s.rd.step, s.wr.step, s.wr.file = s.readStep, s.writeStep, s.fileStep
	return s
}

// unpaced turns pacing off towards a peer on this machine. Where the system's default is bbr, every
// loopback connection sends in small bursts from a timer, which costs a reply of record batches a
// quarter of its CPU and protects no network. Reno is always allowed. It is a hint: an error leaves
// the system's choice.
func unpaced(tcp *net.TCPConn, raw syscall.RawConn) {
	peer, ok := tcp.RemoteAddr().(*net.TCPAddr)
	if !ok || !peer.IP.IsLoopback() {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno")
	})
}

func (s *tcpStream) read(src source) (int, error) {
	s.rd.src, s.rd.n, s.rd.err = src, 0, nil
	if err := s.raw.Read(s.rd.step); err != nil {
		return 0, err
	}
	if s.rd.err != nil {
		return 0, os.NewSyscallError("read", s.rd.err)
	}
	if s.rd.n == 0 {
		return 0, io.EOF
	}
	s.p.received.Add(uint64(s.rd.n))
	return s.rd.n, nil
}

func (s *tcpStream) readStep(fd uintptr) bool {
	a, b := s.rd.src.buffers()
	var n int
	var err error
	for {
		switch {
		case len(a) == 0:
			n, err = unix.Read(int(fd), b)
		case len(b) == 0:
			n, err = unix.Read(int(fd), a)
		default:
			s.rd.vec = [2][]byte{a, b}
			n, err = unix.Readv(int(fd), s.rd.vec[:])
		}
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	s.rd.vec = [2][]byte{}
	if errors.Is(err, unix.EAGAIN) {
		s.rd.src.blocked()
		return false
	}
	s.rd.n, s.rd.err = max(n, 0), err
	return true
}

func (s *tcpStream) writev(bufs [][]byte, more bool) error {
	vec := s.wr.backing[:0]
	for _, b := range bufs {
		if len(b) > 0 {
			v := unix.Iovec{Base: unsafe.SliceData(b)}
			v.SetLen(len(b))
			vec = append(vec, v)
		}
	}
	s.wr.backing, s.wr.vec, s.wr.err, s.wr.flags = vec, vec, nil, unix.MSG_NOSIGNAL
	if more {
		s.wr.flags |= unix.MSG_MORE
	}
	err := s.raw.Write(s.wr.step)
	s.p.setStalled(false)
	clear(s.wr.backing)
	s.wr.vec, s.wr.msg = nil, unix.Msghdr{}
	if err != nil {
		return err
	}
	return os.NewSyscallError("write", s.wr.err)
}

func (s *tcpStream) writeStep(fd uintptr) bool {
	for len(s.wr.vec) > 0 {
		n := min(len(s.wr.vec), maxVec)
		s.wr.msg = unix.Msghdr{Iov: &s.wr.vec[0]}
		s.wr.msg.SetIovlen(n)
		flags := s.wr.flags
		if n < len(s.wr.vec) {
			flags |= unix.MSG_MORE
		}
		sent, _, errno := unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&s.wr.msg)), uintptr(flags))
		switch errno {
		case 0:
			s.p.sent.Add(uint64(sent))
			s.wr.vec = advance(s.wr.vec, uint64(sent))
		case unix.EINTR:
		case unix.EAGAIN:
			s.p.setStalled(true)
			return false
		default:
			s.wr.err = errno
			return true
		}
	}
	return true
}

// advance drops the first n bytes of vec.
func advance(vec []unix.Iovec, n uint64) []unix.Iovec {
	for n > 0 {
		v := &vec[0]
		if size := uint64(v.Len); n >= size {
			n -= size
			vec = vec[1:]
			continue
		}
		left := uint64(v.Len) - n
		v.Base = (*byte)(unsafe.Add(unsafe.Pointer(v.Base), n))
		v.SetLen(int(left))
		return vec
	}
	return vec
}

func (s *tcpStream) sendfile(fd uintptr, pos, n int64) (bool, error) {
	s.wr.fd, s.wr.pos, s.wr.left, s.wr.err = int(fd), pos, n, nil
	err := s.raw.Write(s.wr.file)
	s.p.setStalled(false)
	if err != nil {
		return true, err
	}
	unsupported := errors.Is(s.wr.err, unix.EINVAL) || errors.Is(s.wr.err, unix.ENOSYS)
	if unsupported && s.wr.left == n {
		return false, nil
	}
	return true, os.NewSyscallError("sendfile", s.wr.err)
}

func (s *tcpStream) fileStep(fd uintptr) bool {
	for s.wr.left > 0 {
		n, err := unix.Sendfile(int(fd), s.wr.fd, &s.wr.pos, int(min(s.wr.left, sendfileChunk)))
		switch {
		case err == nil && n == 0:
			s.wr.err = errFileShort
			return true
		case err == nil:
			s.wr.left -= int64(n)
			s.p.sent.Add(uint64(n))
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			s.p.setStalled(true)
			return false
		default:
			s.wr.err = err
			return true
		}
	}
	return true
}
