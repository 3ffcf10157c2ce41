package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/group"
)

func (a *API) deleteGroups(c *call, reply func(kmsg.Response)) {
	req := c.msg.(*kmsg.DeleteGroupsRequest)
	resp := kmsg.NewPtrDeleteGroupsResponse()
	resp.Groups = make([]kmsg.DeleteGroupsResponseGroup, len(req.Groups))
	answers := gather(c, len(req.Groups), func() { reply(resp) })
	for i, id := range req.Groups {
		answer := func(code int16) {
			g := kmsg.NewDeleteGroupsResponseGroup()
			g.Group, g.ErrorCode = id, code
			resp.Groups[i] = g
			answers.done()
		}
		a.askGroup(c, id, func(m *group.Machine, now time.Time) coord.Step {
			return m.Delete(now, id, answer)
		}, func(err error) { answer(errorCode(err).Code) })
	}
	answers.done()
}
