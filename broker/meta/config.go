package meta

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"varve/broker/internal/vfs"
)

// Config tells Open who this broker is and where its metadata lives. Dir and NodeID are needed.
type Config struct {
	// Dir is the data directory: the identity is in it, raft's files are in Dir/raft. FS holds
	// the identity; raft's files are always the operating system's. Nil FS is the operating system.
	Dir string
	FS  vfs.FS

	NodeID NodeID
	Rack   string
	// Host and Port are what clients are told to connect to.
	Host string
	Port int32

	// Internal is the address that raft listens on; empty keeps raft inside the process, which is
	// enough for one voter. InternalAdvertise is how others reach it; empty means Internal.
	Internal          string
	InternalAdvertise string

	// Clean says that the data directory was closed cleanly: nothing that was written without
	// fdatasync is lost. Register passes it on.
	Clean bool

	// DiskTimeout is how long a write of the raft store may take before it counts as a storage
	// error; 0 is for ever.
	DiskTimeout time.Duration

	// Log is slog.Default if nil. Fatal is called once, from any goroutine, with an error after
	// which this process must not go on; it must not block and must not call the Node.
	Log   *slog.Logger
	Fatal func(error)
	// Now is time.Now if nil.
	Now func() time.Time

	// SnapshotEntries is how many entries raft collects before it takes a snapshot; 0 is the
	// default of 8192, which replays in under a second.
	SnapshotEntries uint64
}

// raft's times (DESIGN section 6). A lease of half the heartbeat makes a cut-off leader step down
// before another can be elected.
const (
	heartbeatTimeout = 500 * time.Millisecond
	electionTimeout  = 500 * time.Millisecond
	leaseTimeout     = 250 * time.Millisecond
)

const (
	defaultSnapshotEntries = 8192
	// trailingEntries stay in the log after a snapshot, so that a follower that was away for a
	// moment needs no snapshot.
	trailingEntries = 2048
	// keptSnapshots is one more than is needed: the older one is read if the newer is damaged.
	keptSnapshots = 2
	// logCacheEntries are kept in memory: raft reads back every entry that it just wrote.
	logCacheEntries = 256
)

// Validate reports every fault of the config at once.
func (c *Config) Validate() error {
	var faults []error
	if c.Dir == "" {
		faults = append(faults, errors.New("data directory is empty"))
	}
	if c.NodeID < 1 {
		faults = append(faults, fmt.Errorf("node id %d is below 1", c.NodeID))
	}
	if c.Port < 0 || c.Port > 65535 {
		faults = append(faults, fmt.Errorf("port %d is not in 0..65535", c.Port))
	}
	if max(len(c.Host), len(c.Rack), len(c.Internal), len(c.InternalAdvertise)) > maxAddressBytes {
		faults = append(faults, fmt.Errorf("an address or the rack is longer than %d bytes", maxAddressBytes))
	}
	if c.Internal != "" {
		host, _, err := net.SplitHostPort(c.Internal)
		if err != nil {
			faults = append(faults, fmt.Errorf("internal address: %w", err))
		} else if ip := net.ParseIP(host); c.InternalAdvertise == "" && (host == "" || ip != nil && ip.IsUnspecified()) {
			faults = append(faults, fmt.Errorf("internal address %s needs an advertised address that others can reach", c.Internal))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("metadata config: %w", err)
	}
	return nil
}

func (c *Config) withDefaults() Config {
	d := *c
	if d.FS == nil {
		d.FS = vfs.NewOS()
	}
	if d.Log == nil {
		d.Log = slog.Default()
	}
	if d.Fatal == nil {
		d.Fatal = func(error) {}
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.SnapshotEntries == 0 {
		d.SnapshotEntries = defaultSnapshotEntries
	}
	return d
}
