package group

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// State is where a classic group stands.
type State uint8

// A classic group goes round:
//
//	Empty -> PreparingRebalance (members join) -> CompletingRebalance (the leader assigns) -> Stable
//
// and from each of the last two back to PreparingRebalance; without members it is Empty again.
const (
	Empty State = iota
	PreparingRebalance
	CompletingRebalance
	Stable
)

func (s State) String() string {
	return [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable"}[s]
}

// consumerProtocol is the protocol type of consumers, whose subscriptions the broker may read.
const consumerProtocol = "consumer"

// group is one classic group. A group with offsets and never a member is Empty with no protocol type:
// a simple consumer's.
//
//	awaiting == members with join set     leader is a member, or "" while there is none
//	supported[p] == members that list protocol p
type group struct {
	id         string
	state      State
	before     State // the state before, by which an initial rebalance is known
	generation int32
	protoType  string // "" until the first member
	protocol   string // chosen for this generation, "" while there is none
	leader     string
	changedMS  int64 // when state changed last, -1 if the log does not tell

	members   []*member // in the order of their first join, which the election of a leader follows
	byID      map[string]*member
	static    map[string]*member  // by instance id
	pending   map[string]*timer   // member ids given out by MEMBER_ID_REQUIRED that have not joined yet
	unsynced  map[string]struct{} // members of this generation that have not sent SyncGroup
	supported map[string]int
	awaiting  int
	grew      bool // a member came since the initial delay began
	recorded  bool // the log has a group metadata record
	bytes     int  // of members' subscriptions and assignments

	joinTimer, syncTimer timer

	topics  map[string]struct{} // what the members subscribe to; nil if it cannot be told
	offsets map[string]map[int32]offset
	txns    map[int64]struct{} // producers with pending offsets
}

// member is one member of a classic group.
type member struct {
	id         string
	instance   *string // KIP-345
	clientID   string
	clientHost string
	session    time.Duration
	rebalance  time.Duration
	protocols  []protocol // in its order of preference
	assignment []byte
	isNew      bool // joined, and has had no answer yet

	// join and sync answer the request that the member waits in; nil while it does not.
	join    func(*kmsg.JoinGroupResponse)
	sync    func(*kmsg.SyncGroupResponse)
	expires timer
}

type protocol struct {
	name     string
	metadata []byte
}

func newGroup(id string) *group {
	return &group{
		id: id, changedMS: -1, byID: map[string]*member{}, static: map[string]*member{},
		pending: map[string]*timer{}, unsynced: map[string]struct{}{}, supported: map[string]int{},
	}
}

// memberOverhead is about what a member takes beside its strings and bytes.
const memberOverhead = 256

func (mem *member) size() int {
	n := memberOverhead + len(mem.assignment) + len(mem.id) + len(mem.clientID) + len(mem.clientHost)
	if mem.instance != nil {
		n += len(*mem.instance)
	}
	for _, p := range mem.protocols {
		n += len(p.name) + len(p.metadata)
	}
	return n
}

func (mem *member) metadata(protocol string) []byte {
	for _, p := range mem.protocols {
		if p.name == protocol {
			return p.metadata
		}
	}
	return nil
}

func sameProtocols(a, b []protocol) bool {
	return slices.EqualFunc(a, b, func(x, y protocol) bool { return x.name == y.name && bytes.Equal(x.metadata, y.metadata) })
}

// allJoined tells whether nobody else is waited for.
func (g *group) allJoined() bool { return len(g.members) == g.awaiting && len(g.pending) == 0 }

// rebalanceTimeout is that of the slowest member.
func (g *group) rebalanceTimeout() time.Duration {
	var most time.Duration
	for _, mem := range g.members {
		most = max(most, mem.rebalance)
	}
	return most
}

// supports tells whether a member with these protocols fits the group: it shares one with everybody.
func (g *group) supports(protoType string, protocols []protocol) bool {
	if g.state == Empty {
		return protoType != "" && len(protocols) > 0
	}
	return g.protoType == protoType && slices.ContainsFunc(protocols, func(p protocol) bool {
		return g.supported[p.name] == len(g.members)
	})
}

// selectProtocol lets every member vote for its first choice among those that all support; equal
// votes go to the smaller name, so that the choice does not depend on a map's order.
func (g *group) selectProtocol() string {
	votes := map[string]int{}
	for _, mem := range g.members {
		for _, p := range mem.protocols {
			if g.supported[p.name] == len(g.members) {
				votes[p.name]++
				break
			}
		}
	}
	best := ""
	for name, n := range votes {
		if best == "" || n > votes[best] || n == votes[best] && name < best {
			best = name
		}
	}
	return best
}

// electJoinedLeader makes sure that the leader is among those who joined; false if nobody did.
func (g *group) electJoinedLeader() bool {
	if l := g.byID[g.leader]; l != nil && l.join != nil {
		return true
	}
	for _, mem := range g.members {
		if mem.join != nil {
			g.leader = mem.id
			return true
		}
	}
	return false
}

func (g *group) become(s State, now time.Time) {
	g.before, g.state, g.changedMS = g.state, s, now.UnixMilli()
}

// subscribedTo tells whether members read the topic, or might.
func (g *group) subscribedTo(topic string) bool {
	if g.topics == nil {
		return g.protoType == consumerProtocol
	}
	_, ok := g.topics[topic]
	return ok
}

// readTopics takes the topics from the members' subscriptions, where those are a consumer's.
func (g *group) readTopics() {
	g.topics = nil
	if g.protoType != consumerProtocol {
		return
	}
	topics := map[string]struct{}{}
	if len(g.members) > 0 && g.protocol == "" {
		return
	}
	for _, mem := range g.members {
		if !parseTopics(mem.metadata(g.protocol), topics) {
			return
		}
	}
	g.topics = topics
}

// parseTopics reads the part of a ConsumerProtocolSubscription that all versions begin with: int16
// version, int32 count, that many strings with int16 lengths. The bytes are the client's: nothing in
// them is believed before it is compared with what is there.
func parseTopics(b []byte, topics map[string]struct{}) bool {
	if len(b) < 6 {
		return false
	}
	n := int32(binary.BigEndian.Uint32(b[2:]))
	b = b[6:]
	if n < 0 || int(n) > len(b)/2 {
		return false
	}
	for range n {
		if len(b) < 2 {
			return false
		}
		size := int(binary.BigEndian.Uint16(b))
		b = b[2:]
		if size > len(b) || size > maxString {
			return false
		}
		topics[string(b[:size])] = struct{}{}
		b = b[size:]
	}
	return true
}
