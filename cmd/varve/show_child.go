package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// childReady bounds a start: recovery after the kill takes well under a second.
	childReady = 30 * time.Second
	// childStop is what a clean stop may take before it is ended by force.
	childStop = 2900 * time.Millisecond
)

// child is the broker of a show: this binary again, as a process of its own that can be killed.
type child struct {
	dir              string
	kafka, admin     string
	internal, gossip string
	run              *childRun // the running process, or the last one
}

// childRun is one process.
type childRun struct {
	process *os.Process
	done    chan struct{} // closed when it has ended
	err     error         // how; set before done is closed
	wanted  atomic.Bool   // its end was asked for
}

// newChild chooses the addresses of the broker: the usual ports, or the next free ones.
func newChild(dir string, printf func(string, ...any)) (*child, error) {
	c := &child{dir: dir}
	used := map[int]bool{}
	for _, want := range []struct {
		address *string
		port    int
		udp     bool
	}{{&c.kafka, 9092, false}, {&c.internal, 9093, false}, {&c.admin, 9644, false}, {&c.gossip, 7946, true}} {
		port, err := freePort(want.port, want.udp, used)
		if err != nil {
			return nil, err
		}
		if port != want.port && !used[want.port] {
			printf("port %d is taken, using %d", want.port, port)
		}
		used[port] = true
		*want.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	return c, nil
}

// freePort is the first free port at or after the wanted one.
func freePort(want int, udp bool, used map[int]bool) (int, error) {
	const tries = 200
	for port := want; port < want+tries; port++ {
		if !used[port] && portFree(port, udp) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port from %d to %d", want, want+tries-1)
}

func portFree(port int, udp bool) bool {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	l.Close()
	if !udp {
		return true
	}
	p, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	p.Close()
	return true
}

func (c *child) logFile() string { return filepath.Join(c.dir, "broker.log") }

// start runs the broker and waits until it answers.
func (c *child) start(ctx context.Context) error {
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own binary: %w", err)
	}
	log, err := os.OpenFile(c.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("open broker log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(binary, "serve", "--dev", "--data", c.dir, "--listen", c.kafka, "--admin", c.admin,
		"--internal", c.internal, "--gossip", c.gossip, "-X", "log.retention.check.interval.ms=1s", "-X", "log.format=text")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = childAttributes()
	if c.run, err = startChild(cmd); err != nil {
		return fmt.Errorf("start broker: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, childReady)
	defer cancel()
	if err := c.awaitReady(ctx); err != nil {
		if exitErr := c.exited(); exitErr != nil {
			return exitErr
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("the broker is not ready after %s; its last words in %s:\n%s", childReady, c.logFile(), c.lastWords())
		}
		return err
	}
	return nil
}

// awaitReady polls /readyz and then asks over the Kafka protocol.
func (c *child) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !c.readyz(ctx) {
		select {
		case <-tick.C:
		case <-c.run.done:
			return c.run.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.kafka))
	if err != nil {
		return err
	}
	defer cl.Close()
	return cl.Ping(ctx)
}

func (c *child) readyz(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.admin+"/readyz", http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// exited is why the broker is gone although nobody asked it to, else nil.
func (c *child) exited() error {
	select {
	case <-c.run.done:
	default:
		return nil
	}
	if c.run.wanted.Load() {
		return nil
	}
	return fmt.Errorf("the broker ended by itself (%v); its last words in %s:\n%s", c.run.err, c.logFile(), c.lastWords())
}

// lastWords is the end of the broker's log.
func (c *child) lastWords() string {
	const most = 2048
	f, err := os.Open(c.logFile())
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(f, most))
	return string(bytes.TrimSpace(text))
}

// kill ends the broker as a power switch would, and waits until it is gone.
func (c *child) kill() error {
	c.run.wanted.Store(true)
	if err := c.run.process.Kill(); err != nil {
		return fmt.Errorf("kill broker: %w", err)
	}
	<-c.run.done
	return nil
}

// stop ends the broker cleanly, or by force if that takes too long.
func (c *child) stop() error {
	if c.run == nil {
		return nil
	}
	c.run.wanted.Store(true)
	select {
	case <-c.run.done:
		return nil
	default:
	}
	if err := c.run.process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop broker: %w", err)
	}
	deadline := time.NewTimer(childStop)
	defer deadline.Stop()
	select {
	case <-c.run.done:
		if c.run.err != nil {
			return fmt.Errorf("the broker did not stop cleanly (%w); its last words in %s:\n%s", c.run.err, c.logFile(), c.lastWords())
		}
		return nil
	case <-deadline.C:
		if err := c.kill(); err != nil {
			return err
		}
		return fmt.Errorf("the broker did not stop within %s and was killed; its log is %s", childStop, c.logFile())
	}
}

// wait stays until ctx ends, or until the broker does.
func (c *child) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-c.run.done:
		return c.exited()
	}
}
