package api

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/group"
)

// listGroups asks every shard of this broker. One that loads makes the whole answer an error: half a
// list would look like a whole one.
func (a *API) listGroups(c *call, reply func(kmsg.Response)) {
	req := c.msg.(*kmsg.ListGroupsRequest)
	resp := kmsg.NewPtrListGroupsResponse()
	var shards []int32
	if a.cfg.Groups != nil {
		shards = a.cfg.Groups.Led()
	}
	var mu sync.Mutex
	answers := gather(c, len(shards), func() {
		if resp.ErrorCode != 0 {
			resp.Groups = nil
		}
		slices.SortFunc(resp.Groups, func(x, y kmsg.ListGroupsResponseGroup) int { return strings.Compare(x.Group, y.Group) })
		reply(resp)
	})
	answer := func(groups []kmsg.ListGroupsResponseGroup, err error) {
		mu.Lock()
		if err != nil && !errors.Is(err, coord.ErrNotCoordinator) { // that one's groups are another broker's
			resp.ErrorCode = errorCode(err).Code
		}
		resp.Groups = append(resp.Groups, groups...)
		mu.Unlock()
		answers.done()
	}
	for _, p := range shards {
		refuse := func(err error) { answer(nil, err) }
		err := a.cfg.Groups.Do(p, func(m coord.Machine, now time.Time) coord.Step {
			return m.(*group.Machine).List(now, req.StatesFilter, req.TypesFilter, answer)
		}, refuse)
		if err != nil {
			refuse(err)
		}
	}
	answers.done()
}
