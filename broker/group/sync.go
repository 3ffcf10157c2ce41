package group

import (
	"bytes"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
)

// syncNamesProtocol is the first SyncGroup version that must name protocol type and protocol (KIP-559).
const syncNamesProtocol = 5

// Sync gives a member its assignment. Members wait for the leader, which brings all of them.
func (m *Machine) Sync(now time.Time, req *kmsg.SyncGroupRequest, client Client, reply func(*kmsg.SyncGroupResponse)) coord.Step {
	m.begin(now)
	g, mem, code := m.checkSync(req, client)
	switch {
	case code != nil:
		m.answerSync(reply, refusedSync(code.Code))
	case g.state == PreparingRebalance:
		m.answerSync(reply, refusedSync(kerr.RebalanceInProgress.Code))
	case g.state == CompletingRebalance:
		m.finishSync(mem, refusedSync(kerr.RebalanceInProgress.Code)) // its client gave up on that one
		mem.sync = reply
		m.synced(g, mem)
		if g.leader == mem.id {
			m.assign(g, req)
		}
	default: // Stable
		m.synced(g, mem)
		m.answerSync(reply, g.syncResponse(mem))
	}
	return m.end()
}

func (m *Machine) checkSync(req *kmsg.SyncGroupRequest, client Client) (*group, *member, *kerr.Error) {
	if req.Group == "" {
		return nil, nil, kerr.InvalidGroupID
	}
	if client.Version >= syncNamesProtocol && (req.ProtocolType == nil || req.Protocol == nil) {
		return nil, nil, kerr.InconsistentGroupProtocol
	}
	g := m.groups[req.Group]
	if g == nil || g.state == Empty {
		return nil, nil, kerr.UnknownMemberID
	}
	if code := g.validate(req.MemberID, req.InstanceID); code != nil {
		return nil, nil, code
	}
	switch {
	case req.Generation != g.generation:
		return nil, nil, kerr.IllegalGeneration
	case req.ProtocolType != nil && *req.ProtocolType != g.protoType,
		req.Protocol != nil && *req.Protocol != g.protocol:
		return nil, nil, kerr.InconsistentGroupProtocol
	}
	return g, g.byID[req.MemberID], nil
}

// assign takes the leader's assignment. Members that it does not name get an empty one.
func (m *Machine) assign(g *group, req *kmsg.SyncGroupRequest) {
	assignments := make(map[string][]byte, len(req.GroupAssignment))
	for _, a := range req.GroupAssignment {
		assignments[a.MemberID] = a.MemberAssignment
	}
	size := 0
	for _, mem := range g.members {
		size += len(assignments[mem.id]) - len(mem.assignment)
	}
	if g.bytes+size > maxGroupBytes || m.memberBytes+size > m.cfg.Limits.MemberBytes {
		for _, mem := range g.members {
			m.setAssignment(g, mem, nil)
			if m.finishSync(mem, refusedSync(kerr.UnknownServerError.Code)) {
				m.touch(g, mem)
			}
		}
		m.prepareRebalance(g, "the leader's assignment is too large")
		return
	}
	for _, mem := range g.members {
		m.setAssignment(g, mem, bytes.Clone(assignments[mem.id]))
	}
	g.become(Stable, m.now)
	m.record(g)
	for _, mem := range g.members {
		if m.finishSync(mem, g.syncResponse(mem)) {
			m.touch(g, mem)
		}
	}
}

func (g *group) syncResponse(mem *member) *kmsg.SyncGroupResponse {
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.ProtocolType, resp.Protocol = kmsg.StringPtr(g.protoType), kmsg.StringPtr(g.protocol)
	if resp.MemberAssignment = mem.assignment; resp.MemberAssignment == nil {
		resp.MemberAssignment = []byte{}
	}
	return resp
}

// Heartbeat keeps a member's session, and tells it of a rebalance.
func (m *Machine) Heartbeat(now time.Time, req *kmsg.HeartbeatRequest, reply func(*kmsg.HeartbeatResponse)) coord.Step {
	m.begin(now)
	resp := kmsg.NewPtrHeartbeatResponse()
	resp.ErrorCode = m.heartbeat(req)
	m.answer(func(err error) {
		if err != nil {
			resp.ErrorCode = codeOf(err)
		}
		reply(resp)
	})
	return m.end()
}

func (m *Machine) heartbeat(req *kmsg.HeartbeatRequest) int16 {
	if req.Group == "" {
		return kerr.InvalidGroupID.Code
	}
	g := m.groups[req.Group]
	if g == nil {
		return kerr.UnknownMemberID.Code
	}
	if code := g.validate(req.MemberID, req.InstanceID); code != nil {
		return code.Code
	}
	if req.Generation != g.generation {
		return kerr.IllegalGeneration.Code
	}
	m.touch(g, g.byID[req.MemberID])
	if g.state == PreparingRebalance {
		return kerr.RebalanceInProgress.Code
	}
	return 0
}

// Leave takes members out of a group, by member id or (an administrator's way) by instance id.
func (m *Machine) Leave(now time.Time, req *kmsg.LeaveGroupRequest, client Client, reply func(*kmsg.LeaveGroupResponse)) coord.Step {
	m.begin(now)
	resp := kmsg.NewPtrLeaveGroupResponse()
	members := req.Members
	if client.Version < 3 { // one member, named on top
		members = []kmsg.LeaveGroupRequestMember{{MemberID: req.MemberID}}
	}
	switch g := m.groups[req.Group]; {
	case req.Group == "":
		resp.ErrorCode = kerr.InvalidGroupID.Code
	default:
		m.leaveEach(g, members, resp)
		if client.Version < 3 {
			resp.ErrorCode, resp.Members = resp.Members[0].ErrorCode, nil
		}
	}
	m.answer(func(err error) {
		if err != nil {
			resp.ErrorCode, resp.Members = codeOf(err), nil
		}
		reply(resp)
	})
	return m.end()
}

func (m *Machine) leaveEach(g *group, members []kmsg.LeaveGroupRequestMember, resp *kmsg.LeaveGroupResponse) {
	left := false
	for _, lm := range members {
		r := kmsg.NewLeaveGroupResponseMember()
		r.MemberID, r.InstanceID = lm.MemberID, lm.InstanceID
		if code := m.leaveOne(g, lm); code != nil {
			r.ErrorCode = code.Code
		} else {
			left = true
		}
		resp.Members = append(resp.Members, r)
	}
	if !left {
		return
	}
	switch g.state {
	case Stable, CompletingRebalance:
		m.prepareRebalance(g, "members left")
	case PreparingRebalance:
		m.maybeFinishJoin(g)
	case Empty:
	}
	m.dropIfUnused(g)
}

func (m *Machine) leaveOne(g *group, lm kmsg.LeaveGroupRequestMember) *kerr.Error {
	if g == nil {
		return kerr.UnknownMemberID
	}
	if lm.MemberID == "" && lm.InstanceID != nil {
		mem := g.static[*lm.InstanceID]
		if mem == nil {
			return kerr.UnknownMemberID
		}
		m.removeMember(g, mem)
		return nil
	}
	if _, pending := g.pending[lm.MemberID]; pending {
		m.dropPending(g, lm.MemberID)
		return nil
	}
	if code := g.validate(lm.MemberID, lm.InstanceID); code != nil {
		return code
	}
	m.removeMember(g, g.byID[lm.MemberID])
	return nil
}
