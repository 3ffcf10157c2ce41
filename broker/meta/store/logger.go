package store

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// badgerLog sends Badger's log lines to slog, and latches the failures that Badger reports in no
// other way: it retries a failed memtable flush for ever, drops tables with a bad checksum, and
// goes on after a failed compaction.
type badgerLog struct {
	log   *slog.Logger
	latch *latch
}

func (b *badgerLog) line(format string, args []any) string {
	return "badger: " + strings.TrimSpace(fmt.Sprintf(format, args...))
}

// Errorf implements badger.Logger.
func (b *badgerLog) Errorf(format string, args ...any) {
	line := b.line(format, args)
	b.log.Error(line)
	_ = b.latch.fail(errors.New(line)) // told to the owner
}

// Warningf implements badger.Logger.
func (b *badgerLog) Warningf(format string, args ...any) {
	line := b.line(format, args)
	b.log.Warn(line)
	if strings.Contains(line, "doCompact") || strings.Contains(line, "Compact FAILED") {
		_ = b.latch.fail(errors.New(line)) // told to the owner
	}
}

// Infof implements badger.Logger; what Badger calls information is detail to an operator.
func (b *badgerLog) Infof(format string, args ...any) { b.log.Debug(b.line(format, args)) }

// Debugf implements badger.Logger. Badger formats at every write here: not even debug logs want that.
func (b *badgerLog) Debugf(string, ...any) {}
