package broker

import (
	"errors"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"varve/broker/auth"
	"varve/broker/wire"
)

// withValid lays over the configuration as many of the values as it takes, in name order, and tells
// what is wrong with the others.
func (c *Config) withValid(values map[string]string) (Config, error) {
	now, err := c.WithDynamic(values)
	if err == nil {
		return now, nil
	}
	kept := map[string]string{}
	var left []error
	for _, name := range slices.Sorted(maps.Keys(values)) {
		kept[name] = values[name]
		if _, err := c.WithDynamic(kept); err != nil {
			delete(kept, name)
			left = append(left, err)
		}
	}
	if now, err = c.WithDynamic(kept); err != nil { // the file itself is at fault: Open has refused it
		now = *c
	}
	return now, errors.Join(left...)
}

// applyDynamic brings the running parts in line with the configuration as it is now, dynamic keys
// laid over the file's. What reads topics.dynamic at each use needs nothing here.
func (b *Broker) applyDynamic() {
	now := b.topics.dynamic.Load()
	b.wire.SetLimits(wireLimits(now))
	if b.tier != nil {
		b.tier.SetRates(rateLimit(now.RemoteCopyBytesPerSec), rateLimit(now.RemoteReadBytesPerSec))
	}
}

func wireLimits(c *Config) wire.Limits {
	l := wire.Limits{MaxConns: int(c.MaxConnections), MaxConnsPerIP: int(c.MaxConnectionsPerIP)}
	if c.MaxConnectionRate < math.MaxInt32 {
		l.AcceptRate = int(c.MaxConnectionRate)
	}
	if of, err := parseOverrides(c.MaxConnectionsPerIPOverrides); err == nil { // checked with the rest
		l.MaxConnsOf = of
	}
	return l
}

// maxConnectPause is how long a connection beyond its address's rate is kept before it is closed;
// Kafka waits one window.
const maxConnectPause = time.Second

// admitDelay charges a new connection to the quota of its address (KIP-612).
func (b *Broker) admitDelay(host string) time.Duration {
	if !b.quotas.Limited(auth.Connections) {
		return 0
	}
	wait, ok := b.quotas.TryCharge(auth.Connections, host, "", 1, time.Now())
	if ok {
		return 0
	}
	return min(wait, maxConnectPause)
}

// Kafka's names of levels that slog has no constant for.
const (
	levelTrace = slog.LevelDebug - 4
	levelFatal = slog.LevelError + 4
)

var levelNames = []struct {
	name  string
	level slog.Level
}{
	{"TRACE", levelTrace},
	{"DEBUG", slog.LevelDebug},
	{"INFO", slog.LevelInfo},
	{"WARN", slog.LevelWarn},
	{"ERROR", slog.LevelError},
	{"FATAL", levelFatal},
}

// logLevel is the level of the root logger in Kafka's words.
func (b *Broker) logLevel() string {
	if b.cfg.LevelVar == nil {
		return strings.ToUpper(b.cfg.LogLevel)
	}
	now := b.cfg.LevelVar.Level()
	name := levelNames[0].name
	for _, l := range levelNames {
		if now >= l.level {
			name = l.name
		}
	}
	return name
}

// setLogLevel changes the root logger until the next start; false if there is no such level or the
// process has no level to set.
func (b *Broker) setLogLevel(name string) bool {
	for _, l := range levelNames {
		if l.name == name && b.cfg.LevelVar != nil {
			b.log.Warn("log level changed", "from", b.logLevel(), "to", name)
			b.cfg.LevelVar.Set(l.level)
			return true
		}
	}
	return false
}
