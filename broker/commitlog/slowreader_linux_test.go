package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSlowReaderOfSentFileNeverSeesAnotherSegment sends segments by sendfile to a socket that nobody
// reads, drops and recycles the files, overwrites whatever was recycled with other batches, and
// only then reads the socket. Its queue refers to page cache pages: were such a file recycled,
// the reader would get the new batches.
func TestSlowReaderOfSentFileNeverSeesAnotherSegment(t *testing.T) {
	dir := t.TempDir()
	steps := &stepCount{}
	e := osEnv(t, dir, func(c *EnvConfig) { c.OnStep = steps.note })
	const segment = 256 << 10
	l := openTestLog(t, e, Options{Dir: osDir(0, dir), Config: Config{SegmentBytes: segment, RecycleWindow: time.Hour, RecycleOwn: true}})
	batch := func(o int64) []byte {
		return batchOf(fmt.Sprintf("offset %09d %s", o, bytes.Repeat([]byte{byte('a' + o%26)}, 4000)), 1, 1)
	}
	fill := func(segments int) {
		for n := len(l.list()); len(l.list()) < n+segments; {
			l.mustAppend(t, 1, batch(l.LEO()))
		}
		l.w.wait(l.LEO())
	}
	drop := func() {
		if _, _, err := l.DropBefore(l.LEO()); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 6 {
		fill(4)
		client, server := tcpPair(t)
		sent := sendAll(t, server, l.Log, l.LocalStart(), l.list()[2].base)
		fill(3)
		drop()
		fill(3) // into whatever was recycled
		drop()
		mustNot(t, server.Close())
		got, err := io.ReadAll(client)
		mustNot(t, err)
		if !bytes.Equal(got, sent) {
			t.Fatalf("round %d: the reader got other bytes than were in the log: %d, %d", round, len(got), len(sent))
		}
		mustNot(t, client.Close())
	}
	if steps.count("recycle.taken") == 0 {
		t.Fatalf("nothing was recycled: %v", steps.seen)
	}
}

func tcpPair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	mustNot(t, err)
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	mustNot(t, err)
	s, err := ln.Accept()
	mustNot(t, err)
	client, server = c.(*net.TCPConn), s.(*net.TCPConn)
	mustNot(t, client.SetReadBuffer(4<<20))
	mustNot(t, server.SetWriteBuffer(4<<20))
	return client, server
}

// sendAll sends [from, end) by sendfile, as far as the socket takes it, and answers the bytes of the
// log that it sent.
func sendAll(t *testing.T, c *net.TCPConn, l *Log, from, end int64) (sent []byte) {
	t.Helper()
	raw, err := c.SyscallConn()
	mustNot(t, err)
	for from < end {
		s, err := l.Read(from, end, 128<<10, true)
		mustNot(t, err)
		all, err := s.ReadAll(nil)
		mustNot(t, err)
		s.MarkSent()
		n := 0
		for _, p := range s.Parts {
			fd, ok := p.File.FD()
			if !ok {
				t.Fatal("no descriptor")
			}
			off := p.Pos
			var errno error
			mustNot(t, raw.Write(func(sock uintptr) bool {
				k, err := unix.Sendfile(int(sock), int(fd), &off, int(p.Len))
				n, errno = n+k, err
				return true
			}))
			if errors.Is(errno, syscall.EAGAIN) || off < p.Pos+p.Len {
				s.Release()
				return append(sent, all[:n]...)
			}
			if errno != nil {
				t.Fatal(os.NewSyscallError("sendfile", errno))
			}
		}
		sent = append(sent, all...)
		from = s.Next
		s.Release()
	}
	return sent
}
