package api

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// feature is one of the levels that ApiVersions tells (KIP-584). They come with the program: level
// is what it works at, and neither more nor less can be chosen.
type feature struct {
	name            string
	min, max, level int16
	key             int16 // served from the table if the feature is there; -1: always
}

// features are those of Kafka 4.2 that mean something here. The level of metadata.version is that
// of 4.2; clients and tools read from it what the cluster can do.
var features = []feature{
	{"eligible.leader.replicas.version", 0, 1, 1, -1},
	{"group.version", 0, 1, 1, 68},
	{"metadata.version", 7, 29, 29, -1},
	{"transaction.version", 0, 2, 2, 28},
}

func (a *API) features() []feature {
	var list []feature
	for _, f := range features {
		if _, served := a.table[f.key]; f.key < 0 || served {
			list = append(list, f)
		}
	}
	return list
}

// Kinds of an update, by number on the wire.
const (
	upgrade         = 1
	safeDowngrade   = 2
	unsafeDowngrade = 3
)

// updateFeatures checks what is asked for as Kafka does. An update to the level that stands is
// granted; all others are refused, and one refusal is that of the whole request.
func (a *API) updateFeatures(_ context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.UpdateFeaturesRequest)
	resp := req.ResponseKind().(*kmsg.UpdateFeaturesResponse)
	resp.Results = []kmsg.UpdateFeaturesResponseResult{}
	seen := map[string]bool{}
	for _, u := range req.FeatureUpdates {
		err := a.checkFeature(req.Version, u)
		if seen[u.Feature] {
			err = fmt.Errorf("%w: the request names feature %.64q more than once", kerr.InvalidRequest, u.Feature)
		}
		seen[u.Feature] = true
		if err != nil {
			code, message := codeAndMessage(err)
			resp.ErrorCode = code
			resp.ErrorMessage = kmsg.StringPtr("no feature was updated: " + *message)
			resp.Results = resp.Results[:0]
			return resp, nil
		}
		out := kmsg.NewUpdateFeaturesResponseResult()
		out.Feature = u.Feature
		resp.Results = append(resp.Results, out)
	}
	return resp, nil
}

func (a *API) checkFeature(version int16, u kmsg.UpdateFeaturesRequestFeatureUpdate) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: level %d of feature %.64q: %s", kerr.InvalidUpdateVersion, u.MaxVersionLevel, u.Feature, fmt.Sprintf(format, args...))
	}
	kind := u.UpgradeType
	if version == 0 {
		kind = upgrade
		if u.AllowDowngrade {
			kind = safeDowngrade
		}
	}
	var known *feature
	for _, f := range a.features() {
		if f.name == u.Feature {
			known = &f
		}
	}
	switch {
	case kind < upgrade || kind > unsafeDowngrade:
		return bad("upgrade type %d is not known", kind)
	case u.MaxVersionLevel < 0:
		return bad("a level cannot be below 0")
	case known == nil:
		return bad("this broker does not know the feature")
	case u.MaxVersionLevel < known.min || u.MaxVersionLevel > known.max:
		return bad("this broker knows %d to %d", known.min, known.max)
	case u.MaxVersionLevel < known.level && kind == upgrade:
		return bad("it is below the present level %d, and the upgrade type allows no downgrade", known.level)
	case u.MaxVersionLevel != known.level:
		return bad("the level comes with the program and is %d; it cannot be lowered", known.level)
	}
	return nil
}
