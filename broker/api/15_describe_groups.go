package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/group"
)

// allGroupOperations is READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS and ALTER_CONFIGS, which anybody may
// while there is no authorizer.
const allGroupOperations = 1<<3 | 1<<6 | 1<<8 | 1<<10 | 1<<11

func (a *API) describeGroups(c *call, reply func(kmsg.Response)) {
	req, client := c.msg.(*kmsg.DescribeGroupsRequest), clientOf(c)
	resp := kmsg.NewPtrDescribeGroupsResponse()
	resp.Groups = make([]kmsg.DescribeGroupsResponseGroup, len(req.Groups))
	answers := gather(c, len(req.Groups), func() { reply(resp) })
	for i, id := range req.Groups {
		answer := func(g kmsg.DescribeGroupsResponseGroup) {
			g.AuthorizedOperations = noOperations
			if req.IncludeAuthorizedOperations && g.ErrorCode == 0 {
				g.AuthorizedOperations = allGroupOperations
			}
			resp.Groups[i] = g
			answers.done()
		}
		a.askGroup(c, id, func(m *group.Machine, now time.Time) coord.Step {
			return m.Describe(now, id, client, answer)
		}, func(err error) {
			g := kmsg.NewDescribeGroupsResponseGroup()
			g.Group, g.ErrorCode = id, errorCode(err).Code
			answer(g)
		})
	}
	answers.done()
}
