package group

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// rebalanceOrComplete starts a rebalance, or goes on with the one under way.
func (m *Machine) rebalanceOrComplete(g *group, why string) {
	if g.state == PreparingRebalance {
		m.maybeCompleteJoin(g)
		return
	}
	m.prepareRebalance(g, why)
}

// prepareRebalance asks every member to join again. The first members of an empty group are given
// some time to gather (KIP-134).
func (m *Machine) prepareRebalance(g *group, why string) {
	if g.state == CompletingRebalance {
		for _, mem := range g.members {
			m.setAssignment(g, mem, nil)
			if m.finishSync(mem, refusedSync(kerr.RebalanceInProgress.Code)) {
				m.touch(g, mem)
			}
		}
	}
	m.stopAwaitingSync(g)
	initial := g.state == Empty
	g.become(PreparingRebalance, m.now)
	m.cfg.Log.Debug("group rebalances", "group", g.id, "generation", g.generation, "why", why)
	switch {
	case initial:
		delay := m.cfg.Settings().InitialDelay
		m.awaitInitial(g, delay, max(g.rebalanceTimeout()-delay, 0))
	case g.allJoined():
		m.completeJoin(g)
	default:
		m.awaitJoins(g)
	}
}

// awaitInitial completes the first generation after delay, or later if members keep coming, up to
// the slowest member's rebalance timeout.
func (m *Machine) awaitInitial(g *group, delay, remaining time.Duration) {
	g.joinTimer.fire = func(time.Time) {
		if !g.grew || remaining == 0 {
			m.completeJoin(g)
			return
		}
		g.grew = false
		m.awaitInitial(g, min(m.cfg.Settings().InitialDelay, remaining), max(remaining-delay, 0))
	}
	m.timers.schedule(&g.joinTimer, m.now.Add(delay))
}

func (m *Machine) awaitJoins(g *group) {
	g.joinTimer.fire = func(time.Time) { m.completeJoin(g) }
	m.timers.schedule(&g.joinTimer, m.now.Add(max(g.rebalanceTimeout(), minJoinWait)))
}

// minJoinWait keeps members with a rebalance timeout of nothing from making the broker busy.
const minJoinWait = 100 * time.Millisecond

// maybeCompleteJoin completes the generation if nobody is waited for. An initial rebalance takes its
// time all the same.
func (m *Machine) maybeCompleteJoin(g *group) {
	if g.state == PreparingRebalance && g.before != Empty && g.allJoined() {
		m.completeJoin(g)
	}
}

// completeJoin begins the next generation with those who joined. Static members stay in it without
// joining, until their sessions end.
func (m *Machine) completeJoin(g *group) {
	m.timers.cancel(&g.joinTimer)
	for _, mem := range slices.Clone(g.members) {
		if mem.join == nil && mem.instance == nil {
			m.removeMember(g, mem)
		}
	}
	if len(g.members) > 0 && !g.electJoinedLeader() {
		m.awaitJoins(g) // static members only, and none of them is here
		return
	}
	g.generation++
	clear(g.unsynced)
	g.grew = false
	if len(g.members) == 0 {
		g.protocol = ""
		g.readTopics()
		g.become(Empty, m.now)
		m.record(g)
		return
	}
	g.protocol = g.selectProtocol()
	g.readTopics()
	g.become(CompletingRebalance, m.now)
	for _, mem := range g.members {
		m.finishJoin(g, mem, g.joinResponse(mem))
		mem.isNew = false
		m.touch(g, mem)
		g.unsynced[mem.id] = struct{}{}
	}
	generation := g.generation
	g.syncTimer.fire = func(time.Time) { m.expireSync(g, generation) }
	m.timers.schedule(&g.syncTimer, m.now.Add(g.rebalanceTimeout()))
}

// expireSync removes who took part in the generation but never fetched its assignment.
func (m *Machine) expireSync(g *group, generation int32) {
	if generation != g.generation || len(g.unsynced) == 0 || g.state != CompletingRebalance && g.state != Stable {
		return
	}
	for _, mem := range slices.Clone(g.members) {
		if _, missing := g.unsynced[mem.id]; missing {
			m.removeMember(g, mem)
		}
	}
	m.prepareRebalance(g, "members did not sync in time")
}

func (m *Machine) stopAwaitingSync(g *group) {
	clear(g.unsynced)
	m.timers.cancel(&g.syncTimer)
}

// synced notes that a member sent SyncGroup.
func (m *Machine) synced(g *group, mem *member) {
	if delete(g.unsynced, mem.id); len(g.unsynced) == 0 {
		m.timers.cancel(&g.syncTimer)
	}
}

// touch begins a member's session anew.
func (m *Machine) touch(_ *group, mem *member) {
	m.timers.schedule(&mem.expires, m.now.Add(mem.session))
}

// expireMember ends a session. A member that waits for the others is alive by that, unless it has
// waited in its first JoinGroup for too long.
func (m *Machine) expireMember(g *group, mem *member) {
	if !mem.isNew && (mem.join != nil || mem.sync != nil) {
		return // its session begins anew with the answer
	}
	m.leave(g, mem, "session ended")
}

// expirePending forgets a member id that was given out and never used.
func (m *Machine) expirePending(g *group, id string) {
	m.dropPending(g, id)
	m.maybeFinishJoin(g)
	m.dropIfUnused(g)
}

func (m *Machine) dropPending(g *group, id string) {
	if t := g.pending[id]; t != nil {
		m.timers.cancel(t)
		delete(g.pending, id)
		m.account(g, -len(id)-memberOverhead)
	}
}

// maybeFinishJoin is maybeCompleteJoin after somebody was removed, which also ends an initial
// rebalance that nobody is left to wait for.
func (m *Machine) maybeFinishJoin(g *group) {
	if g.state == PreparingRebalance && g.allJoined() && (g.before != Empty || len(g.members) == 0) {
		m.completeJoin(g)
	}
}

// leave takes a member out, with what that means for the others.
func (m *Machine) leave(g *group, mem *member, why string) {
	m.removeMember(g, mem)
	switch g.state {
	case Stable, CompletingRebalance:
		m.prepareRebalance(g, why)
	case PreparingRebalance:
		m.maybeFinishJoin(g)
	case Empty:
	}
}

// removeMember takes a member out of its group and answers it, if it waits, that it is not known: a
// client that still lives joins again.
func (m *Machine) removeMember(g *group, mem *member) {
	m.answerWaiting(g, mem, kerr.UnknownMemberID.Code, "")
	m.timers.cancel(&mem.expires)
	g.members = slices.DeleteFunc(g.members, func(x *member) bool { return x == mem })
	delete(g.byID, mem.id)
	delete(g.unsynced, mem.id)
	if mem.instance != nil && g.static[*mem.instance] == mem {
		delete(g.static, *mem.instance)
	}
	for _, p := range mem.protocols {
		g.dropSupport(p.name)
	}
	m.account(g, -mem.size())
	if g.leader == mem.id {
		g.leader = ""
		if len(g.members) > 0 {
			g.leader = g.members[0].id
		}
	}
}

func (m *Machine) answerWaiting(g *group, mem *member, code int16, memberID string) {
	m.finishJoin(g, mem, refusedJoin(memberID, code))
	m.finishSync(mem, refusedSync(code))
}

func (m *Machine) setAssignment(g *group, mem *member, assignment []byte) {
	m.account(g, len(assignment)-len(mem.assignment))
	mem.assignment = assignment
}

func refusedSync(code int16) *kmsg.SyncGroupResponse {
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.ErrorCode, resp.MemberAssignment = code, []byte{}
	return resp
}

// finishSync answers a member that waits in SyncGroup, and tells whether it did.
func (m *Machine) finishSync(mem *member, resp *kmsg.SyncGroupResponse) bool {
	if mem.sync == nil {
		return false
	}
	m.answerSync(mem.sync, resp)
	mem.sync = nil
	return true
}

func (m *Machine) answerSync(reply func(*kmsg.SyncGroupResponse), resp *kmsg.SyncGroupResponse) {
	m.answer(func(err error) {
		if err != nil {
			resp = refusedSync(codeOf(err))
		}
		reply(resp)
	})
}
