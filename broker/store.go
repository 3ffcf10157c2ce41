package broker

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"varve/tiering/object"
)

// storeState is the object store with its decorators, and what is known of its health.
type storeState struct {
	store object.Store // nil where none is configured
	meter *object.Meter
	url   string
	log   *slog.Logger

	mu struct {
		sync.Mutex
		probed bool
		err    error // of the last probe
		at     time.Time
		report object.ProbeReport
	}
}

func (s *storeState) open(ctx context.Context, cfg Config, log *slog.Logger) error {
	inner, err := object.Open(ctx, cfg.Store, object.Config{CredentialsFile: cfg.StoreCredentialsFile, Log: log})
	if err != nil {
		return err
	}
	s.url, s.log = inner.Name(), log
	s.meter = object.NewMeter(inner)
	s.store = object.NewRetry(s.meter, object.RetryPolicy{})
	return nil
}

func (s *storeState) close() error { return s.store.Close() }

func (s *storeState) name() string {
	if s.store == nil {
		return ""
	}
	return s.url
}

const (
	probeTimeout  = 30 * time.Second
	probeAgain    = 15 * time.Second // while the store is away
	probeFaultier = time.Minute      // a fault that only an operator can mend is named once a minute
)

// probe runs the contract probe until it has passed once. The broker is ready meanwhile: uploads
// and cold reads alone need the store.
func (s *storeState) probe(ctx context.Context, cluster string) {
	for {
		once, cancel := context.WithTimeout(ctx, probeTimeout)
		report, err := object.Probe(once, s.store, cluster)
		cancel()
		if ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		s.mu.probed, s.mu.err, s.mu.at, s.mu.report = true, err, time.Now(), report
		s.mu.Unlock()
		if err == nil {
			s.log.Info("object store probed", "store", s.url, "took", report.Took.Round(time.Millisecond).String(),
				"checksum", report.Checksum, "warnings", strings.Join(report.Warnings, "; "))
			return
		}
		wait := probeFaultier
		if object.IsRetriable(err) {
			wait = probeAgain
		}
		s.log.Warn("object store does not work: uploads and cold reads wait, nothing is lost", "store", s.url, "err", err, "again_in", wait.String())
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// health is "none", "probing", "ok" or "degraded", and why.
func (s *storeState) health() (state, detail string) {
	if s.store == nil {
		return "none", "no object store is configured"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.mu.probed:
		return "probing", s.url
	case s.mu.err != nil:
		return "degraded", s.mu.err.Error()
	}
	return "ok", s.url
}
