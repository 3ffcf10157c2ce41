// Package admin is the HTTP side of a broker on its own listener: health, metrics, profiles and
// JSON endpoints. It knows HTTP and nothing of topics or logs: what the endpoints say comes from
// functions that the composition root hands in. The listener has no authentication of its own and
// belongs on loopback or a closed network.
//
// The functions of a Config are called concurrently, one call for each request.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Limits of the HTTP server.
const (
	MaxBody = 1 << 20 // bytes of a request body

	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second
	// writeTimeout is well above the longest wait that an endpoint offers; pprof extends it by the
	// duration of the profile that is asked for.
	writeTimeout   = 2 * time.Minute
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 32 << 10
	scrapesAtOnce  = 4 // a second scraper and two people; each holds a copy of all metrics
	// drainTime is what requests in flight get at Close, after their contexts have ended.
	drainTime = 250 * time.Millisecond
	nextPorts = 100 // how far ListenNext looks
)

// ErrAddressInUse is in the error of New when another process has the port.
var ErrAddressInUse = errors.New("address already in use")

// Config is what New needs.
type Config struct {
	Listen     string // host:port; port 0 takes any free one
	ListenNext bool   // take the next free port when Listen's is taken
	// Ready is asked by each /readyz. It must not block.
	Ready    func() ReadyReport
	Gatherer prometheus.Gatherer // what /metrics shows
	Routes   []Route             // the JSON endpoints
	Log      *slog.Logger        // nil: slog.Default()
}

// Server is a running admin listener.
type Server struct {
	ln     net.Listener
	http   *http.Server
	cancel context.CancelFunc // ends the contexts of requests in flight
	serve  sync.WaitGroup
}

// New binds the listener and serves until Close.
func New(cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	handler, err := newHandler(cfg)
	if err != nil {
		return nil, fmt.Errorf("admin endpoints: %w", err)
	}
	ln, err := listen(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{ln: ln, cancel: cancel}
	s.http = &http.Server{
		Handler:           handler,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
	}
	s.serve.Go(func() {
		if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			cfg.Log.Error("admin listener ended", "address", ln.Addr(), "err", err)
		}
	})
	return s, nil
}

// Addr is the host:port that the listener is bound to.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// Close stops the listener. Requests in flight see their context end and get a moment to answer.
func (s *Server) Close(ctx context.Context) error {
	s.cancel()
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil { // somebody takes longer, or has dialled and sent nothing: cut
		err = s.http.Close()
	}
	s.serve.Wait()
	if err != nil {
		return fmt.Errorf("close admin listener: %w", err)
	}
	return nil
}

func newHandler(cfg Config) (http.Handler, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", index)
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, http.StatusOK, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { readyz(w, r, cfg.Ready()) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Gatherer, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: scrapesAtOnce, EnableOpenMetrics: true,
	}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	if err := addRoutes(mux, cfg); err != nil {
		return nil, err
	}
	// A page that somebody has open in a browser must not be able to send a POST here.
	return http.NewCrossOriginProtection().Handler(mux), nil
}

func index(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, "Varve admin listener\n\n/livez\n/readyz\n/readyz?verbose\n/metrics\n/debug/pprof/\n/api/v1/\n")
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // an error means that the client is gone
}

func listen(cfg Config) (net.Listener, error) {
	ln, err := net.Listen("tcp", cfg.Listen)
	if err == nil {
		return ln, nil
	}
	taken := errors.Is(err, syscall.EADDRINUSE)
	if taken && cfg.ListenNext {
		host, port, _ := net.SplitHostPort(cfg.Listen) // it has just been taken apart by net.Listen
		first, _ := strconv.Atoi(port)
		for p := first + 1; first > 0 && p <= min(first+nextPorts, 65535); p++ {
			if ln, next := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(p))); next == nil {
				cfg.Log.Info("port is taken, using the next free one", "listener", "admin", "wanted", cfg.Listen, "address", ln.Addr())
				return ln, nil
			}
		}
	}
	if taken {
		return nil, fmt.Errorf("listen admin on %s: %w: another process has this port (ss -ltnp shows which); stop it or set another port for this listener", cfg.Listen, ErrAddressInUse)
	}
	return nil, fmt.Errorf("listen admin on %s: %w", cfg.Listen, err)
}

// wantsJSON tells whether a client asks for JSON where text is the default.
func wantsJSON(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "application/json")
}
