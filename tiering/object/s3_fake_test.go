package object

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Values that must never appear in an error or a log line.
const (
	testKeyID  = "AKIDTESTTESTTEST"
	testSecret = "s3cr3t/with+chars"
)

// fakeS3 answers every request with the handler of the moment, and keeps what was
// asked.
type fakeS3 struct {
	*httptest.Server
	connections atomic.Int64
	mu          struct {
		sync.Mutex
		requests []string // "METHOD path?query"
		handler  http.HandlerFunc
	}
}

func newFakeS3(t *testing.T, h http.HandlerFunc) *fakeS3 {
	t.Helper()
	f := &fakeS3{}
	f.mu.handler = h
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.mu.requests = append(f.mu.requests, r.Method+" "+r.URL.RequestURI())
		h := f.mu.handler
		f.mu.Unlock()
		h(w, r)
	}))
	f.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			f.connections.Add(1)
		}
	}
	f.Start()
	t.Cleanup(f.Close)
	return f
}

func (f *fakeS3) set(h http.HandlerFunc) {
	f.mu.Lock()
	f.mu.handler = h
	f.mu.Unlock()
}

func (f *fakeS3) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.mu.requests)
}

// answerError is an S3 error answer.
func answerError(status int, code, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.Header().Set("X-Amz-Request-Id", "REQ1")
		w.WriteHeader(status)
		fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>%s</Message><RequestId>REQ1</RequestId></Error>`, code, message)
	}
}

// answerBytes is a GET's answer that honours Range.
func answerBytes(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"e"`)
		http.ServeContent(w, r, "", time.Unix(1700000000, 0), strings.NewReader(string(data)))
	}
}

func writeCredentials(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func keysFile(t *testing.T, id, secret string) string {
	t.Helper()
	return writeCredentials(t, "[default]\naws_access_key_id = "+id+"\naws_secret_access_key = "+secret+"\n")
}

// clearAWS removes the credentials of whoever runs the tests.
func clearAWS(t *testing.T) {
	t.Helper()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, "")
	}
}

// openTestS3 opens a store at an endpoint, with test credentials.
func openTestS3(t *testing.T, endpoint, params string, cfg Config) *S3 {
	t.Helper()
	clearAWS(t)
	if cfg.CredentialsFile == "" {
		cfg.CredentialsFile = keysFile(t, testKeyID, testSecret)
	}
	s, err := Open(t.Context(), "s3://bucket/pre/fix?endpoint="+url.QueryEscape(endpoint)+params, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.(*S3)
}

// noSecrets fails if an error gives away what it must not.
func noSecrets(t *testing.T, err error) {
	t.Helper()
	if err != nil && (strings.Contains(err.Error(), testSecret) || strings.Contains(err.Error(), testKeyID)) {
		t.Errorf("a secret is in %q", err)
	}
}

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }
