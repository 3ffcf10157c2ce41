package harness

import (
	"fmt"
	"os/exec"
	"syscall"
	"time"
)

// Relaunch starts the broker with the same flags and env beside its own environment, and does not
// wait for anything: it may be killed, or kill itself, before it is ready. The process before it
// must have ended.
func (b *Broker) Relaunch(env ...string) error {
	bin, err := Binary()
	if err != nil {
		return err
	}
	b.cmd = exec.Command(bin, b.args...)
	b.cmd.Env = append(b.env[:len(b.env):len(b.env)], env...)
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
	return nil
}

// WaitReady waits until the broker answers /readyz with 200, or has ended.
func (b *Broker) WaitReady(within time.Duration) error {
	return eventuallyUnless(within, b.exited, b.ready)
}

// Exited is closed once the process has ended.
func (b *Broker) Exited() <-chan struct{} { return b.exited }

// Signal sends a signal to the process, whether it still runs or not.
func (b *Broker) Signal(s syscall.Signal) { _ = b.cmd.Process.Signal(s) }

// DiedOf tells the signal that ended the process; ok is false if it ended by itself or still runs.
func (b *Broker) DiedOf() (s syscall.Signal, ok bool) {
	select {
	case <-b.exited:
	default:
		return 0, false
	}
	status, ok := b.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return 0, false
	}
	return status.Signal(), true
}

// Signal sends a signal to the MinIO server: SIGSTOP makes it a store that takes requests and never
// answers, SIGCONT ends that.
func (m *MinIO) Signal(s syscall.Signal) { _ = m.cmd.Process.Signal(s) }
