package wire

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// diskFile is an *os.File with or without a descriptor to tell.
type diskFile struct {
	*os.File
	noFD bool
}

func (f diskFile) FD() (uintptr, bool) { return f.Fd(), !f.noFD }

func testFile(t testing.TB, size int) (diskFile, []byte) {
	t.Helper()
	data := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(data)
	name := filepath.Join(t.TempDir(), "segment")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return diskFile{File: f}, data
}

func TestFilePartsAreTheSameBytesBySendfileAndByCopy(t *testing.T) {
	file, data := testFile(t, 20<<20)
	for _, tc := range []struct {
		name string
		cfg  Config
		noFD bool
	}{
		{"sendfile", Config{}, false},
		{"copy", Config{DisableSendfile: true}, false},
		{"no descriptor", Config{}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := diskFile{file.File, tc.noFD}
			part := func(pos, n int64) Part { return Part{File: f, Pos: pos, Len: n} }
			s := startServer(t, tc.cfg, func(q *Request) {
				buf := append(GetBuffer(0), "first|second|last"...)
				q.Reply(Response{Body: buf[:6], Parts: []Part{
					part(5, 100), part(0, 5000),
					{Bytes: buf[6:13]},
					part(77, SendfileMin), part(3, SendfileMin-1),
					part(1<<20, 17<<20),
					{Bytes: buf[13:]},
					part(9, 0), part(20<<20-1, 1),
				}})
			})
			var want bytes.Buffer
			want.WriteString("first|")
			want.Write(data[5:105])
			want.Write(data[:5000])
			want.WriteString("second|")
			want.Write(data[77 : 77+SendfileMin])
			want.Write(data[3 : 3+SendfileMin-1])
			want.Write(data[1<<20 : 18<<20])
			want.WriteString("last")
			want.Write(data[20<<20-1:])
			c := dial(t, s)
			for i := range int32(5) {
				c.send(request(1, 2, i, "", nil))
				if id, got := c.recv(); id != i || !bytes.Equal(got, want.Bytes()) {
					t.Fatalf("reply %d of %d bytes differs", id, len(got))
				}
			}
		})
	}
}

func TestAFileThatEndsTooEarlyEndsTheConnection(t *testing.T) {
	file, _ := testFile(t, 200_000)
	for _, n := range []int64{300_000, 2000} {
		var dones atomic.Int32
		ended := make(chan error, 1)
		s := startServer(t, Config{}, func(q *Request) {
			c := q.Conn
			context.AfterFunc(c.Context(), func() { ended <- context.Cause(c.Context()) })
			q.Reply(Response{Parts: []Part{{File: file, Pos: 199_000, Len: n}}, Done: func() { dones.Add(1) }})
		})
		c := dial(t, s)
		c.send(request(1, 2, 1, "", nil))
		c.wantClosed()
		if err := receive(t, ended); !errors.Is(err, errFileShort) {
			t.Errorf("ended with %v", err)
		}
		if n := dones.Load(); n != 1 {
			t.Errorf("Done was called %d times", n)
		}
	}
}
