package harness

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Raw is one connection that sends exactly the requests it is told to, in exactly the versions it
// is told to: clients hide what the protocol tests look at.
type Raw struct {
	conn net.Conn
	in   *bufio.Reader
	next int32
	fmt  *kmsg.RequestFormatter
}

// Dial opens a raw connection that ends with the test.
func (b *Broker) Dial(t testing.TB) *Raw {
	t.Helper()
	conn, err := net.DialTimeout("tcp", b.Addr, Soon)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &Raw{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), fmt: kmsg.NewRequestFormatter(kmsg.FormatterClientID("raw"))}
}

// Do sends one request in a version and gives its response.
func Do[R kmsg.Response](t testing.TB, r *Raw, version int16, req kmsg.Request) R {
	t.Helper()
	resp, err := r.TryDo(version, req)
	if err != nil {
		t.Fatalf("%s v%d: %v", kmsg.NameForKey(req.Key()), version, err)
	}
	return resp.(R)
}

// TryDo is Do for requests that the broker may answer by closing the connection.
func (r *Raw) TryDo(version int16, req kmsg.Request) (kmsg.Response, error) {
	req.SetVersion(version)
	r.next++
	if err := r.Send(r.fmt.AppendRequest(nil, req, r.next)); err != nil {
		return nil, err
	}
	body, err := r.Receive()
	if err != nil {
		return nil, err
	}
	if len(body) < 4 {
		return nil, errors.New("response without a correlation id")
	}
	if got := int32(binary.BigEndian.Uint32(body)); got != r.next {
		return nil, fmt.Errorf("correlation id %d, want %d", got, r.next)
	}
	body = body[4:]
	resp := req.ResponseKind()
	resp.SetVersion(version)
	if resp.IsFlexible() && resp.Key() != 18 { // ApiVersions keeps the old header (KIP-511)
		if len(body) == 0 || body[0] != 0 {
			return nil, errors.New("response header with tags")
		}
		body = body[1:]
	}
	return resp, resp.ReadFrom(body)
}

// Send writes bytes as they are.
func (r *Raw) Send(b []byte) error {
	_ = r.conn.SetDeadline(time.Now().Add(Late))
	_, err := r.conn.Write(b)
	return err
}

// Receive reads one frame.
func (r *Raw) Receive() ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r.in, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > 1<<30 {
		return nil, fmt.Errorf("frame of %d bytes", n)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(r.in, body)
	return body, err
}
