package meta

import (
	"context"
	"io"
	"log"
	"log/slog"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// raftLog sends raft's log lines to slog. What raft calls information is a level lower here: an
// operator of a broker is not interested in each state change of an election that went well.
type raftLog struct {
	log  *slog.Logger
	name string
	args []any
}

func newRaftLog(l *slog.Logger) hclog.Logger { return &raftLog{log: l, name: "raft"} }

func slogLevel(l hclog.Level) slog.Level {
	switch {
	case l >= hclog.Error:
		return slog.LevelError
	case l == hclog.Warn:
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}

// Log implements hclog.Logger.
func (r *raftLog) Log(level hclog.Level, msg string, args ...any) {
	l := slogLevel(level)
	if level < hclog.Info || !r.log.Enabled(context.Background(), l) {
		return
	}
	r.log.Log(context.Background(), l, r.name+": "+msg, args...)
}

func (r *raftLog) Trace(msg string, args ...any) { r.Log(hclog.Trace, msg, args...) }
func (r *raftLog) Debug(msg string, args ...any) { r.Log(hclog.Debug, msg, args...) }
func (r *raftLog) Info(msg string, args ...any)  { r.Log(hclog.Info, msg, args...) }
func (r *raftLog) Warn(msg string, args ...any)  { r.Log(hclog.Warn, msg, args...) }
func (r *raftLog) Error(msg string, args ...any) { r.Log(hclog.Error, msg, args...) }

func (r *raftLog) IsTrace() bool { return false }
func (r *raftLog) IsDebug() bool { return false }
func (r *raftLog) IsInfo() bool  { return r.log.Enabled(context.Background(), slog.LevelDebug) }
func (r *raftLog) IsWarn() bool  { return true }
func (r *raftLog) IsError() bool { return true }

func (r *raftLog) ImpliedArgs() []any { return r.args }

func (r *raftLog) With(args ...any) hclog.Logger {
	all := append(append([]any(nil), r.args...), args...)
	return &raftLog{r.log.With(args...), r.name, all}
}

func (r *raftLog) Name() string { return r.name }

func (r *raftLog) Named(name string) hclog.Logger {
	return &raftLog{r.log, strings.TrimPrefix(r.name+"."+name, "."), r.args}
}

func (r *raftLog) ResetNamed(name string) hclog.Logger { return &raftLog{r.log, name, r.args} }

// SetLevel does nothing: the level is slog's.
func (r *raftLog) SetLevel(hclog.Level) {}

// GetLevel implements hclog.Logger.
func (r *raftLog) GetLevel() hclog.Level { return hclog.Info }

// StandardLogger implements hclog.Logger.
func (r *raftLog) StandardLogger(o *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(r.StandardWriter(o), "", 0)
}

// StandardWriter implements hclog.Logger.
func (r *raftLog) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return raftLogWriter{r} }

type raftLogWriter struct{ r *raftLog }

func (w raftLogWriter) Write(b []byte) (int, error) {
	w.r.Info(strings.TrimSpace(string(b)))
	return len(b), nil
}
