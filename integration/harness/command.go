package harness

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"
)

// Result is how a command line ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Varve runs the command line against this broker.
func (b *Broker) Varve(t testing.TB, stdin string, args ...string) Result {
	t.Helper()
	return Run(t, stdin, []string{"VARVE_BROKERS=" + b.Addr}, args...)
}

// Run runs the varve binary with an environment beside the process's own, bounded by Late.
func Run(t testing.TB, stdin string, env []string, args ...string) Result {
	t.Helper()
	bin, err := Binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), Late)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = t.TempDir() // a default like ./varve-data stays inside the test
	if stdin != "" {
		cmd.Stdin = bytes.NewReader([]byte(stdin))
	}
	return run(t, cmd)
}

func run(t testing.TB, cmd *exec.Cmd) Result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %v: %v\n%s", cmd.Args, err, stderr.String())
	}
	return Result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// Output runs an outside program and gives its standard output; it fails the test if the program
// fails.
func Output(t testing.TB, stdin io.Reader, program string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Late)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = stdin, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run %v: %v\n%s", cmd.Args, err, tail(stderr.String(), 4096))
	}
	return out
}
