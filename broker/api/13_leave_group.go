package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/group"
)

func (a *API) leaveGroup(c *call, reply func(kmsg.Response)) {
	req, client := c.msg.(*kmsg.LeaveGroupRequest), clientOf(c)
	a.askGroup(c, req.Group, func(m *group.Machine, now time.Time) coord.Step {
		return m.Leave(now, req, client, func(r *kmsg.LeaveGroupResponse) { reply(r) })
	}, func(err error) {
		resp := kmsg.NewPtrLeaveGroupResponse()
		resp.ErrorCode = errorCode(err).Code
		reply(resp)
	})
}
