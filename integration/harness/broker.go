package harness

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Options say how a broker is started.
type Options struct {
	// Dir holds the data directory and the bucket; empty is a temporary directory of the test.
	Dir string
	// Store is the URL of the object store; empty is a directory in Dir, NoStore is none.
	Store string
	// Settings are -X KEY=VALUE, over those that every test broker gets.
	Settings map[string]string
	Env      []string
}

// NoStore starts a broker without an object store.
const NoStore = "none"

// testSettings make a broker act soon, which is all that differs from a user's.
var testSettings = map[string]string{
	"log.format":                      "text",
	"log.retention.check.interval.ms": "100ms",
	"varve.tier.reader.grace.ms":      "1s",
	"varve.disk.reserve.bytes":        "64MiB",
}

// Broker is one varve process, or the next one on the same directory after a restart.
type Broker struct {
	Addr   string // of Kafka clients
	Admin  string // http://host:port
	Data   string // data directory
	Bucket string // directory of the dir:// store; "" with another store

	args   []string
	env    []string
	log    *logBuffer
	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd has ended
	err    error         // of cmd.Wait; set before exited is closed
}

// Start runs a broker that lives as long as the test and prints its log if the test fails.
func Start(t testing.TB, o Options) *Broker {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	b, err := Launch(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.End()
		b.report(t, 0)
	})
	return b
}

// Launch runs a broker outside of one test; the caller ends it with End.
func Launch(o Options) (*Broker, error) {
	b, err := prepare(o)
	if err != nil {
		return nil, err
	}
	if err := b.start(); err != nil {
		b.End()
		return nil, fmt.Errorf("%w\n%s", err, b.Log())
	}
	return b, nil
}

func prepare(o Options) (*Broker, error) {
	addrs, err := FreeAddresses(4)
	if err != nil {
		return nil, err
	}
	b := &Broker{
		Addr: addrs[0], Admin: "http://" + addrs[1], Data: filepath.Join(o.Dir, "data"),
		env: append(os.Environ(), o.Env...), log: new(logBuffer),
	}
	b.args = []string{
		"serve", "--data", b.Data, "--listen", addrs[0], "--admin", addrs[1], "--internal", addrs[2], "--gossip", addrs[3],
	}
	switch o.Store {
	case "":
		b.Bucket = filepath.Join(o.Dir, "bucket")
		if err := os.MkdirAll(b.Bucket, 0o755); err != nil {
			return nil, err
		}
		b.args = append(b.args, "--store", "dir://"+b.Bucket)
	case NoStore:
	default:
		b.args = append(b.args, "--store", o.Store)
	}
	settings := maps.Clone(testSettings)
	maps.Copy(settings, o.Settings)
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		b.args = append(b.args, "-X", key+"="+settings[key])
	}
	return b, nil
}

func (b *Broker) start() error {
	bin, err := Binary()
	if err != nil {
		return err
	}
	b.cmd = exec.Command(bin, b.args...)
	b.cmd.Env = b.env
	b.cmd.Stdout, b.cmd.Stderr = b.log, b.log
	if err := b.cmd.Start(); err != nil {
		return fmt.Errorf("start varve: %w", err)
	}
	cmd, exited := b.cmd, make(chan struct{})
	b.exited = exited
	go func() { // ends with the process, which End waits for
		b.err = cmd.Wait()
		close(exited)
	}()
	if err := eventuallyUnless(Late, exited, b.ready); err != nil {
		return fmt.Errorf("wait for %s/readyz: %w", b.Admin, err)
	}
	return nil
}

func (b *Broker) ready() error {
	resp, err := http.Get(b.Admin + "/readyz")
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("readyz answers %s", resp.Status)
	}
	return nil
}

// Log is everything that the broker wrote so far.
func (b *Broker) Log() string { return b.log.String() }

// Pid is the process id.
func (b *Broker) Pid() int { return b.cmd.Process.Pid }

// stopWithin is the bound of a clean stop: 3 s are promised, and a loaded machine gets as much again.
const stopWithin = 6 * time.Second

// Stop asks the broker to end with SIGTERM and fails the test unless it ends soon with exit code 0.
func (b *Broker) Stop(t testing.TB) {
	t.Helper()
	if err := b.stop(); err != nil {
		t.Fatalf("stop broker: %v", err)
	}
}

func (b *Broker) stop() error {
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("signal: %w", err)
	}
	late := time.NewTimer(stopWithin)
	defer late.Stop()
	select {
	case <-b.exited:
	case <-late.C:
		_ = b.cmd.Process.Signal(syscall.SIGQUIT) // its stacks go to the log
		<-b.exited
		return fmt.Errorf("still running %s after SIGTERM", stopWithin)
	}
	if b.err != nil {
		return fmt.Errorf("after SIGTERM: %w", b.err)
	}
	return nil
}

// Kill ends the broker as kill -9 does.
func (b *Broker) Kill(t testing.TB) {
	t.Helper()
	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatalf("kill broker: %v", err)
	}
	<-b.exited
}

// Restart starts the broker again with the same flags, after Stop or Kill.
func (b *Broker) Restart(t testing.TB) {
	t.Helper()
	if err := b.start(); err != nil {
		t.Fatalf("restart broker: %v", err)
	}
}

// End makes sure that the process is gone, and waits for it.
func (b *Broker) End() {
	if b.exited == nil {
		return
	}
	select {
	case <-b.exited:
	default:
		_ = b.cmd.Process.Kill()
		<-b.exited
	}
}

// Close stops a broker outside of one test and tells whether it ended well.
func (b *Broker) Close() error {
	defer b.End()
	return errors.Join(b.stop(), b.faults(0))
}

// Watch prints what the broker logs from now on if the test fails, and fails the test if that shows
// a panic or a data race. It is for tests that share a broker.
func (b *Broker) Watch(t testing.TB) {
	from := b.log.len()
	t.Cleanup(func() { b.report(t, from) })
}

func (b *Broker) report(t testing.TB, from int) {
	if err := b.faults(from); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Logf("log of the broker at %s:\n%s", b.Addr, tail(b.log.since(from), 16<<10))
	}
}

// faults are lines that no test may provoke.
func (b *Broker) faults(from int) error {
	log := b.log.since(from)
	for _, sign := range []string{"panic: ", "panic=", "DATA RACE", "fatal error: "} {
		if strings.Contains(log, sign) {
			return fmt.Errorf("the broker's log has %q", sign)
		}
	}
	return nil
}

func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "[...]" + s[len(s)-n:]
}
