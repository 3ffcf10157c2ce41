package group

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
)

// classicType is what ListGroups calls the groups of the classic protocol.
const classicType = "classic"

// List names the groups in the asked states and of the asked types, upper or lower case; no filter
// means all.
func (m *Machine) List(now time.Time, states, types []string, reply func([]kmsg.ListGroupsResponseGroup, error)) coord.Step {
	m.begin(now)
	var out []kmsg.ListGroupsResponseGroup
	for _, g := range m.groups {
		if !matches(states, g.state.String()) || !matches(types, classicType) {
			continue
		}
		r := kmsg.NewListGroupsResponseGroup()
		r.Group, r.ProtocolType, r.GroupState, r.GroupType = g.id, g.protoType, g.state.String(), classicType
		out = append(out, r)
	}
	m.answer(func(err error) { reply(out, err) })
	return m.end()
}

func matches(filter []string, value string) bool {
	return len(filter) == 0 || slices.ContainsFunc(filter, func(s string) bool { return strings.EqualFold(s, value) })
}

// describeErrors is the first DescribeGroups version that tells a missing group by an error (KIP-1043).
const describeErrors = 6

// Describe tells a group's state, members and, while it is stable, their assignments.
func (m *Machine) Describe(now time.Time, id string, client Client, reply func(kmsg.DescribeGroupsResponseGroup)) coord.Step {
	m.begin(now)
	resp := kmsg.NewDescribeGroupsResponseGroup()
	resp.Group = id
	resp.Members = []kmsg.DescribeGroupsResponseGroupMember{}
	if g := m.groups[id]; g != nil {
		g.describe(&resp)
	} else {
		resp.State = "Dead"
		if client.Version >= describeErrors {
			resp.ErrorCode = kerr.GroupIDNotFound.Code
			resp.ErrorMessage = kmsg.StringPtr(fmt.Sprintf("Group %s not found.", id))
		}
	}
	m.answer(func(err error) {
		if err != nil {
			failed := kmsg.NewDescribeGroupsResponseGroup()
			failed.Group, failed.ErrorCode = id, codeOf(err)
			resp = failed
		}
		reply(resp)
	})
	return m.end()
}

func (g *group) describe(resp *kmsg.DescribeGroupsResponseGroup) {
	resp.State, resp.ProtocolType = g.state.String(), g.protoType
	if g.state == Stable {
		resp.Protocol = g.protocol
	}
	for _, mem := range g.members {
		r := kmsg.NewDescribeGroupsResponseGroupMember()
		r.MemberID, r.InstanceID, r.ClientID, r.ClientHost = mem.id, mem.instance, mem.clientID, mem.clientHost
		r.ProtocolMetadata, r.MemberAssignment = []byte{}, []byte{}
		if g.state == Stable {
			r.ProtocolMetadata = append(r.ProtocolMetadata, mem.metadata(g.protocol)...)
			r.MemberAssignment = append(r.MemberAssignment, mem.assignment...)
		}
		resp.Members = append(resp.Members, r)
	}
}

// Delete removes a group without members, and its offsets.
func (m *Machine) Delete(now time.Time, id string, reply func(code int16)) coord.Step {
	m.begin(now)
	code := int16(0)
	switch g := m.groups[id]; {
	case g == nil:
		code = kerr.GroupIDNotFound.Code
	case g.state != Empty:
		code = kerr.NonEmptyGroup.Code
	default:
		m.deleteGroup(g)
	}
	m.answer(func(err error) {
		if err != nil {
			code = codeOf(err)
		}
		reply(code)
	})
	return m.end()
}

// deleteGroup writes the tombstones of a group and of everything it committed.
func (m *Machine) deleteGroup(g *group) {
	for topic, parts := range g.offsets {
		for p := range parts {
			m.records = append(m.records, offsetTombstone(offsetKey{g.id, topic, p}))
		}
	}
	for id := range g.txns {
		for k := range m.txns[id].offsets {
			if _, committed := g.offsets[k.topic][k.partition]; k.group == g.id && !committed {
				m.records = append(m.records, offsetTombstone(k))
			}
		}
	}
	m.records = append(m.records, metadataTombstone(g.id))
}
