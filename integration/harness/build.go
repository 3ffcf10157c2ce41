package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// Root is the directory of the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Binary is the path of the varve binary: VARVE_BIN, or bin/varve, built once in each test run.
// VARVE_BUILD_FLAGS (for example -race) goes to go build.
var Binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("VARVE_BIN"); path != "" {
		return filepath.Abs(path)
	}
	// Into bin/, where go build sees that nothing changed and does not link again.
	path := filepath.Join(Root(), "bin", "varve")
	args := append([]string{"build", "-C", Root(), "-o", path}, strings.Fields(os.Getenv("VARVE_BUILD_FLAGS"))...)
	out, err := exec.Command("go", append(args, "./cmd/varve")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build varve: %w\n%s", err, out)
	}
	return path, nil
})
