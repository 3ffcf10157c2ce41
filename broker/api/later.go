package api

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/group"
	"varve/broker/wire"
)

// held is what a decoded request holds while it is at work: its frame, which []byte fields are views
// of, and its share of the decode memory. Both go back when nobody looks at the message any more,
// which for a request that waits (JoinGroup) is long before its reply.
type held struct {
	a        *API
	req      *wire.Request
	need     int64
	released atomic.Bool
}

func (h *held) release() {
	if h.released.Swap(true) {
		return
	}
	h.a.decode.give(h.need)
	h.req.Release()
}

// serveLater runs a handler that replies when it can, from any goroutine, exactly once. The
// connection's reader goes on at once; replies keep their order. Only the time until the handler
// returned is charged to the client: what it waits for costs nobody anything.
func (a *API) serveLater(e entry, c *call) {
	start := a.cfg.Now()
	var worked atomic.Int64
	version := c.req.Version
	e.later(c, func(resp kmsg.Response) {
		resp.SetVersion(version)
		a.throttleAnswer(c, resp, time.Duration(worked.Load()))
		c.held.release()
		c.req.Reply(wire.Response{Body: resp.AppendTo(wire.GetBuffer(512)[:0])})
	})
	worked.Store(int64(a.cfg.Now().Sub(start)))
}

// askGroup gives an event to the shard of a group. refuse is called instead, once, if the shard cannot
// take it or is lost before its turn. The message may be read until the event returns.
func (a *API) askGroup(c *call, id string, event func(m *group.Machine, now time.Time) coord.Step, refuse func(error)) {
	p := int32(-1)
	if a.cfg.Groups != nil {
		p = a.cfg.Groups.PartitionFor(id)
	}
	if p < 0 {
		refuse(coord.ErrNotCoordinator)
		return
	}
	err := a.cfg.Groups.Do(p, func(m coord.Machine, now time.Time) coord.Step {
		step := event(m.(*group.Machine), now)
		c.taken()
		return step
	}, refuse)
	if err != nil {
		refuse(err)
	}
}

// taken says that one event of the request has run; the last one gives back what the request holds.
func (c *call) taken() {
	if c.events.Add(-1) < 0 {
		c.held.release()
	}
}

// clientOf is who sent a request, as groups show it: Kafka prints addresses with a slash.
func clientOf(c *call) group.Client {
	host := c.req.Conn.RemoteAddr().String()
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return group.Client{ID: c.req.ClientID, Host: "/" + host, Version: c.req.Version}
}
