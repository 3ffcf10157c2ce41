package meta

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestRaftLogLinesGoToSlogOneLevelLower(t *testing.T) {
	var buf bytes.Buffer
	log := slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r := newRaftLog(log)
	r.Trace("trace-line")
	r.Debug("debug-line")
	r.Named("snapshot").With("a", 1).Info("info-line", "k", "v")
	r.Warn("warn-line")
	r.ResetNamed("x").Error("error-line")
	r.StandardLogger(&hclog.StandardLoggerOptions{}).Print("std-line")
	r.SetLevel(hclog.Off)
	text := buf.String()
	for _, want := range []string{
		"level=DEBUG msg=\"raft.snapshot: info-line\" a=1 k=v", "level=WARN msg=\"raft: warn-line\"",
		"level=ERROR msg=\"x: error-line\"", "level=DEBUG msg=\"raft: std-line\"",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, "trace-line") || strings.Contains(text, "debug-line") {
		t.Errorf("too much detail:\n%s", text)
	}
	if r.IsTrace() || r.IsDebug() || !r.IsInfo() || !r.IsWarn() || !r.IsError() || r.GetLevel() != hclog.Info || r.Name() != "raft" {
		t.Error("levels")
	}
	if args := r.With("a", 1).ImpliedArgs(); len(args) != 2 {
		t.Errorf("args %v", args)
	}
}
