package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/group"
)

// syncGroup waits for the leader's assignment.
func (a *API) syncGroup(c *call, reply func(kmsg.Response)) {
	req, client := c.msg.(*kmsg.SyncGroupRequest), clientOf(c)
	a.askGroup(c, req.Group, func(m *group.Machine, now time.Time) coord.Step {
		return m.Sync(now, req, client, func(r *kmsg.SyncGroupResponse) { reply(r) })
	}, func(err error) {
		resp := kmsg.NewPtrSyncGroupResponse()
		resp.MemberAssignment, resp.ErrorCode = []byte{}, errorCode(err).Code
		reply(resp)
	})
}
