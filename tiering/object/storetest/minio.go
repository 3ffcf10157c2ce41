package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"varve/tiering/object"
)

// SkipOrFail skips t for want of an outside program, with one line that says what
// to install. With VARVE_REQUIRE=all it fails instead, so that a machine which is
// meant to run everything cannot pass by skipping.
func SkipOrFail(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("VARVE_REQUIRE") == "all" {
		t.Fatalf("VARVE_REQUIRE=all: %s", reason)
	}
	t.Skip(reason)
}

// MinIO's credentials in tests.
const (
	MinIOUser     = "minioadmin"
	MinIOPassword = "minioadmin"
)

// MinIO is a running MinIO server. It ends with the test that started it.
type MinIO struct {
	Endpoint        string // "http://127.0.0.1:PORT"
	Dir             string // its disk
	CredentialsFile string // for object.Config
	cmd             *exec.Cmd
	exited          chan struct{}
	log             lockedBuffer
}

// StartMinIO starts bin/minio on a free port of 127.0.0.1, or skips.
func StartMinIO(t testing.TB) *MinIO {
	t.Helper()
	bin := filepath.Join(repositoryRoot(), "bin", "minio")
	if _, err := os.Stat(bin); err != nil {
		SkipOrFail(t, "bin/minio is missing; run scripts/minio.sh build")
	}
	m := &MinIO{Dir: t.TempDir()}
	m.CredentialsFile = WriteCredentials(t, MinIOUser, MinIOPassword)
	// A port that is free now may be taken a moment later; then MinIO exits and the
	// next one is tried.
	for range 5 {
		if m.start(t, bin) {
			return m
		}
	}
	t.Fatalf("minio does not start:\n%s", m.log.String())
	return nil
}

func (m *MinIO) start(t testing.TB, bin string) bool {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	return m.serve(t, bin, addr)
}

// Restart starts a stopped server again, on the same port and disk.
func (m *MinIO) Restart(t testing.TB) {
	t.Helper()
	if !m.serve(t, m.cmd.Path, strings.TrimPrefix(m.Endpoint, "http://")) {
		t.Fatalf("minio does not start again:\n%s", m.log.String())
	}
}

func (m *MinIO) serve(t testing.TB, bin, addr string) bool {
	m.Endpoint = "http://" + addr
	m.cmd = exec.Command(bin, "server", "--quiet", "--address", addr, m.Dir)
	m.cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+MinIOUser, "MINIO_ROOT_PASSWORD="+MinIOPassword,
		"MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CALLHOME_ENABLE=off")
	m.cmd.Stdout, m.cmd.Stderr = &m.log, &m.log
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.exited = make(chan struct{})
	go func() { _ = m.cmd.Wait(); close(m.exited) }()
	if m.waitReady(t) {
		t.Cleanup(m.Stop)
		return true
	}
	m.Stop()
	return false
}

// Stop kills the server and waits for its end. It may be called more than once.
func (m *MinIO) Stop() {
	_ = m.cmd.Process.Kill()
	<-m.exited
}

// waitReady polls, since a foreign process gives no other sign.
func (m *MinIO) waitReady(t testing.TB) bool {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.Endpoint+"/minio/health/cluster", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := client.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return true
			}
		}
		select {
		case <-tick.C:
		case <-m.exited:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// URL is a store URL in this server: bucket, a prefix of its own, and leave to
// make the bucket.
func (m *MinIO) URL(bucket string) string {
	return fmt.Sprintf("s3://%s/%s?endpoint=%s&create_bucket=true",
		bucket, strings.ToLower(rand.Text()), m.Endpoint)
}

// Config is an object.Config with this server's credentials.
func (m *MinIO) Config() object.Config { return object.Config{CredentialsFile: m.CredentialsFile} }

// WriteCredentials writes an AWS-format file for the length of the test.
func WriteCredentials(t testing.TB, user, password string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials")
	text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", user, password)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// S3 returns a function that gives each test an empty prefix in a real S3 store:
// the one that VARVE_TEST_S3 names (an s3:// URL, with credentials as usual), or
// else a MinIO server started for t.
func S3(t *testing.T) func(t *testing.T) object.Store {
	t.Helper()
	base, cfg := os.Getenv("VARVE_TEST_S3"), object.Config{}
	if base == "" {
		for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
			t.Setenv(name, "") // MinIO's own, and not those of whoever runs the tests
		}
		m := StartMinIO(t)
		base, cfg = m.URL("varve-test"), m.Config()
	}
	address, query, _ := strings.Cut(base, "?")
	openAt := func(t *testing.T, prefix string) object.Store {
		t.Helper()
		s, err := object.Open(context.WithoutCancel(t.Context()), strings.TrimSuffix(address, "/")+"/"+prefix+"?"+query, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := openAt(t, "probe-"+rand.Text())
	defer s.Close()
	report, err := object.Probe(t.Context(), s, "storetest") // also makes the bucket
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", report)
	return func(t *testing.T) object.Store {
		t.Helper()
		prefix := "t-" + rand.Text()
		t.Cleanup(func() { // the test has closed its store by then
			s := openAt(t, prefix)
			defer s.Close()
			removeAll(s)
		})
		return openAt(t, prefix)
	}
}

// removeAll leaves a shared bucket as it was, as well as it can.
func removeAll(s object.Store) {
	ctx := context.Background() // the test's own has ended
	_ = object.ListAll(ctx, s, "", func(i object.Info) error { return s.Delete(ctx, i.Key) })
}

// repositoryRoot is found from this file's place in it.
func repositoryRoot() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
