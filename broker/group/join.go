package group

import (
	"bytes"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
)

// joining is a JoinGroup at work.
type joining struct {
	client    Client
	memberID  string
	instance  *string
	protoType string
	protocols []protocol
	session   time.Duration
	rebalance time.Duration
	reply     func(*kmsg.JoinGroupResponse)
}

// versions of JoinGroup that change what is answered.
const (
	joinKnowsMemberID = 4 // KIP-394: a new member first gets its id
	joinSkips         = 9 // KIP-814: a returning static leader is told not to assign
)

// Join takes a member into the next generation of its group. The answer waits for the other members.
func (m *Machine) Join(now time.Time, req *kmsg.JoinGroupRequest, client Client, reply func(*kmsg.JoinGroupResponse)) coord.Step {
	m.begin(now)
	j := &joining{
		client: client, memberID: req.MemberID, instance: req.InstanceID, protoType: req.ProtocolType,
		session: millis(req.SessionTimeoutMillis), rebalance: millis(req.RebalanceTimeoutMillis), reply: reply,
	}
	if client.Version == 0 || req.RebalanceTimeoutMillis < 0 {
		j.rebalance = j.session
	}
	for _, p := range req.Protocols {
		if !slices.ContainsFunc(j.protocols, func(q protocol) bool { return q.name == p.Name }) {
			j.protocols = append(j.protocols, protocol{p.Name, p.Metadata})
		}
	}
	if code := m.checkJoin(req, j); code != nil {
		m.answerJoin(j.reply, refusedJoin(req.MemberID, code.Code))
		return m.end()
	}
	m.join(req.Group, j)
	return m.end()
}

func millis(ms int32) time.Duration { return time.Duration(ms) * time.Millisecond }

// checkJoin refuses what needs no look at the group. Sizes are checked here, before anything is kept.
func (m *Machine) checkJoin(req *kmsg.JoinGroupRequest, j *joining) *kerr.Error {
	set := m.cfg.Settings()
	switch {
	case req.Group == "" || len(req.Group) > maxString:
		return kerr.InvalidGroupID
	case j.session < set.MinSession || j.session > set.MaxSession:
		return kerr.InvalidSessionTimeout
	case len(req.MemberID) > maxString || len(req.ProtocolType) > maxString || len(j.client.ID)+idBytes > maxString ||
		req.InstanceID != nil && len(*req.InstanceID)+idBytes > maxString:
		return kerr.InvalidRequest
	}
	size := 2 * (len(j.client.ID) + idBytes)
	if req.InstanceID != nil {
		size += 2 * len(*req.InstanceID)
	}
	for _, p := range j.protocols {
		if len(p.name) > maxString {
			return kerr.InvalidRequest
		}
		size += len(p.name) + len(p.metadata)
	}
	g := m.groups[req.Group]
	if g == nil {
		g = &group{}
		if len(m.groups) >= m.cfg.Limits.Groups && req.MemberID == "" {
			return kerr.GroupMaxSizeReached
		}
	}
	if g.bytes+size > maxGroupBytes || m.memberBytes+size > m.cfg.Limits.MemberBytes {
		return kerr.GroupMaxSizeReached
	}
	return nil
}

// idBytes is what a generated member id has beside the client or instance id: a dash and a UUID.
const idBytes = 37

func (m *Machine) join(groupID string, j *joining) {
	g := m.groups[groupID]
	switch {
	case g == nil && j.memberID != "":
		m.answerJoin(j.reply, refusedJoin(j.memberID, kerr.UnknownMemberID.Code))
		return
	case g == nil:
		g = m.addGroup(groupID)
	}
	defer m.dropIfUnused(g)
	switch {
	case !m.accepts(g, j.memberID):
		if mem := g.byID[j.memberID]; mem != nil {
			m.removeMember(g, mem)
			m.maybeCompleteJoin(g)
		}
		m.dropPending(g, j.memberID)
		m.answerJoin(j.reply, refusedJoin("", kerr.GroupMaxSizeReached.Code))
	case !g.supports(j.protoType, j.protocols):
		m.answerJoin(j.reply, refusedJoin(j.memberID, kerr.InconsistentGroupProtocol.Code))
	case j.memberID == "":
		m.joinNew(g, j)
	default:
		m.joinExisting(g, j)
	}
}

// accepts tells whether group.max.size leaves room. While members rejoin, those who have are counted,
// so that a group that is too large loses its last ones.
func (m *Machine) accepts(g *group, memberID string) bool {
	most := m.cfg.Settings().MaxSize
	mem := g.byID[memberID]
	switch g.state {
	case PreparingRebalance:
		return mem != nil && mem.join != nil || g.awaiting < most
	case CompletingRebalance, Stable:
		return mem != nil || len(g.members) < most
	case Empty:
	}
	return true
}

func (m *Machine) joinNew(g *group, j *joining) {
	if j.instance != nil {
		id := *j.instance + "-" + m.cfg.NewID()
		if old := g.static[*j.instance]; old != nil {
			m.replaceStatic(g, old, id, j)
			return
		}
		m.addMember(g, id, j)
		return
	}
	id := j.client.ID + "-" + m.cfg.NewID()
	if j.client.Version < joinKnowsMemberID {
		m.addMember(g, id, j)
		return
	}
	// KIP-394: the id is given first, so that a client whose connection broke does not come twice.
	t := &timer{fire: func(time.Time) { m.expirePending(g, id) }}
	g.pending[id] = t
	m.account(g, len(id)+memberOverhead)
	m.timers.schedule(t, m.now.Add(j.session))
	m.answerJoin(j.reply, refusedJoin(id, kerr.MemberIDRequired.Code))
}

func (m *Machine) joinExisting(g *group, j *joining) {
	if _, pending := g.pending[j.memberID]; pending && j.instance == nil {
		m.addMember(g, j.memberID, j)
		return
	}
	if code := g.validate(j.memberID, j.instance); code != nil {
		m.answerJoin(j.reply, refusedJoin(j.memberID, code.Code))
		return
	}
	mem := g.byID[j.memberID]
	same := sameProtocols(mem.protocols, j.protocols)
	switch {
	case g.state == CompletingRebalance && same,
		g.state == Stable && same && g.leader != mem.id:
		// It did not get its answer, or has nothing new to say: this generation stands. A leader that
		// joins a stable group wants a rebalance, for a reason that its metadata does not show.
		m.answerJoin(j.reply, g.joinResponse(mem))
	case g.state == Empty:
		m.answerJoin(j.reply, refusedJoin(j.memberID, kerr.UnknownMemberID.Code))
	default:
		m.updateMember(g, mem, j)
		m.rebalanceOrComplete(g, "a member joins again")
	}
}

// validate checks a member id and, for a static member, that it is the one that holds the instance id.
func (g *group) validate(memberID string, instance *string) *kerr.Error {
	if instance != nil {
		switch mem := g.static[*instance]; {
		case mem == nil:
			return kerr.UnknownMemberID
		case mem.id != memberID:
			return kerr.FencedInstanceID
		}
	}
	if g.byID[memberID] == nil {
		return kerr.UnknownMemberID
	}
	return nil
}

func (m *Machine) addMember(g *group, id string, j *joining) {
	mem := &member{
		id: id, instance: j.instance, clientID: j.client.ID, clientHost: j.client.Host,
		session: j.session, rebalance: j.rebalance, protocols: cloneProtocols(j.protocols), isNew: true,
	}
	if g.state == PreparingRebalance && g.before == Empty {
		g.grew = true
	}
	if len(g.members) == 0 {
		g.protoType = j.protoType
	}
	m.insertMember(g, mem)
	m.dropPending(g, id)
	m.park(g, mem, j.reply)
	m.timers.schedule(&mem.expires, m.now.Add(newMemberTimeout))
	m.rebalanceOrComplete(g, "a member joins")
}

func (m *Machine) insertMember(g *group, mem *member) {
	g.members = append(g.members, mem)
	g.byID[mem.id] = mem
	if mem.instance != nil {
		g.static[*mem.instance] = mem
	}
	if g.leader == "" {
		g.leader = mem.id
	}
	for _, p := range mem.protocols {
		g.supported[p.name]++
	}
	m.account(g, mem.size())
	mem.expires.fire = func(time.Time) { m.expireMember(g, mem) }
}

func (m *Machine) account(g *group, bytes int) {
	g.bytes += bytes
	m.memberBytes += bytes
}

// park keeps a JoinGroup until the generation is complete. A request that was parked for the same
// member is answered: its client gave up on it.
func (m *Machine) park(g *group, mem *member, reply func(*kmsg.JoinGroupResponse)) {
	if old := mem.join; old != nil {
		m.answerJoin(old, refusedJoin(mem.id, kerr.RebalanceInProgress.Code))
	} else {
		g.awaiting++
	}
	mem.join = reply
}

func (m *Machine) updateMember(g *group, mem *member, j *joining) {
	before := mem.size()
	for _, p := range mem.protocols {
		g.dropSupport(p.name)
	}
	mem.protocols = cloneProtocols(j.protocols)
	for _, p := range mem.protocols {
		g.supported[p.name]++
	}
	m.account(g, mem.size()-before)
	mem.session, mem.rebalance = j.session, j.rebalance
	m.park(g, mem, j.reply)
}

func (g *group) dropSupport(name string) {
	if g.supported[name]--; g.supported[name] <= 0 {
		delete(g.supported, name)
	}
}

func cloneProtocols(in []protocol) []protocol {
	out := make([]protocol, len(in))
	for i, p := range in {
		out[i] = protocol{p.name, bytes.Clone(p.metadata)}
	}
	return out
}

// replaceStatic gives a static member that came back without its id a new one (KIP-345). Whoever
// still waits under the old id is fenced. If the protocol of a stable group stays what it is, nobody
// else notices.
func (m *Machine) replaceStatic(g *group, mem *member, id string, j *joining) {
	oldLeader := g.leader
	m.answerWaiting(g, mem, kerr.FencedInstanceID.Code, mem.id)
	before := mem.size()
	delete(g.byID, mem.id)
	delete(g.unsynced, mem.id)
	if g.leader == mem.id {
		g.leader = id
	}
	mem.id, mem.isNew = id, false
	mem.clientID, mem.clientHost = j.client.ID, j.client.Host
	g.byID[id] = mem
	m.account(g, mem.size()-before)
	m.updateMember(g, mem, j)
	m.touch(g, mem)
	switch g.state {
	case Stable:
		if g.selectProtocol() != g.protocol {
			m.rebalanceOrComplete(g, "a static member came back with other protocols")
			return
		}
		resp := g.joinResponse(mem)
		if resp.SkipAssignment = j.client.Version >= joinSkips && g.leader == id; !resp.SkipAssignment {
			// An old client cannot be told to lead without assigning: the old leader is named to it.
			resp.LeaderID, resp.Members = oldLeader, nil
		}
		m.record(g)
		m.finishJoin(g, mem, resp)
	case CompletingRebalance:
		// The leader may assign to the old id at this moment.
		m.prepareRebalance(g, "a static member came back while the leader assigns")
	default:
		m.maybeCompleteJoin(g)
	}
}

func (g *group) joinResponse(mem *member) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.MemberID, resp.Generation, resp.LeaderID = mem.id, g.generation, g.leader
	resp.ProtocolType, resp.Protocol = kmsg.StringPtr(g.protoType), kmsg.StringPtr(g.protocol)
	if g.leader != mem.id {
		return resp
	}
	for _, x := range g.members {
		r := kmsg.NewJoinGroupResponseMember()
		r.MemberID, r.InstanceID, r.ProtocolMetadata = x.id, x.instance, x.metadata(g.protocol)
		resp.Members = append(resp.Members, r)
	}
	return resp
}

// refusedJoin is an answer that only names the member and the fault.
func refusedJoin(memberID string, code int16) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.MemberID, resp.ErrorCode, resp.Generation = memberID, code, -1
	return resp
}

func (m *Machine) answerJoin(reply func(*kmsg.JoinGroupResponse), resp *kmsg.JoinGroupResponse) {
	m.answer(func(err error) {
		if err != nil {
			resp = refusedJoin("", codeOf(err))
		}
		reply(resp)
	})
}

// finishJoin answers a member that waits in JoinGroup, if it does.
func (m *Machine) finishJoin(g *group, mem *member, resp *kmsg.JoinGroupResponse) {
	if mem.join == nil {
		return
	}
	m.answerJoin(mem.join, resp)
	mem.join = nil
	g.awaiting--
}
