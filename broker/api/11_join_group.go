package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/group"
)

// joinGroup waits for the other members of the group, for as long as its rebalance timeout.
func (a *API) joinGroup(c *call, reply func(kmsg.Response)) {
	req, client := c.msg.(*kmsg.JoinGroupRequest), clientOf(c)
	a.askGroup(c, req.Group, func(m *group.Machine, now time.Time) coord.Step {
		return m.Join(now, req, client, func(r *kmsg.JoinGroupResponse) { reply(r) })
	}, func(err error) {
		resp := kmsg.NewPtrJoinGroupResponse()
		resp.MemberID, resp.Generation, resp.ErrorCode = req.MemberID, -1, errorCode(err).Code
		reply(resp)
	})
}
