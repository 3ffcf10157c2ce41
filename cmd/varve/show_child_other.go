//go:build !linux

package main

import (
	"os/exec"
	"syscall"
)

// childAttributes puts the broker into its own process group, so that a Ctrl-C reaches only the
// show, which then stops the broker in order.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func startChild(cmd *exec.Cmd) (*childRun, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	run := &childRun{process: cmd.Process, done: make(chan struct{})}
	go func() {
		run.err = cmd.Wait()
		close(run.done)
	}()
	return run, nil
}
