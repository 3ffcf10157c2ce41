// Package group is the state machine of consumer groups and their offsets: what one partition of
// __consumer_offsets holds. It speaks the classic group protocol (JoinGroup, SyncGroup, Heartbeat,
// LeaveGroup) with static members, and keeps the offsets that groups, simple consumers and
// transactions commit. The records in the log are Kafka's own, so that tools that read them work.
//
// It refuses to know of sockets, topics that exist or not, and of how records get to disk: it is a
// coord.Machine, every method is called on the shard's goroutine, and time comes in. Methods that
// answer a client take the request, a reply function that is called exactly once (perhaps much
// later: a JoinGroup waits for the others), and return the coord.Step to run. Replies carry Kafka's
// error codes, chosen as Kafka 4's group coordinator does.
package group

import (
	"errors"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"varve/broker/coord"
)

// Settings are the broker's group configuration; they may change while it runs.
type Settings struct {
	MinSession, MaxSession time.Duration // group.min/max.session.timeout.ms
	InitialDelay           time.Duration // group.initial.rebalance.delay.ms
	MaxSize                int           // group.max.size
	OffsetMetadataMax      int           // offset.metadata.max.bytes
	OffsetsRetention       time.Duration // offsets.retention.minutes
	RetentionCheck         time.Duration // offsets.retention.check.interval.ms
}

// Kafka's defaults.
func DefaultSettings() Settings {
	return Settings{
		MinSession: 6 * time.Second, MaxSession: 30 * time.Minute, InitialDelay: 3 * time.Second,
		MaxSize: 1<<31 - 1, OffsetMetadataMax: 4096,
		OffsetsRetention: 7 * 24 * time.Hour, RetentionCheck: 10 * time.Minute,
	}
}

// Limits bound the memory of one shard; an ordinary cluster has 50 of them. What goes beyond is
// refused, never evicted.
type Limits struct {
	Groups      int
	OffsetBytes int // committed and pending offsets with their metadata strings
	MemberBytes int // subscriptions and assignments of all members
}

// The limits of a shard, where nothing else is said.
const (
	// maxGroups: 50 times what large installations have in one shard, and some 100 MiB of empty groups.
	maxGroups = 200_000
	// maxOffsetBytes is more than four million offsets without metadata.
	maxOffsetBytes = 512 << 20
	// maxMemberBytes is twice what maxGroupBytes lets one group have.
	maxMemberBytes = 32 << 20
	// maxGroupBytes bounds one group, so that its record fits coord.MaxStepBytes with room for names.
	maxGroupBytes = coord.MaxStepBytes / 2
	// maxString is what an int16 length in a record can hold.
	maxString = 1<<15 - 1
	// fireLimit is how many deadlines are served at a time; beyond it events have their turn.
	fireLimit = 1000
	// newMemberTimeout is how long a member may wait in its first JoinGroup. It cannot heartbeat yet;
	// after it, it is expected to ask again. Kafka's number.
	newMemberTimeout = 5 * time.Minute
)

// Config is what a Machine is made from.
type Config struct {
	Settings func() Settings // nil: DefaultSettings
	Limits   Limits          // zero fields: the constants above
	NewID    func() string   // a random UUID, for member ids
	Log      *slog.Logger    // nil: slog.Default
}

// Client is who sent a request.
type Client struct {
	ID      string
	Host    string // as DescribeGroups shows it, "/127.0.0.1"
	Version int16  // of the request
}

// Machine is the state of one shard.
type Machine struct {
	cfg    Config
	groups map[string]*group
	txns   map[int64]*txn // open transactions that committed offsets, by producer id
	timers timers
	sweep  timer            // offset retention
	purge  timer            // of offsets of deleted topics
	gone   map[string]int64 // those topics, and when they were deleted

	live        bool // the log was replayed: what Apply gets now was decided here
	offsetBytes int  // of committed and pending offsets
	memberBytes int  // of all members

	// Of the event at work.
	now     time.Time
	records []coord.Record
	replies []func(err error)
}

// New makes an empty Machine, for coord.Config.New.
func New(cfg Config) *Machine {
	if cfg.Settings == nil {
		cfg.Settings = DefaultSettings
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Limits.Groups <= 0 {
		cfg.Limits.Groups = maxGroups
	}
	if cfg.Limits.OffsetBytes <= 0 {
		cfg.Limits.OffsetBytes = maxOffsetBytes
	}
	if cfg.Limits.MemberBytes <= 0 {
		cfg.Limits.MemberBytes = maxMemberBytes
	}
	return &Machine{cfg: cfg, groups: map[string]*group{}, txns: map[int64]*txn{}, gone: map[string]int64{}}
}

// begin and end bracket every event: what it wants written and answered is one Step.
func (m *Machine) begin(now time.Time) { m.now = now }

func (m *Machine) end() coord.Step {
	step := coord.Step{Records: m.records}
	if replies := m.replies; len(replies) > 0 {
		step.Then = func(err error) {
			for _, reply := range replies {
				reply(err)
			}
		}
	}
	m.records, m.replies = nil, nil
	return step
}

// answer is called with the outcome of the event at work.
func (m *Machine) answer(reply func(err error)) { m.replies = append(m.replies, reply) }

// Loaded starts the sessions of the members that the log has: they may have been heartbeating to
// another broker until now.
func (m *Machine) Loaded(now time.Time) coord.Step {
	m.begin(now)
	m.live = true
	for _, g := range m.groups {
		for _, mem := range g.members {
			m.touch(g, mem)
		}
		if len(g.members) > m.cfg.Settings().MaxSize {
			m.prepareRebalance(g, "group is over group.max.size")
		}
	}
	m.sweep.fire, m.purge.fire = m.expireOffsets, m.purgeTopics
	m.timers.schedule(&m.sweep, now.Add(m.cfg.Settings().RetentionCheck))
	return m.end()
}

// NextTimer is the earliest deadline of all groups.
func (m *Machine) NextTimer() time.Time { return m.timers.next() }

// Tick serves the deadlines that have passed.
func (m *Machine) Tick(now time.Time) coord.Step {
	m.begin(now)
	m.timers.fire(now, fireLimit)
	return m.end()
}

// Stopped answers whoever waits for a rebalance.
func (m *Machine) Stopped() {
	for _, g := range m.groups {
		for _, mem := range g.members {
			if mem.join != nil {
				mem.join(refusedJoin("", codeOf(coord.ErrNotCoordinator)))
			}
			if mem.sync != nil {
				mem.sync(refusedSync(codeOf(coord.ErrNotCoordinator)))
			}
			mem.join, mem.sync = nil, nil
		}
	}
}

// codeOf is the error code of a Step that did not get through.
func codeOf(err error) int16 {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, coord.ErrNotCoordinator):
		return kerr.NotCoordinator.Code
	case errors.Is(err, coord.ErrLoading):
		return kerr.CoordinatorLoadInProgress.Code
	case errors.Is(err, coord.ErrOverloaded):
		return kerr.CoordinatorNotAvailable.Code
	case errors.Is(err, coord.ErrTooLarge):
		return kerr.InvalidCommitOffsetSize.Code
	case errors.Is(err, coord.ErrProducerFenced):
		return kerr.InvalidProducerEpoch.Code
	}
	return kerr.UnknownServerError.Code
}
