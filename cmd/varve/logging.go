package main

import (
	"context"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// newLogger writes text on a terminal and JSON elsewhere, hides secrets, and lets a line that
// repeats through only so often.
func newLogger(w io.Writer, format string, level slog.Leveler, secrets []string) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: redactor(secrets)}
	if format == "auto" {
		format = "json"
		if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			format = "text"
		}
	}
	var h slog.Handler = slog.NewJSONHandler(w, opts)
	if format == "text" {
		h = slog.NewTextHandler(w, opts)
	}
	return slog.New(&repeatHandler{inner: h, limit: &repeatLimit{now: time.Now}})
}

func logLevel(name string) slog.Level {
	switch name {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}

// secretNames are parts of attribute names whose values are never shown.
var secretNames = []string{"secret", "password", "credential", "token"}

const hidden = "(hidden)"

// redactor hides attributes with telling names, passwords in URLs, and the given values anywhere.
func redactor(secrets []string) func([]string, slog.Attr) slog.Attr {
	return func(_ []string, attr slog.Attr) slog.Attr {
		name := strings.ToLower(attr.Key)
		for _, s := range secretNames {
			if strings.Contains(name, s) {
				return slog.String(attr.Key, hidden)
			}
		}
		text, ok := "", false
		switch v := attr.Value.Any().(type) {
		case string:
			text, ok = v, true
		case error:
			text, ok = v.Error(), true
		}
		if !ok {
			return attr
		}
		return slog.String(attr.Key, redactText(text, secrets))
	}
}

func redactText(text string, secrets []string) string {
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, hidden)
	}
	if strings.Contains(text, "://") && strings.Contains(text, "@") {
		if u, err := url.Parse(text); err == nil && u.User != nil {
			return u.Redacted()
		}
	}
	return text
}

const (
	// repeatBurst lines with one message pass in each repeatWindow; ten show a pattern, and a
	// thousand partitions that fail alike do not hide everything else.
	repeatBurst  = 10
	repeatWindow = 10 * time.Second
	// repeatMessages bounds the memory; messages are constants of the code, some hundreds.
	repeatMessages = 1024
)

// repeatLimit counts lines by level and message. Values differ from line to line, so they do not
// make a line another one.
type repeatLimit struct {
	now func() time.Time
	mu  struct {
		sync.Mutex
		seen map[repeatKey]*repeatCount
	}
}

type repeatKey struct {
	level   slog.Level
	message string
}

type repeatCount struct {
	since   time.Time
	passed  int
	dropped int
}

// pass tells whether a line goes out, and how many like it were dropped before.
func (l *repeatLimit) pass(key repeatKey) (ok bool, dropped int) {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.mu.seen[key]
	if c == nil || now.Sub(c.since) >= repeatWindow || now.Before(c.since) {
		if c != nil {
			dropped = c.dropped
		}
		if l.mu.seen == nil || len(l.mu.seen) >= repeatMessages {
			l.mu.seen = make(map[repeatKey]*repeatCount)
		}
		l.mu.seen[key] = &repeatCount{since: now, passed: 1}
		return true, dropped
	}
	if c.passed >= repeatBurst {
		c.dropped++
		return false, 0
	}
	c.passed++
	return true, 0
}

// repeatHandler drops lines that repeat, and says with the next one how many.
type repeatHandler struct {
	inner slog.Handler
	limit *repeatLimit
}

func (h *repeatHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.inner.Enabled(ctx, level)
}

func (h *repeatHandler) Handle(ctx context.Context, r slog.Record) error {
	ok, dropped := h.limit.pass(repeatKey{r.Level, r.Message})
	if !ok {
		return nil
	}
	if dropped > 0 {
		r.AddAttrs(slog.Int("repeats_not_shown", dropped))
	}
	return h.inner.Handle(ctx, r)
}

func (h *repeatHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &repeatHandler{h.inner.WithAttrs(attrs), h.limit}
}

func (h *repeatHandler) WithGroup(name string) slog.Handler {
	return &repeatHandler{h.inner.WithGroup(name), h.limit}
}
