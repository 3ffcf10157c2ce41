package api

import (
	"net/netip"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/auth"
	"varve/broker/meta"
	"varve/broker/wire"
)

// QuotaRules turns the quotas of an image into rules for auth.Quotas. Keys that this program does
// not know are left out.
func QuotaRules(im *meta.Image) []auth.Rule {
	var list []auth.Rule
	for q := range im.ClientQuotas() {
		r := auth.Rule{Limits: map[auth.QuotaKind]float64{}}
		for key, value := range q.Values {
			if k, ok := quotaKeys[key]; ok {
				r.Limits[k.kind] = value * k.unit
			}
		}
		r.User, r.UserMatch = matchOf(q.Entity, meta.QuotaUser)
		r.Client, r.ClientMatch = matchOf(q.Entity, meta.QuotaClientID)
		if _, ok := q.Entity[meta.QuotaIP]; ok {
			r.User, r.UserMatch = matchOf(q.Entity, meta.QuotaIP)
			if addr, err := netip.ParseAddr(r.User); err == nil { // in the form that connections have
				r.User = addr.Unmap().String()
			}
		}
		list = append(list, r)
	}
	return list
}

func matchOf(e meta.QuotaEntity, part string) (string, auth.Match) {
	name, ok := e[part]
	switch {
	case !ok:
		return "", auth.MatchNothing
	case name == nil:
		return "", auth.MatchDefault
	}
	return *name, auth.MatchName
}

// maxRequestPause bounds the pause for request time, as Kafka does: what is still owed pauses the
// client again. Byte rates have no such bound.
const maxRequestPause = time.Second

// throttle charges a request that is about to be answered: worked is the time it took the broker,
// amount what it moved of kind. It pauses the connection and returns the milliseconds that the
// client is told (KIP-219). It is called before the reply.
func (a *API) throttle(req *wire.Request, worked time.Duration, kind auth.QuotaKind, amount int) int32 {
	q := a.cfg.Quotas
	if !q.Limited(auth.RequestTime) && !q.Limited(kind) {
		return 0
	}
	user, now := userOf(req.Conn), a.cfg.Now()
	wait := min(q.Charge(auth.RequestTime, user, req.ClientID, worked.Seconds(), now), maxRequestPause)
	if kind != auth.RequestTime {
		wait = max(wait, q.Charge(kind, user, req.ClientID, float64(amount), now))
	}
	return a.pause(req, wait)
}

// throttleAnswer charges a request that kmsg answers. All its time counts, also what it waited for
// the metadata log.
func (a *API) throttleAnswer(c *call, resp kmsg.Response, worked time.Duration) {
	ms := max(a.throttle(c.req, worked, auth.RequestTime, 0), a.pause(c.req, c.wait))
	if t, ok := resp.(kmsg.SetThrottleResponse); ok && ms > 0 {
		t.SetThrottle(ms)
	}
}

// pause mutes a connection and gives the pause in the milliseconds of the reply.
func (a *API) pause(req *wire.Request, wait time.Duration) int32 {
	if wait <= 0 {
		return 0
	}
	req.Conn.Mute(wait)
	a.metrics.throttled(wait)
	return int32((wait + time.Millisecond - 1).Milliseconds())
}

// fetchLimit is the most bytes that a client may be given in one answer, so that one large Fetch
// cannot take many windows' worth.
func (a *API) fetchLimit(req *wire.Request, most int) int {
	if !a.cfg.Quotas.Limited(auth.FetchBytes) {
		return most
	}
	limit, ok := a.cfg.Quotas.Most(auth.FetchBytes, userOf(req.Conn), req.ClientID)
	if !ok || limit >= float64(most) {
		return most
	}
	return max(int(limit), 1)
}

// mutate charges partitions that are to be made or deleted. From the version on in which clients
// know THROTTLING_QUOTA_EXCEEDED, one that owes is refused; before, it only has to pause.
func (c *call) mutate(a *API, partitions int, strictFrom int16) error {
	q := a.cfg.Quotas
	if !q.Limited(auth.Mutations) {
		return nil
	}
	user, now := userOf(c.req.Conn), a.cfg.Now()
	if c.req.Version < strictFrom {
		c.wait = max(c.wait, q.Charge(auth.Mutations, user, c.req.ClientID, float64(partitions), now))
		return nil
	}
	wait, ok := q.TryCharge(auth.Mutations, user, c.req.ClientID, float64(partitions), now)
	if ok {
		return nil
	}
	c.wait = max(c.wait, wait)
	return kerr.ThrottlingQuotaExceeded
}

func userOf(c *wire.Conn) string {
	if c.Principal == "" {
		return auth.Anonymous
	}
	return c.Principal
}
