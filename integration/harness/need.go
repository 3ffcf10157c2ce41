package harness

import (
	"os"
	"os/exec"
	"testing"
)

// Need skips the test unless an outside program is there, with one line that names its Debian
// package. With VARVE_REQUIRE=all it fails instead, so that a machine that is meant to run
// everything cannot pass by skipping.
func Need(t testing.TB, program, debianPackage string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		Skip(t, program+" is missing; install the package "+debianPackage)
	}
}

// Skip ends the test for want of something outside, or fails it with VARVE_REQUIRE=all.
func Skip(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("VARVE_REQUIRE") == "all" {
		t.Fatalf("VARVE_REQUIRE=all: %s", reason)
	}
	t.Skip(reason)
}
