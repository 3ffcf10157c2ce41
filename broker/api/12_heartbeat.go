package api

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/group"
)

// heartbeat answers while the shard loads that all is well, as Kafka does: the session begins anew
// when it has loaded.
func (a *API) heartbeat(c *call, reply func(kmsg.Response)) {
	req := c.msg.(*kmsg.HeartbeatRequest)
	a.askGroup(c, req.Group, func(m *group.Machine, now time.Time) coord.Step {
		return m.Heartbeat(now, req, func(r *kmsg.HeartbeatResponse) { reply(r) })
	}, func(err error) {
		resp := kmsg.NewPtrHeartbeatResponse()
		if !errors.Is(err, coord.ErrLoading) {
			resp.ErrorCode = errorCode(err).Code
		}
		reply(resp)
	})
}
