package gossip

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/memberlist"
)

// goodbye is the first byte of a message that a leaving broker sends; its node record follows.
const goodbye = 1

// Member is a broker as gossip sees it.
type Member struct {
	Node
	Address string // gossip host:port
}

// EventKind says what happened to a member.
type EventKind int

// The kinds of events.
const (
	Joined   EventKind = iota + 1
	Updated            // its record or address changed
	Left               // it said goodbye
	Failed             // it stopped answering: a hint, never a verdict
	Conflict           // a second process claims its node id; Other is where that one is
)

func (k EventKind) String() string {
	switch k {
	case Joined:
		return "joined"
	case Updated:
		return "updated"
	case Left:
		return "left"
	case Failed:
		return "failed"
	case Conflict:
		return "conflict"
	default:
		return fmt.Sprintf("event %d", int(k))
	}
}

// Event is one change.
type Event struct {
	Kind   EventKind
	Member Member
	Other  string // of Conflict: the gossip address of the second process
}

// members is this broker's view, kept from memberlist's callbacks. memberlist's own list hands out
// pointers that it goes on changing, so it cannot be read without a race. The callbacks run under
// memberlist's locks: they may not call back into it, and never block.
type members struct {
	self []byte // encoded Node
	log  *slog.Logger

	events  chan Event // closed by close alone, under mu
	dropped atomic.Int64

	mu struct {
		sync.Mutex
		byID     map[int32]Member // len <= maxMembers
		leaving  map[int32]int64  // id to epoch of members that said goodbye; ids are in byID
		conflict string           // the last one told: every round of gossip repeats it
		closed   bool
	}
}

func newMembers(self Node, log *slog.Logger) *members {
	record, err := self.Encode()
	if err != nil {
		panic("gossip: own node record was not validated: " + err.Error())
	}
	m := &members{self: record, log: log, events: make(chan Event, eventSlots)}
	m.mu.byID, m.mu.leaving = make(map[int32]Member), make(map[int32]int64)
	return m
}

func (m *members) list() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.mu.byID), func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
}

func (m *members) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.mu.closed {
		m.mu.closed = true
		close(m.events)
	}
}

// tellLocked puts an event into the channel, in place of the oldest one if it is full.
func (m *members) tellLocked(e Event) {
	if m.mu.closed {
		return
	}
	for {
		select {
		case m.events <- e:
			return
		default:
		}
		select {
		case <-m.events:
			m.dropped.Add(1)
		default:
		}
	}
}

// NotifyAlive decides whether a peer may be a member at all: its record must be readable, name the
// id that it is known by, and there must be room.
func (m *members) NotifyAlive(peer *memberlist.Node) error {
	member, err := memberOf(peer)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.mu.byID[member.ID]; !known && len(m.mu.byID) >= maxMembers {
		return fmt.Errorf("there are %d members, the limit", maxMembers)
	}
	return nil
}

// NotifyJoin is memberlist.EventDelegate.
func (m *members) NotifyJoin(peer *memberlist.Node) { m.put(Joined, peer) }

// NotifyUpdate is memberlist.EventDelegate.
func (m *members) NotifyUpdate(peer *memberlist.Node) { m.put(Updated, peer) }

func (m *members) put(kind EventKind, peer *memberlist.Node) {
	member, err := memberOf(peer)
	if err != nil { // NotifyAlive has let it through before
		m.log.Warn("gossip member ignored", "member", peer.Name, "err", err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.byID[member.ID] = member
	delete(m.mu.leaving, member.ID) // what it said before, a new life has not
	m.tellLocked(Event{Kind: kind, Member: member})
}

// NotifyLeave is memberlist.EventDelegate: of those that left and those that failed.
func (m *members) NotifyLeave(peer *memberlist.Node) {
	member, err := memberOf(peer)
	if err != nil {
		m.log.Warn("gossip member ignored", "member", peer.Name, "err", err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	kind := Failed
	if epoch, said := m.mu.leaving[member.ID]; said && epoch == member.Epoch {
		kind = Left
	}
	delete(m.mu.byID, member.ID)
	delete(m.mu.leaving, member.ID)
	m.tellLocked(Event{Kind: kind, Member: member})
}

// NotifyConflict is memberlist.ConflictDelegate: two live processes with one node id.
func (m *members) NotifyConflict(existing, other *memberlist.Node) {
	member, err := memberOf(existing)
	if err != nil {
		m.log.Warn("gossip member ignored", "member", existing.Name, "err", err)
		return
	}
	address := addressOf(other)
	m.mu.Lock()
	defer m.mu.Unlock()
	if told := existing.Name + " " + address; m.mu.conflict != told {
		m.mu.conflict = told
		m.tellLocked(Event{Kind: Conflict, Member: member, Other: address})
	}
}

// NodeMeta is memberlist.Delegate: the record that travels with this member.
func (m *members) NodeMeta(int) []byte { return m.self }

// NotifyMsg is memberlist.Delegate. The one message of our own is the goodbye, because memberlist
// tells its callbacks of those that left and those that failed in the same way. If it is lost the
// member counts as failed, which a hint may be wrong about.
func (m *members) NotifyMsg(b []byte) {
	if len(b) == 0 || b[0] != goodbye {
		return // of a later release
	}
	n, err := DecodeNode(b[1:])
	if err != nil {
		m.log.Warn("gossip goodbye ignored", "err", err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if member, known := m.mu.byID[n.ID]; known && member.Epoch == n.Epoch {
		m.mu.leaving[n.ID] = n.Epoch
	}
}

// GetBroadcasts is memberlist.Delegate.
func (m *members) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState is memberlist.Delegate.
func (m *members) LocalState(bool) []byte { return nil }

// MergeRemoteState is memberlist.Delegate.
func (m *members) MergeRemoteState([]byte, bool) {}

func memberOf(peer *memberlist.Node) (Member, error) {
	n, err := DecodeNode(peer.Meta)
	if err != nil {
		return Member{}, err
	}
	if peer.Name != memberName(n.ID) {
		return Member{}, fmt.Errorf("%w: it names broker %d", ErrRecordCorrupt, n.ID)
	}
	return Member{Node: n, Address: addressOf(peer)}, nil
}

// addressOf writes the address as netip does, so that it compares with a seed's.
func addressOf(peer *memberlist.Node) string {
	if ip, ok := netip.AddrFromSlice(peer.Addr); ok {
		return netip.AddrPortFrom(ip.Unmap(), peer.Port).String()
	}
	return net.JoinHostPort(peer.Addr.String(), fmt.Sprint(peer.Port))
}
