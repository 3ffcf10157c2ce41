package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Special values of the limits that Kafka writes as -1 and -2.
const (
	// UnlimitedTime is Kafka's -1 of a retention time: never by time.
	UnlimitedTime = -1 * time.Millisecond
	// FollowTotalTime is Kafka's -2 of log.local.retention.ms: the same as the total retention.
	FollowTotalTime = -2 * time.Millisecond
	// UnlimitedBytes is Kafka's -1 of a retention size: never by size.
	UnlimitedBytes = int64(-1)
	// FollowTotalBytes is Kafka's -2 of log.local.retention.bytes.
	FollowTotalBytes = int64(-2)
	// AutoBytes lets the broker choose from the machine (varve.disk.reserve.bytes).
	AutoBytes = int64(-1)
)

// Config is everything a broker is told from outside. Fields are plain values; DefaultConfig
// gives each its default, Load fills it from flags, environment and file, and Validate tells all
// its faults at once. The table behind Keys names the key, unit and default of every field.
type Config struct {
	// Who this broker is and whom it looks for (sections 6 and 11 of DESIGN.md).
	NodeID          int32
	Rack            string
	Seeds           []string // host:port of gossip listeners; the broker's own address is allowed
	BootstrapExpect int32

	// Addresses are host:port; port 0 takes a free one (Addresses tells which).
	Listen           string
	AdvertisedListen string // "" means Listen as bound
	AdminListen      string
	InternalListen   string
	GossipListen     string // "" switches gossip off

	DataDir string

	Store                string // URL of the object store; "" means none, and then no topic can be tiered
	StoreCredentialsFile string
	StoreCAFile          string

	LogLevel  string // debug, info, warn, error
	LogFormat string // auto, text, json

	// Limits of the wire.
	SocketRequestMaxBytes int64
	QueuedMaxRequestBytes int64 // >= SocketRequestMaxBytes
	MaxConnections        int32
	MaxConnectionsPerIP   int32
	ConnectionsMaxIdle    time.Duration
	FetchMaxBytes         int64
	FetchSessionSlots     int32

	// Topics that name nothing else.
	AutoCreateTopics         bool
	NumPartitions            int32
	DefaultReplicationFactor int32
	MinInsyncReplicas        int32
	MessageMaxBytes          int64
	CompressionType          string
	WriteCachingDefault      bool
	LogRetention             time.Duration // UnlimitedTime: never
	LogRetentionBytes        int64         // UnlimitedBytes: never
	LogRetentionCheck        time.Duration
	LogSegmentBytes          int64
	LogRoll                  time.Duration
	LogCleanupPolicy         string
	LogIndexIntervalBytes    int64
	LogTimestampType         string
	LogTimestampBeforeMax    time.Duration
	LogTimestampAfterMax     time.Duration
	LogLocalRetention        time.Duration // FollowTotalTime: as LogRetention; never more than it
	LogLocalRetentionBytes   int64         // FollowTotalBytes: as LogRetentionBytes; never more than it

	ProducerIDExpiration time.Duration

	TransactionMaxTimeout     time.Duration
	TransactionalIDExpiration time.Duration

	// The local disk (section 5).
	DiskReserveBytes     int64 // AutoBytes: the larger of 2 GiB and 3 %, less on small disks
	DiskTimeout          time.Duration
	SegmentRecycleWindow time.Duration

	// Tiering (section 8).
	TierDefault           bool
	TierCacheBytes        int64 // 0: no disk cache
	TierMemoryBytes       int64
	TierUploadSlots       int32
	TierReadSlots         int32
	TierReaderGrace       time.Duration
	TierManifestHistory   time.Duration
	TierMaxDelay          time.Duration
	TierObjectBytes       int64
	TierStorageClass      string // "": the bucket's default
	RemoteFetchMaxWait    time.Duration
	RemoteCopyBytesPerSec int64 // NoRateLimit: none
	RemoteReadBytesPerSec int64 // NoRateLimit: none

	// DynamicConfig is the rest of what may change at run time.
	DynamicConfig
	CleanerConfig
	GroupConfig

	// LevelVar is what the process's logger obeys; nil if its level cannot be changed.
	LevelVar *slog.LevelVar

	// Dev says that the broker was started with --dev, for its log line; it changes defaults in
	// Load and nothing after it.
	Dev bool

	// origin names, for each key that has not its default, what set it. Nil means all defaults.
	origin map[string]Origin
}

// NoRateLimit is Kafka's default (Long.MAX_VALUE) of the byte rates of remote storage.
const NoRateLimit = int64(1<<63 - 1)

// DefaultConfig is a valid configuration of one broker on loopback, without an object store.
func DefaultConfig() Config {
	var c Config
	for i := range keys {
		if err := keys[i].parseInto(&c, keys[i].Default); err != nil {
			panic(fmt.Sprintf("broker: default of %s: %v", keys[i].Name, err)) // the table is wrong
		}
	}
	return c
}

// Origin tells what set a key: a zero Origin is the default.
func (c *Config) Origin(key string) Origin { return c.origin[key] }

// SetByUser lists the keys that something else than a default has set, in table order.
func (c *Config) SetByUser() []string {
	var names []string
	for i := range keys {
		if c.origin[keys[i].Name].Kind > OriginDev {
			names = append(names, keys[i].Name)
		}
	}
	return names
}

// TopicDefaults gives the topic keys whose defaults this broker sets, in Kafka's own text
// (milliseconds and bytes), for topics that do not set them.
func (c *Config) TopicDefaults() map[string]string {
	m := make(map[string]string)
	for i := range keys {
		if k := &keys[i]; k.Topic != "" {
			m[k.Topic] = k.Value(c)
		}
	}
	return m
}

// WithDynamic returns the configuration with the given dynamic keys laid over it, or all faults
// at once. Keys that need a restart are refused.
func (c *Config) WithDynamic(values map[string]string) (Config, error) {
	out := *c
	var faults Faults
	for name, text := range values {
		k, ok := LookupKey(name)
		switch {
		case !ok:
			faults = append(faults, unknownKey(name, ""))
			continue
		case !k.Dynamic:
			faults = append(faults, Fault{Key: name, Problem: "cannot change while the broker runs; set it in its file and restart"})
			continue
		}
		if err := k.parseInto(&out, text); err != nil {
			faults = append(faults, Fault{Key: name, Problem: err.Error()})
		}
	}
	if len(faults) == 0 {
		faults = out.faults()
	}
	if len(faults) > 0 {
		faults.sort()
		return Config{}, faults
	}
	return out, nil
}

// Fault is one thing wrong with a configuration.
type Fault struct {
	Key     string // "" if no single key is at fault
	Where   string // file:line, variable or flag; "" if not known
	Problem string
}

func (f Fault) String() string {
	var b strings.Builder
	if f.Where != "" {
		b.WriteString(f.Where + ": ")
	}
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	b.WriteString(f.Problem)
	return b.String()
}

// Faults is every fault of one configuration; it is never empty where it is returned as an error.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].String()
	}
	return strings.Join(lines, "\n")
}

// Is makes errors.Is(err, ErrConfig) true for every Faults.
func (f Faults) Is(target error) bool { return target == ErrConfig }

// ErrConfig is what every configuration error is, for callers that only branch on that.
var ErrConfig = errors.New("configuration")
