package harness

import (
	"bufio"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DialRaw opens a raw connection outside of one test; the caller closes it.
func DialRaw(addr string) (*Raw, error) {
	conn, err := net.DialTimeout("tcp", addr, Soon)
	if err != nil {
		return nil, err
	}
	return &Raw{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), fmt: kmsg.NewRequestFormatter(kmsg.FormatterClientID("raw"))}, nil
}

// Close closes the connection; r may be nil.
func (r *Raw) Close() {
	if r != nil {
		_ = r.conn.Close()
	}
}

// Within sets the deadline of the reads and writes that follow; Send sets its own again.
func (r *Raw) Within(d time.Duration) { _ = r.conn.SetDeadline(time.Now().Add(d)) }

// CloseWrite tells the broker that nothing more comes.
func (r *Raw) CloseWrite() error { return r.conn.(*net.TCPConn).CloseWrite() }

// Write writes bytes without touching the deadline.
func (r *Raw) Write(b []byte) (int, error) { return r.conn.Write(b) }

// Read reads what the broker sends, as it comes.
func (r *Raw) Read(b []byte) (int, error) { return r.in.Read(b) }
