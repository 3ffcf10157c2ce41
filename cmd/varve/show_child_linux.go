package main

import (
	"os/exec"
	"runtime"
	"syscall"
)

// childAttributes puts the broker into its own process group, so that a Ctrl-C reaches only the
// show, which then stops the broker in order; and ends the broker if the show is killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// startChild starts the process and waits for it on one locked thread: Linux sends the parent
// death signal when the starting thread ends, not when the process does.
func startChild(cmd *exec.Cmd) (*childRun, error) {
	run := &childRun{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			run.process = cmd.Process
		}
		started <- err
		if err == nil {
			run.err = cmd.Wait()
			close(run.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return run, nil
}
