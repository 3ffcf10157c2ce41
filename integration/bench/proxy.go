package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// countingProxy stands between the broker and the store and counts the requests that go through: the
// truth that does not come from the broker's own meter. Bodies and headers pass unchanged, the Host
// header included, because it is signed.
type countingProxy struct {
	addr   string
	target string
	http   *http.Server
	out    *http.Transport

	mu   sync.Mutex
	seen []proxied
}

// proxied is one request to the store.
type proxied struct {
	method, path, query string
	status              int
}

func (l *lab) startProxy(target string) (*countingProxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &countingProxy{addr: ln.Addr().String(), target: target, out: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}
	p.http = &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.http.Serve(ln) // ends with Close
	}()
	l.atEnd(func() {
		_ = p.http.Close()
		<-done
	})
	return p, nil
}

func (p *countingProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", p.target, ""
	if r.ContentLength == 0 {
		out.Body = nil
	}
	resp, err := p.out.RoundTrip(out)
	if err != nil {
		p.note(r, http.StatusBadGateway)
		if !errors.Is(err, context.Canceled) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
		return
	}
	defer resp.Body.Close()
	p.note(r, resp.StatusCode)
	for k, v := range resp.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body) // a client that hangs up is its own matter
}

func (p *countingProxy) note(r *http.Request, status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, proxied{r.Method, r.URL.Path, r.URL.RawQuery, status})
}

// since is what was seen after the first n requests.
func (p *countingProxy) since(n int) []proxied {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]proxied(nil), p.seen[n:]...)
}

func (p *countingProxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.seen)
}

// quiet waits until no request has come for quietFor.
func (p *countingProxy) quiet() {
	for n := -1; n != p.count(); {
		n = p.count()
		time.Sleep(quietFor)
	}
}

// putClass says whether a store bills the request as a PUT: everything but GET, HEAD and DELETE, and
// listing too.
func (q proxied) putClass() bool {
	switch q.method {
	case http.MethodGet:
		return strings.Contains(q.query, "list-type=")
	case http.MethodHead, http.MethodDelete:
		return false
	}
	return true
}

func (q proxied) getClass() bool {
	return q.method == http.MethodHead || q.method == http.MethodGet && !q.putClass()
}
