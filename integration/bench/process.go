package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Ports below the range that systems give to outgoing connections, so that nobody's client takes a
// port between the stop of a broker and its next start.
const (
	firstPort = 18000
	lastPort  = 31999
)

// freeAddresses finds n loopback addresses that nobody listens on, each another.
func freeAddresses(n int) ([]string, error) {
	var open []net.Listener
	defer func() {
		for _, l := range open {
			_ = l.Close()
		}
	}()
	var out []string
	for range 1000 {
		if len(out) == n {
			return out, nil
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+rand.IntN(lastPort-firstPort))))
		if err != nil {
			continue
		}
		open = append(open, l) // held until all are found, so that none is found twice
		out = append(out, l.Addr().String())
	}
	return nil, errors.New("no free loopback ports")
}

// process is a child that ends at the latest with this process.
type process struct {
	cmd    *exec.Cmd
	log    *tailBuffer
	exited chan struct{} // closed when it has ended
	err    error         // of Wait; set before exited is closed
}

// startProcess runs a program; what it says goes to a bounded buffer, shown when something fails.
func startProcess(env []string, name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), log: new(tailBuffer), exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { // ends with the process, which kill waits for
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop asks with SIGTERM, and kills after the wait.
func (p *process) stop(wait time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-p.exited:
		return p.err
	case <-t.C:
		p.kill()
		return fmt.Errorf("%s still ran %s after SIGTERM", p.cmd.Path, wait)
	}
}

// kill ends the process as kill -9 does and waits for it; it may be called again.
func (p *process) kill() {
	select {
	case <-p.exited:
	default:
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// readyWait is how long a process may take to be ready: ten times what the slowest row needs.
const readyWait = time.Minute

// until asks probe again and again until it says nil, the process ends, or readyWait is over.
func (p *process) until(probe func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), readyWait)
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		err := probe()
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended (%w): %s", p.cmd.Path, p.err, p.log)
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %s: %w: %s", p.cmd.Path, readyWait, err, p.log)
		case <-again.C:
		}
	}
}

// tailBuffer keeps the last bytes written to it.
type tailBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

const tailBytes = 8 << 10

func (t *tailBuffer) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b.Write(p)
	if over := t.b.Len() - tailBytes; over > 0 {
		t.b.Next(over)
	}
	return len(p), nil
}

func (t *tailBuffer) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// child is this program again, as one of the raw limits. It listens, tells its address on its first
// line, and is killed when it is no longer needed.
type child struct {
	*process
	addr string
}

func startChild(args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addrs, err := freeAddresses(1)
	if err != nil {
		return nil, err
	}
	p, err := startProcess(nil, self, append(args, "-listen", addrs[0])...)
	if err != nil {
		return nil, err
	}
	c := &child{p, addrs[0]}
	err = p.until(func() error {
		nc, err := net.Dial("tcp", c.addr)
		if err != nil {
			return err
		}
		return nc.Close()
	})
	if err != nil {
		p.kill()
		return nil, err
	}
	return c, nil
}

// drain reads and drops n bytes of a connection (all of it with n < 0) as the fetcher does: the
// kernel drops them, they are not copied.
func drain(nc *net.TCPConn, n int64) (int64, error) {
	raw, err := nc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var got int64
	var fail error
	const most = 8 << 20
	err = raw.Read(func(fd uintptr) bool {
		for n < 0 || got < n {
			want := int64(most)
			if n >= 0 {
				want = min(want, n-got)
			}
			m, _, e := syscall.Syscall6(syscall.SYS_RECVFROM, fd, 0, uintptr(want), syscall.MSG_TRUNC, 0, 0)
			switch {
			case e == syscall.EAGAIN:
				return false
			case e == syscall.EINTR:
			case e != 0:
				fail = e
				return true
			case m == 0:
				if n >= 0 {
					fail = io.ErrUnexpectedEOF
				}
				return true
			default:
				got += int64(m)
			}
		}
		return true
	})
	return got, errors.Join(err, fail)
}
