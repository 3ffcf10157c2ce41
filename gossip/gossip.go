// Package gossip finds the other brokers and hints at who lives: hashicorp/memberlist under a small
// surface of our own. It gives addresses and liveness hints and decides nothing: no broker is fenced
// and no leader elected on its word, and it knows neither roles nor epochs beyond carrying them.
//
// A cluster id is the label on every packet and stream, so brokers of different clusters do not hear
// each other; a keyring encrypts and authenticates both. All methods may be called concurrently.
package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// ErrAddressInUse: another process has the address of Config.Bind.
var ErrAddressInUse = errors.New("address already in use")

// Preset is a set of timings.
type Preset int

// The presets. The zero value is for brokers in one data centre.
const (
	PresetLAN Preset = iota // DESIGN.md section 6: a dead broker is hinted at in about a second
	PresetWAN               // memberlist's own timings for long distances: about 30 seconds
)

const (
	maxLabel = memberlist.LabelMaxSize
	// maxMembers bounds what strangers can make a broker remember where no keyring is set: ten times
	// the largest cluster anybody runs.
	maxMembers = 1024
	// eventSlots: a burst is one event per member, and a cluster of 64 restarts at once seldom.
	eventSlots = 64
	// leaveTimeout bounds how long a leave waits until it was told often enough: 4 rounds of 100 ms
	// in a small cluster.
	leaveTimeout = time.Second
)

// Config says who this broker is and whom it looks for.
type Config struct {
	Self      Node     // what the others are told
	ClusterID string   // label; brokers with another one are not heard. At most 255 bytes
	Bind      string   // host:port, TCP and UDP; port 0 takes a free one
	Advertise string   // host:port that others dial; "" means Bind as bound. Port 0 means the bound one
	Seeds     []string // host:port of any members, each perhaps many addresses; the own one is allowed
	Keyring   [][]byte // AES keys of 16, 24 or 32 bytes, the first one encrypts; nil: in the clear
	Preset    Preset
	Log       *slog.Logger // nil: slog.Default
}

// Validate tells all faults at once.
func (c *Config) Validate() error {
	var errs []error
	if _, err := c.Self.Encode(); err != nil {
		errs = append(errs, err)
	}
	if len(c.ClusterID) > maxLabel {
		errs = append(errs, fmt.Errorf("cluster id of %d bytes, the limit is %d", len(c.ClusterID), maxLabel))
	}
	for _, address := range slices.Concat([]string{c.Bind}, c.Seeds) {
		if _, _, err := splitHostPort(address); err != nil {
			errs = append(errs, err)
		}
	}
	if c.Advertise != "" {
		if _, _, err := splitHostPort(c.Advertise); err != nil {
			errs = append(errs, err)
		}
	}
	for i, key := range c.Keyring {
		if err := memberlist.ValidateKey(key); err != nil {
			errs = append(errs, fmt.Errorf("key %d has %d bytes, it needs 16, 24 or 32", i, len(key)))
		}
	}
	return errors.Join(errs...)
}

// Gossip is one running member.
type Gossip struct {
	log       *slog.Logger
	list      *memberlist.Memberlist
	members   *members
	transport *transport
	keyring   *memberlist.Keyring // nil: in the clear
	self      netip.AddrPort      // as others dial it

	stopJoins context.CancelFunc
	joins     sync.WaitGroup // the goroutine of keepJoined
	stopping  sync.Once
}

// Start binds the address, becomes a cluster of one, and looks for the seeds in the background until
// Leave or Close. ctx bounds the start alone. errors.Is ErrAddressInUse if the port is taken.
func Start(ctx context.Context, cfg Config) (*Gossip, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("gossip config: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	g := &Gossip{log: cfg.Log, members: newMembers(cfg.Self, cfg.Log)}
	if err := g.create(ctx, cfg); err != nil {
		return nil, err
	}
	joinCtx, cancel := context.WithCancel(context.Background())
	g.stopJoins = cancel
	if len(cfg.Seeds) > 0 {
		g.joins.Go(func() { g.keepJoined(joinCtx, cfg.Seeds) })
	}
	return g, nil
}

func (g *Gossip) create(ctx context.Context, cfg Config) error {
	bind, err := resolveOne(ctx, cfg.Bind)
	if err != nil {
		return fmt.Errorf("listen for gossip on %s: %w", cfg.Bind, err)
	}
	lc := settings(cfg.Preset)
	lc.Logger = newLogger(cfg.Log)
	g.transport, err = listen(bind, lc.Logger)
	if err != nil {
		return fmt.Errorf("listen for gossip on %s: %w", cfg.Bind, err)
	}
	bound := netip.AddrPortFrom(bind.Addr(), uint16(g.transport.GetAutoBindPort()))
	if g.self, err = advertised(ctx, cfg.Advertise, bound); err == nil {
		lc.Name = memberName(cfg.Self.ID)
		lc.Label, lc.Transport = cfg.ClusterID, g.transport
		lc.BindAddr, lc.BindPort = bound.Addr().String(), int(bound.Port())
		lc.AdvertiseAddr, lc.AdvertisePort = g.self.Addr().String(), int(g.self.Port())
		lc.Delegate, lc.Events, lc.Alive, lc.Conflict = g.members, g.members, g.members, g.members
		if len(cfg.Keyring) > 0 {
			g.keyring, err = memberlist.NewKeyring(cfg.Keyring, cfg.Keyring[0])
			lc.Keyring = g.keyring
		}
	}
	if err == nil {
		g.list, err = memberlist.Create(lc)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("start gossip on %s: %w", cfg.Bind, err), g.transport.Shutdown())
	}
	return nil
}

// settings are the timings of a preset.
func settings(p Preset) *memberlist.Config {
	if p == PresetWAN {
		c := memberlist.DefaultWANConfig()
		c.DeadNodeReclaimTime = time.Millisecond
		return c
	}
	c := memberlist.DefaultLANConfig()
	c.ProbeInterval, c.ProbeTimeout, c.SuspicionMult = 200*time.Millisecond, 100*time.Millisecond, 3
	// At most 1.2 s of suspicion where nobody confirms it: 6 times, memberlist's own, would take a
	// cluster of three past the two seconds within which a dead leader is to be replaced.
	c.SuspicionMaxTimeoutMult = 2
	c.GossipInterval = 100 * time.Millisecond
	c.TCPTimeout = time.Second
	c.PushPullInterval = 15 * time.Second
	// A dead name may come back under another address at once: node ids are ours to keep apart.
	c.DeadNodeReclaimTime = time.Millisecond
	c.EnableCompression = false // records of a hundred bytes
	return c
}

// Address is where the others find this member.
func (g *Gossip) Address() string { return g.self.String() }

// Members are the members that are believed to live, this one too, in the order of their ids.
func (g *Gossip) Members() []Member { return g.members.list() }

// Events are changes of the membership. The channel holds 64; when it is full the oldest is dropped
// and counted, because an event is a hint and Members has the whole truth. It is closed by Leave and
// Close. One reader is expected.
func (g *Gossip) Events() <-chan Event { return g.members.events }

// Dropped counts the events that nobody took in time.
func (g *Gossip) Dropped() int64 { return g.members.dropped.Load() }

// SetKeyring replaces the keys: the first one encrypts, all of them decrypt. To rotate, add the new
// key behind the old one on every broker, then put it first everywhere, then drop the old one.
func (g *Gossip) SetKeyring(keys [][]byte) error {
	if g.keyring == nil || len(keys) == 0 {
		return errors.New("set gossip keyring: encryption is switched on or off only by a start")
	}
	for _, key := range keys {
		if err := g.keyring.AddKey(key); err != nil {
			return fmt.Errorf("add gossip key: %w", err)
		}
	}
	if err := g.keyring.UseKey(keys[0]); err != nil {
		return fmt.Errorf("use gossip key: %w", err)
	}
	for _, old := range g.keyring.GetKeys() {
		if slices.ContainsFunc(keys, func(k []byte) bool { return string(k) == string(old) }) {
			continue
		}
		if err := g.keyring.RemoveKey(old); err != nil {
			return fmt.Errorf("remove gossip key: %w", err)
		}
	}
	return nil
}

// Leave tells the others that this broker goes on purpose, and stops. It takes at most a second, or
// until ctx ends, after which the others find out by probing.
func (g *Gossip) Leave(ctx context.Context) error {
	timeout := leaveTimeout
	if end, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(end))
	}
	if ctx.Err() != nil {
		timeout = 0
	}
	return g.stop(timeout)
}

// Close stops without a word, as a crash would.
func (g *Gossip) Close() error { return g.stop(0) }

// stop ends everything once. memberlist does not wait for a probe under way: its goroutine ends by
// itself, after 200 ms as a rule and at most 1.6 s (eight times that, where peers do not answer).
func (g *Gossip) stop(leave time.Duration) error {
	var err error
	g.stopping.Do(func() {
		g.stopJoins()
		g.transport.cut() // ends a join that hangs; what is left to say goes by packets
		g.joins.Wait()
		if leave > 0 {
			g.sayGoodbye()
			if e := g.list.Leave(leave); e != nil {
				err = fmt.Errorf("leave gossip: %w", e)
			}
		}
		err = errors.Join(err, g.list.Shutdown())
		g.members.close()
	})
	return err
}

// sayGoodbye sends one packet to each member, which makes the leave that follows a leave to them.
func (g *Gossip) sayGoodbye() {
	message := append([]byte{goodbye}, g.members.self...)
	g.members.NotifyMsg(message) // this broker's own last event is a leave too
	for _, m := range g.Members() {
		if m.Address == g.self.String() {
			continue
		}
		if err := g.list.SendToAddress(memberlist.Address{Addr: m.Address, Name: memberName(m.ID)}, message); err != nil {
			g.log.Debug("gossip goodbye not sent", "broker", m.ID, "err", err)
		}
	}
}

// memberName is a broker's name in memberlist: one live member a node id.
func memberName(id int32) string { return "broker-" + strconv.Itoa(int(id)) }

// advertised is the address that others dial.
func advertised(ctx context.Context, address string, bound netip.AddrPort) (netip.AddrPort, error) {
	if address == "" {
		if bound.Addr().IsUnspecified() {
			return netip.AddrPort{}, fmt.Errorf("%s is every address of the machine: an address to advertise is needed", bound)
		}
		return bound, nil
	}
	a, err := resolveOne(ctx, address)
	if err != nil {
		return a, fmt.Errorf("advertise %s: %w", address, err)
	}
	if a.Addr().IsUnspecified() {
		return a, fmt.Errorf("advertise %s: nobody can dial that", address)
	}
	if a.Port() == 0 {
		a = netip.AddrPortFrom(a.Addr(), bound.Port())
	}
	return a, nil
}

func splitHostPort(address string) (string, uint16, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("gossip address %q: %w", address, err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("gossip address %q: port %q is not a number up to 65535", address, text)
	}
	return host, uint16(port), nil
}
