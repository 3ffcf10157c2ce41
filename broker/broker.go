// Package broker is the composition root: it opens every part of a broker in one order, wires them
// together, and closes them in the reverse order. The parts know each other only along the arrows
// of DESIGN.md section 2; what crosses them is adapted here.
package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"varve/broker/admin"
	"varve/broker/api"
	"varve/broker/auth"
	"varve/broker/commitlog"
	"varve/broker/coord"
	"varve/broker/internal/vfs"
	"varve/broker/meta"
	"varve/broker/partition"
	"varve/broker/wire"
	"varve/gossip"
	"varve/tiering"
)

// Broker is one running broker.
type Broker struct {
	cfg Config
	log *slog.Logger
	fs  vfs.FS

	lock   io.Closer // on the data directory
	marker cleanMarker
	clean  bool // the stop before was clean
	// cleanStates is the digest of the state database at the last clean stop.
	cleanStates string
	wire        *wire.Server
	admin       *admin.Server
	store       *storeState
	tier        *tiering.Tier
	node        *meta.Node
	states      *partition.States
	env         *commitlog.Env
	set         *partition.Set
	api         *api.API
	gossip      *gossip.Gossip // nil: off
	topics      topicConfigs
	quotas      *auth.Quotas
	groups      *coord.Runtime // of __consumer_offsets
	groupShards groupCoordinator
	txn         transactions
	deletion    deletion
	logStarts   *logStarts
	registry    *prometheus.Registry
	hot         atomic.Int64 // Produce requests: what cold reads step back for

	ready   readiness
	stopped chan struct{} // closed when Close begins
	fatal   struct {
		sync.Mutex
		err    error
		raised chan struct{} // closed by the first fatal error
	}
	closing sync.Once
	closeUp []closer // undone in reverse by Close
}

// closer is one part that was opened, and how it is closed.
type closer struct {
	name  string
	close func(ctx context.Context) error
}

// Addresses are where the broker listens, as bound.
type Addresses struct {
	Kafka, Admin string
	Gossip       string // "" while gossip is off
}

// Open starts a broker: when it returns, clients are served. ctx bounds the start alone. On an error
// everything that was opened is closed again.
func Open(ctx context.Context, cfg Config) (*Broker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := &Broker{cfg: cfg, fs: vfs.NewOS(), stopped: make(chan struct{}), quotas: auth.NewQuotas(cfg.quotaWindow())}
	b.log = slog.Default()
	b.fatal.raised = make(chan struct{})
	// The one list of what is opened, in order; Close goes through it backwards.
	steps := []struct {
		name string
		open func(context.Context) error
	}{
		{"data directory", b.openData},
		{"listeners", b.openListeners},
		{"admin listener", b.openAdmin},
		{"metadata", b.openMeta},
		{"object store", b.openStore},
		{"logs", b.openLogs},
		{"registration", b.register},
		{"gossip", b.openGossip},
		{"partitions", b.openPartitions},
		{"groups", b.openGroups},
		{"transactions", b.openTransactions},
		{"api", b.openAPI},
	}
	for _, s := range steps {
		if err := s.open(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("start %s: %w", s.name, err), b.closeAll(closeTimeout))
		}
	}
	b.log.Info("broker is ready", "node", cfg.NodeID, "kafka", b.Addresses().Kafka, "admin", b.Addresses().Admin,
		"cluster", b.node.Identity().ClusterID, "data", cfg.DataDir, "store", b.store.name(), "clean_start", b.clean)
	for _, address := range cfg.BeyondLoopback() {
		b.log.Warn("listening beyond loopback without authentication: anybody who reaches this address can read, write and delete everything",
			"address", address)
	}
	return b, nil
}

// closeTimeout bounds a stop: local flushes take well under a second, and whatever waits for a
// bucket or a client is cut off.
const closeTimeout = 2500 * time.Millisecond

// Run serves until ctx ends, which is a clean stop, or until a fatal storage error, which it returns.
// Close is still to be called.
func (b *Broker) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-b.stopped:
		return nil
	case <-b.fatal.raised:
		b.fatal.Lock()
		defer b.fatal.Unlock()
		return b.fatal.err
	}
}

// Close stops the broker: listeners first, then waiting requests, then every log after a last
// flush, then the clean-stop marker.
func (b *Broker) Close(ctx context.Context) error {
	left := closeTimeout
	if d, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(d))
	}
	return b.closeAll(left)
}

func (b *Broker) closeAll(timeout time.Duration) error {
	var errs []error
	b.closing.Do(func() {
		close(b.stopped)
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		for i := len(b.closeUp) - 1; i >= 0; i-- {
			if err := b.closeUp[i].close(ctx); err != nil {
				errs = append(errs, fmt.Errorf("stop %s: %w", b.closeUp[i].name, err))
			}
		}
	})
	return errors.Join(errs...)
}

func (b *Broker) onClose(name string, f func(context.Context) error) {
	b.closeUp = append(b.closeUp, closer{name, f})
}

// fail is called on a final storage error: no further ack, connections closed, and Run returns.
func (b *Broker) fail(err error) {
	b.fatal.Lock()
	defer b.fatal.Unlock()
	if b.fatal.err != nil {
		return
	}
	b.fatal.err = err
	b.log.Error("storage error, this broker stops: what it acknowledged is on disk, nothing more will be acknowledged", "err", err)
	close(b.fatal.raised)
}

func (b *Broker) failed() bool {
	select {
	case <-b.fatal.raised:
		return true
	default:
		return false
	}
}

// Addresses tells where the broker listens.
func (b *Broker) Addresses() Addresses {
	a := Addresses{Kafka: b.wire.Addr(kafkaListener).String(), Admin: b.admin.Addr()}
	if b.gossip != nil {
		a.Gossip = b.gossip.Address()
	}
	return a
}

// advertised is the host and port that clients are told.
func (b *Broker) advertised() (string, int32, error) {
	address := b.cfg.AdvertisedListen
	if address == "" {
		address = b.wire.Addr(kafkaListener).String()
	}
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("advertised address %q: %w", address, err)
	}
	port, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return "", 0, fmt.Errorf("advertised address %q: %w", address, err)
	}
	if port == 0 { // the listener took a free port; the name before it is the operator's
		_, bound, err := net.SplitHostPort(b.wire.Addr(kafkaListener).String())
		if err != nil {
			return "", 0, fmt.Errorf("advertised address %q: %w", address, err)
		}
		if port, err = strconv.ParseInt(bound, 10, 32); err != nil {
			return "", 0, fmt.Errorf("advertised address %q: %w", address, err)
		}
	}
	return host, int32(port), nil
}

func joinHostPort(host string, port int32) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
