package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"

	"github.com/minio/minio-go/v7"
)

// The relay is what cold fetch is measured against: one process that gets the same objects with a few
// ranged GETs in flight and writes the bytes unchanged to its client.
const (
	relayRange    = 4 << 20
	relayInFlight = 4
)

func relayCmd(fs *flag.FlagSet) func() (obj, error) {
	listen := fs.String("listen", "127.0.0.1:0", "host:port; each connection gets all objects, in order")
	endpoint := fs.String("endpoint", "", "host:port of the store")
	objects := fs.String("objects", "", "JSON file with the objects' keys and sizes")
	return func() (obj, error) {
		b, err := os.ReadFile(*objects)
		if err != nil {
			return nil, err
		}
		var list []object
		if err := json.Unmarshal(b, &list); err != nil {
			return nil, err
		}
		c, err := s3Client(*endpoint, &http.Transport{MaxIdleConnsPerHost: 2 * relayInFlight, DisableCompression: true, ReadBufferSize: 256 << 10})
		if err != nil {
			return nil, err
		}
		return nil, serveEach(*listen, func(nc *net.TCPConn) error { return relay(c, list, nc) })
	}
}

// serveEach runs f for one connection after the other, until the process is killed.
func serveEach(listen string, f func(*net.TCPConn) error) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	for {
		nc, err := l.Accept()
		if err != nil {
			return err
		}
		unpaced(nc.(*net.TCPConn))
		if err := f(nc.(*net.TCPConn)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		_ = nc.Close()
	}
}

// unpaced takes the default of bbr systems, pacing, from a loopback connection, as the broker does:
// a raw limit that pays for it would flatter the broker.
func unpaced(nc *net.TCPConn) {
	raw, err := nc.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptString(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, "reno")
	})
}

// piece is one ranged GET, under way or done.
type piece struct {
	buf  []byte
	done chan error
}

func relay(c *minio.Core, list []object, nc *net.TCPConn) error {
	// A byte from the client starts it; a connection that only looks gets nothing.
	if _, err := nc.Read(make([]byte, 1)); err != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	free := make(chan []byte, relayInFlight)
	for range relayInFlight {
		free <- make([]byte, relayRange)
	}
	order := make(chan piece, relayInFlight)
	go func() { // ends with the list, or when the writer below gives up and cancels
		defer close(order)
		for _, o := range list {
			for at := int64(0); at < o.Size; at += relayRange {
				var buf []byte
				select {
				case buf = <-free:
				case <-ctx.Done():
					return
				}
				p := piece{buf[:min(relayRange, o.Size-at)], make(chan error, 1)}
				go func() { p.done <- getRange(ctx, c, o.Key, at, p.buf) }()
				order <- p // has as many places as there are buffers
			}
		}
	}()
	for p := range order {
		if err := <-p.done; err != nil {
			return err
		}
		if _, err := nc.Write(p.buf); err != nil {
			return err
		}
		free <- p.buf[:relayRange]
	}
	return nil
}

func getRange(ctx context.Context, c *minio.Core, key string, at int64, dst []byte) error {
	var opt minio.GetObjectOptions
	if err := opt.SetRange(at, at+int64(len(dst))-1); err != nil {
		return err
	}
	body, _, _, err := c.GetObject(ctx, bucket, key, opt)
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	defer body.Close()
	_, err = io.ReadFull(body, dst)
	return err
}

// runRelay streams all objects once through a relay process to this one.
func (l *lab) runRelay(m *minioServer, list []object) (obj, error) {
	b, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	file, err := l.tempFile("objects.json", b)
	if err != nil {
		return nil, err
	}
	r, err := startChild("relay", "-endpoint", m.addr, "-objects", file, "-procs", "2")
	if err != nil {
		return nil, err
	}
	defer r.kill()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	user, sys := procCPU(m.pid())
	mt := meter{pids: []int{r.pid()}}
	mt.start()
	if _, err := nc.Write([]byte{1}); err != nil {
		return nil, err
	}
	n, err := drain(nc.(*net.TCPConn), -1)
	mt.stop()
	var want int64
	for _, o := range list {
		want += o.Size
	}
	if err == nil && n != want {
		err = fmt.Errorf("the relay sent %d of %d bytes: %s", n, want, r.log)
	}
	o := mt.report(n, 0, 0)
	userEnd, sysEnd := procCPU(m.pid())
	o["store_cpu_s"] = userEnd + sysEnd - user - sys
	return o, err
}
