package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Gatherer == nil {
		cfg.Gatherer = prometheus.NewRegistry()
	}
	if cfg.Ready == nil {
		cfg.Ready = func() ReadyReport { return ReadyReport{} }
	}
	cfg.Log = slog.New(slog.DiscardHandler)
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// call sends one request on a connection of its own; header is name, value pairs.
func call(t *testing.T, s *Server, method, path, body string, header ...string) (int, string, http.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.Addr()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func TestLivezAndIndex(t *testing.T) {
	s := start(t, Config{})
	if code, body, _ := call(t, s, "GET", "/livez", ""); code != 200 || body != "ok\n" {
		t.Errorf("livez: %d %q", code, body)
	}
	if code, body, _ := call(t, s, "GET", "/", ""); code != 200 || !strings.Contains(body, "/readyz?verbose") {
		t.Errorf("index: %d %q", code, body)
	}
	if code, _, _ := call(t, s, "GET", "/nothing", ""); code != 404 {
		t.Errorf("unknown path: %d", code)
	}
}

func TestReadyzTellsReadyDegradedAndNotReady(t *testing.T) {
	var report atomic.Pointer[ReadyReport]
	s := start(t, Config{Ready: func() ReadyReport { return *report.Load() }})
	for _, tc := range []struct {
		storage, store bool
		code           int
		short, verbose string
	}{
		{true, true, 200, "ready\n", "[+] storage: fine\n[+] object store: s3\nready\n"},
		{true, false, 200, "[~] object store: s3\ndegraded\n", "[+] storage: fine\n[~] object store: s3\ndegraded\n"},
		{false, false, 503, "[-] storage: broken\n[~] object store: s3\nnot ready\n", "[-] storage: broken\n[~] object store: s3\nnot ready\n"},
	} {
		var r ReadyReport
		r.Add("storage", tc.storage, "fine", "broken")
		r.AddDegraded("object store", tc.store, "s3")
		report.Store(&r)
		if code, body, _ := call(t, s, "GET", "/readyz", ""); code != tc.code || body != tc.short {
			t.Errorf("readyz: %d %q, want %d %q", code, body, tc.code, tc.short)
		}
		if code, body, _ := call(t, s, "GET", "/readyz?verbose", ""); code != tc.code || body != tc.verbose {
			t.Errorf("readyz?verbose: %d %q, want %d %q", code, body, tc.code, tc.verbose)
		}
	}
	code, body, h := call(t, s, "GET", "/readyz?verbose", "", "Accept", "application/json")
	var got struct {
		Status string
		Checks []Check
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != 503 || h.Get("Content-Type") != "application/json" {
		t.Fatalf("json: %d %q: %v", code, body, err)
	}
	want := []Check{{Name: "storage", Detail: "broken"}, {Name: "object store", Degraded: true, Detail: "s3"}}
	if got.Status != "not ready" || len(got.Checks) != 2 || got.Checks[0] != want[0] || got.Checks[1] != want[1] {
		t.Errorf("json: %+v", got)
	}
}

func TestMetricsShowTheRegistry(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "varve_test_things_total", Help: "Things."})
	c.Add(3)
	reg.MustRegister(c)
	s := start(t, Config{Gatherer: reg})
	if code, body, _ := call(t, s, "GET", "/metrics", ""); code != 200 || !strings.Contains(body, "varve_test_things_total 3") {
		t.Errorf("metrics: %d %q", code, body)
	}
}

func TestProfilesAreServed(t *testing.T) {
	s := start(t, Config{})
	if code, body, _ := call(t, s, "GET", "/debug/pprof/goroutine?debug=1", ""); code != 200 || !strings.Contains(body, "goroutine profile") {
		t.Errorf("goroutine profile: %d %q", code, body)
	}
}

type thing struct {
	Name string `json:"name"`
}

func apiServer(t *testing.T) *Server {
	return start(t, Config{Routes: []Route{
		{"GET", "topics/{topic}/parts/{part}", func(r *http.Request) (any, error) {
			return thing{r.PathValue("topic") + "/" + r.PathValue("part") + "?" + r.URL.Query().Get("q")}, nil
		}},
		{"POST", "/things", func(r *http.Request) (any, error) {
			var in thing
			if err := DecodeBody(r, &in); err != nil {
				return nil, err
			}
			return thing{in.Name + "!"}, nil
		}},
		{"GET", "/api/v1/things", func(*http.Request) (any, error) {
			return nil, &Error{Status: 409, Code: "not_leader", Message: "ask broker 3", Extra: map[string]any{"leader_node": 3}}
		}},
		{"GET", "broken", func(*http.Request) (any, error) { return nil, errors.New("disk on fire") }},
		{"GET", "unencodable", func(*http.Request) (any, error) { return func() {}, nil }},
	}})
}

func TestJSONEndpoints(t *testing.T) {
	s := apiServer(t)
	for _, tc := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"GET", "topics/a.b/parts/7?q=x", "", 200, `{"name":"a.b/7?x"}`},
		{"HEAD", "topics/a.b/parts/7", "", 200, ""},
		{"POST", "things", `{"name":"n"}`, 200, `{"name":"n!"}`},
		{"GET", "things", "", 409, `{"code":"not_leader","error":"ask broker 3","kind":"error","leader_node":3,"message":"ask broker 3","version":1}`},
		{"GET", "broken", "", 500, `"error":"disk on fire"`},
		{"GET", "unencodable", "", 500, `"code":"internal"`},
		{"GET", "nothing", "", 404, `"error":"no endpoint /api/v1/nothing"`},
		{"DELETE", "things", "", 405, `"error":"/api/v1/things takes GET, POST"`},
		{"POST", "broken", "", 405, `takes GET"`},
		{"POST", "things", `{"name":`, 400, `"error":"decode request body: unexpected EOF"`},
		{"POST", "things", ``, 400, `"code":"bad_request"`},
		{"POST", "things", `{"nam":"n"}`, 400, `unknown field`},
		{"POST", "things", `{"name":"n"} {}`, 400, `more than one value`},
		{"POST", "things", `{"name":"` + strings.Repeat("x", MaxBody) + `"}`, 413, `longer than 1048576 bytes`},
	} {
		code, body, h := call(t, s, tc.method, "/api/v1/"+tc.path, tc.body)
		if code != tc.code || !strings.Contains(body, tc.want) {
			t.Errorf("%s %s: %d %q, want %d with %q", tc.method, tc.path, code, body, tc.code, tc.want)
		}
		if h.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: content type %q", tc.method, tc.path, h.Get("Content-Type"))
		}
	}
}

func TestAPageOfAnotherOriginMayNotPost(t *testing.T) {
	s := apiServer(t)
	if code, _, _ := call(t, s, "POST", "/api/v1/things", `{"name":"n"}`, "Sec-Fetch-Site", "cross-site"); code != 403 {
		t.Errorf("cross-site POST: %d", code)
	}
}

func TestBadRoutesAreErrors(t *testing.T) {
	serve := func(*http.Request) (any, error) { return nil, nil }
	for _, routes := range [][]Route{
		{{"DELETE", "x", serve}},
		{{"GET", "x", serve}, {"GET", "/x", serve}},
		{{"GET", "{", serve}},
		{{"GET", "a/{x}/c", serve}, {"GET", "a/b/{y}", serve}},
	} {
		_, err := New(Config{Listen: "127.0.0.1:0", Gatherer: prometheus.NewRegistry(), Routes: routes})
		if err == nil || !strings.Contains(err.Error(), "route") {
			t.Errorf("%+v: %v", routes, err)
		}
	}
}

func TestCloseEndsRequestsInFlightAndSilentConnections(t *testing.T) {
	entered := make(chan struct{})
	s := start(t, Config{Routes: []Route{{"GET", "wait", func(r *http.Request) (any, error) {
		close(entered)
		<-r.Context().Done()
		return thing{"interrupted"}, nil
	}}}})
	silent, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	result := make(chan string, 1)
	go func() {
		_, body, _ := call(t, s, "GET", "/api/v1/wait", "")
		result <- body
	}()
	<-entered
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if body := <-result; !strings.Contains(body, "interrupted") {
		t.Errorf("the waiting request got %q", body)
	}
	if _, err := net.DialTimeout("tcp", s.Addr(), patience); err == nil {
		t.Error("still listening")
	}
}

func TestATakenPortIsNamedWithWhatToDoOrPassedOver(t *testing.T) {
	first := start(t, Config{})
	cfg := Config{Listen: first.Addr(), Gatherer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}
	_, err := New(cfg)
	if !errors.Is(err, ErrAddressInUse) || !strings.Contains(err.Error(), "listen admin on "+first.Addr()) || !strings.Contains(err.Error(), "set another port") {
		t.Errorf("error is %v", err)
	}
	if next := start(t, Config{Listen: first.Addr(), ListenNext: true}); next.Addr() == first.Addr() {
		t.Error("two listeners on one port")
	}
	if _, err := New(Config{Listen: "no port", Gatherer: prometheus.NewRegistry()}); err == nil || !strings.Contains(err.Error(), "listen admin on no port") {
		t.Errorf("error is %v", err)
	}
}
