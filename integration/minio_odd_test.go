package integration

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"varve/integration/harness"
)

// saysOfItsStore starts a broker that cannot use its store, and expects that it says so in one line
// with all the words, is ready all the same, and takes records.
func saysOfItsStore(t *testing.T, store string, words ...string) {
	t.Helper()
	b := harness.Start(t, harness.Options{Store: store, Env: harness.Credentials})
	harness.Eventually(t, harness.Soon, "the store's trouble is told", func() error {
		status, body := page(t, b, "/readyz?verbose")
		if status != http.StatusOK {
			return fmt.Errorf("status %d: %s", status, body)
		}
		for line := range strings.Lines(body) {
			all := strings.HasPrefix(line, "[~] object store:")
			for _, w := range words {
				all = all && strings.Contains(line, w)
			}
			if all {
				return nil
			}
		}
		return fmt.Errorf("no line with all of %q: %s", words, body)
	})
	b.CreateTopic(t, "hot", 1, nil)
	b.Produce(t, "hot", 0, []byte("x"))
	b.Stop(t)
}

func TestAnotherRegionIsNamedWithTheBucketsOwn(t *testing.T) {
	m := harness.StartMinIO(t, "MINIO_SITE_REGION=eu-north-7")
	b := harness.Start(t, harness.Options{Store: strings.Replace(m.Store("varve", "p"), "us-east-1", "eu-north-7", 1), Env: harness.Credentials})
	harness.Eventually(t, harness.Soon, "the right region works", func() error {
		status, body := page(t, b, "/readyz?verbose")
		if status != http.StatusOK || strings.Contains(body, "degraded") || strings.Contains(body, "probing") {
			return fmt.Errorf("status %d: %s", status, body)
		}
		return nil
	})
	b.Stop(t)
	saysOfItsStore(t, m.Store("varve", "p"), "region= in the store URL", "eu-north-7", "us-east-1")
	saysOfItsStore(t, m.Store("not-made-yet", "p"), "region= in the store URL", "eu-north-7", "us-east-1")
}

// between puts a proxy before MinIO that changes requests and answers.
func between(t *testing.T, m *harness.MinIO, request func(*http.Request), answer func(*http.Response) error) string {
	t.Helper()
	target, err := url.Parse(m.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
			if request != nil {
				request(r.Out)
			}
		},
		ModifyResponse: answer,
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return strings.Replace(m.Store("varve", "p"), m.Endpoint, server.URL, 1)
}

// TestClockApartFromTheStoresIsNamed lets MinIO see requests of an hour ago.
func TestClockApartFromTheStoresIsNamed(t *testing.T) {
	m := harness.StartMinIO(t)
	store := between(t, m, func(r *http.Request) {
		r.Header.Set("X-Amz-Date", time.Now().UTC().Add(-time.Hour).Format("20060102T150405Z"))
	}, nil)
	saysOfItsStore(t, store, "clock", "15 minutes")
}

func TestStoreThatBreaksItsContractIsNamed(t *testing.T) {
	m := harness.StartMinIO(t)
	probe := func(r *http.Response) bool {
		return r.Request.Method == http.MethodGet && strings.Contains(r.Request.URL.Path, "/probe/") && r.StatusCode < 300
	}
	for i, c := range []struct {
		what   string
		answer func(*http.Response) error
		words  []string
	}{
		{"it ignores ranges", func(r *http.Response) error {
			if r.StatusCode == http.StatusPartialContent {
				r.StatusCode, r.Status = http.StatusOK, "200 OK"
				r.Header.Del("Content-Range")
			}
			return nil
		}, []string{"the store ignores the Range header"}},
		{"it changes bytes", func(r *http.Response) error {
			if !probe(r) {
				return nil
			}
			b, err := io.ReadAll(r.Body)
			if err == nil && len(b) > 0 {
				b[len(b)-1] ^= 1
			}
			r.Body = io.NopCloser(bytes.NewReader(b))
			return err
		}, []string{"other bytes"}},
		{"it forgets what it took", func(r *http.Response) error {
			if probe(r) {
				r.StatusCode, r.Status = http.StatusNotFound, "404 Not Found"
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader("")), 0
				r.Header.Set("Content-Length", "0")
			}
			return nil
		}, []string{"not found", "probe/"}},
		{"it is busy all the time", func(r *http.Response) error {
			r.StatusCode, r.Status = http.StatusServiceUnavailable, "503 Slow Down"
			body := "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Length", fmt.Sprint(len(body)))
			r.Header.Set("Content-Type", "application/xml")
			return nil
		}, []string{"fewer requests"}},
		{"it answers with a page for people", func(r *http.Response) error {
			body := "<!DOCTYPE html><html><body>Welcome to the console<br></body></html>"
			r.StatusCode, r.Status = http.StatusOK, "200 OK"
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
			r.Header = http.Header{"Content-Type": {"text/html"}, "Content-Length": {fmt.Sprint(len(body))}}
			return nil
		}, []string{"S3"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			store := strings.Replace(between(t, m, nil, c.answer), "/p?", fmt.Sprintf("/prefix-%d?", i), 1)
			saysOfItsStore(t, store, c.words...)
		})
	}
}
