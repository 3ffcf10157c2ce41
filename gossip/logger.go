package gossip

import (
	"context"
	"log"
	"log/slog"
	"strings"
)

// logWriter turns memberlist's lines, "[LEVEL] memberlist: text", into slog records. What it calls an
// error is a packet that was not understood or a peer that did not answer: warnings to us.
type logWriter struct{ log *slog.Logger }

func newLogger(l *slog.Logger) *log.Logger { return log.New(logWriter{l}, "", 0) }

func (w logWriter) Write(p []byte) (int, error) {
	level, text := parseLine(string(p))
	w.log.Log(context.Background(), level, "gossip: "+text)
	return len(p), nil
}

func parseLine(line string) (slog.Level, string) {
	level := slog.LevelDebug
	line = strings.TrimSpace(line)
	if rest, ok := strings.CutPrefix(line, "["); ok {
		if name, text, ok := strings.Cut(rest, "]"); ok {
			switch name {
			case "WARN", "ERR", "ERROR":
				level = slog.LevelWarn
			}
			line = strings.TrimSpace(text)
		}
	}
	return level, strings.TrimPrefix(line, "memberlist: ")
}
