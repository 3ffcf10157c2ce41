package harness

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// MinIO is a running MinIO server.
type MinIO struct {
	Endpoint string // http://127.0.0.1:PORT
	Dir      string

	addr   string
	env    []string
	log    *logBuffer
	cmd    *exec.Cmd
	exited chan struct{}
}

// Credentials are the environment that lets a broker in.
var Credentials = []string{"AWS_ACCESS_KEY_ID=minioadmin", "AWS_SECRET_ACCESS_KEY=minioadmin"}

var buildMinIO = sync.OnceValues(func() (string, error) {
	script := filepath.Join(Root(), "scripts", "minio.sh")
	if out, err := exec.Command("sh", script, "build").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s build: %w\n%s", script, err, out)
	}
	return filepath.Join(Root(), "bin", "minio"), nil
})

// StartMinIO runs a MinIO server that ends with the test, with env on top of its environment. It is
// built from its own module the first time, which takes minutes.
func StartMinIO(t testing.TB, env ...string) *MinIO {
	t.Helper()
	if _, err := buildMinIO(); err != nil {
		t.Fatal(err)
	}
	addrs, err := FreeAddresses(1)
	if err != nil {
		t.Fatal(err)
	}
	m := &MinIO{Endpoint: "http://" + addrs[0], Dir: t.TempDir(), addr: addrs[0], env: env, log: new(logBuffer)}
	m.Start(t)
	t.Cleanup(func() {
		m.Stop()
		if t.Failed() {
			t.Logf("log of MinIO:\n%s", tail(m.log.String(), 4096))
		}
	})
	return m
}

// Start runs the server, again after a Stop, on the same port and directory.
func (m *MinIO) Start(t testing.TB) {
	t.Helper()
	bin, err := buildMinIO()
	if err != nil {
		t.Fatal(err)
	}
	m.cmd = exec.Command(bin, "server", "--quiet", "--address", m.addr, m.Dir)
	m.cmd.Env = append(os.Environ(), "MINIO_ROOT_USER=minioadmin", "MINIO_ROOT_PASSWORD=minioadmin",
		"MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CALLHOME_ENABLE=off")
	m.cmd.Env = append(m.cmd.Env, m.env...)
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd, exited := m.cmd, make(chan struct{})
	m.exited = exited
	go func() { // ends with the process, which Stop waits for
		_ = cmd.Wait()
		close(exited)
	}()
	err = eventuallyUnless(Late, exited, func() error {
		resp, err := http.Get(m.Endpoint + "/minio/health/cluster")
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("answers %s", resp.Status)
		}
		return nil
	})
	if err != nil {
		m.Stop()
		t.Fatalf("MinIO is not ready: %v\n%s", err, m.log.String())
	}
}

// Stop kills the server and waits for its end; it may be called more than once.
func (m *MinIO) Stop() {
	select {
	case <-m.exited:
	default:
		_ = m.cmd.Process.Kill()
		<-m.exited
	}
}

// Store is the URL of a prefix in a bucket that the broker creates.
func (m *MinIO) Store(bucket, prefix string) string {
	return fmt.Sprintf("s3://%s/%s?endpoint=%s&region=us-east-1&path_style=true&create_bucket=true", bucket, prefix, m.Endpoint)
}
