package api

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/auth"
	"varve/broker/meta"
)

// quotaKeys are the limits there are, by their names in Kafka.
var quotaKeys = map[string]struct {
	kind  auth.QuotaKind
	whole bool // a whole number
	most  float64
	ip    bool // of addresses, not of users and client ids
	unit  float64
}{
	"producer_byte_rate":       {auth.ProduceBytes, true, math.MaxInt64, false, 1},
	"consumer_byte_rate":       {auth.FetchBytes, true, math.MaxInt64, false, 1},
	"request_percentage":       {auth.RequestTime, false, math.MaxFloat64, false, 0.01},
	"controller_mutation_rate": {auth.Mutations, false, math.MaxFloat64, false, 1},
	"connection_creation_rate": {auth.Connections, true, math.MaxInt32, true, 1},
}

// describeClientQuotas lists the entities that a filter lets through (KIP-546).
func (a *API) describeClientQuotas(_ context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.DescribeClientQuotasRequest)
	resp := req.ResponseKind().(*kmsg.DescribeClientQuotasResponse)
	resp.Entries = []kmsg.DescribeClientQuotasResponseEntry{} // never null: Java iterates it
	if err := checkQuotaFilter(req.Components); err != nil {
		resp.ErrorCode, resp.ErrorMessage = codeAndMessage(err)
		return resp, nil
	}
	for q := range a.cfg.Meta.Image().ClientQuotas() {
		if !quotaMatches(q.Entity, req.Components, req.Strict) {
			continue
		}
		out := kmsg.NewDescribeClientQuotasResponseEntry()
		for _, kind := range slices.Sorted(maps.Keys(q.Entity)) {
			e := kmsg.NewDescribeClientQuotasResponseEntryEntity()
			e.Type, e.Name = kind, q.Entity[kind]
			out.Entity = append(out.Entity, e)
		}
		for _, key := range slices.Sorted(maps.Keys(q.Values)) {
			v := kmsg.NewDescribeClientQuotasResponseEntryValue()
			v.Key, v.Value = key, q.Values[key]
			out.Values = append(out.Values, v)
		}
		resp.Entries = append(resp.Entries, out)
	}
	return resp, nil
}

func checkQuotaFilter(list []kmsg.DescribeClientQuotasRequestComponent) error {
	seen := map[string]bool{}
	for _, f := range list {
		switch f.EntityType {
		case "":
			return fmt.Errorf("%w: a part of the filter names no entity type", kerr.InvalidRequest)
		case meta.QuotaUser, meta.QuotaClientID, meta.QuotaIP:
		default:
			return fmt.Errorf("%w: entity type %.64q is not known; there are user, client-id and ip", kerr.UnsupportedVersion, f.EntityType)
		}
		switch {
		case seen[f.EntityType]:
			return fmt.Errorf("%w: the filter names %s twice", kerr.InvalidRequest, f.EntityType)
		case f.MatchType < kmsg.QuotasMatchTypeExact || f.MatchType > kmsg.QuotasMatchTypeAny:
			return fmt.Errorf("%w: match type %d is not known", kerr.InvalidRequest, f.MatchType)
		case f.MatchType == kmsg.QuotasMatchTypeExact && f.Match == nil:
			return fmt.Errorf("%w: an exact match of %s needs a name", kerr.InvalidRequest, f.EntityType)
		case f.MatchType != kmsg.QuotasMatchTypeExact && f.Match != nil:
			return fmt.Errorf("%w: only an exact match of %s takes a name", kerr.InvalidRequest, f.EntityType)
		}
		seen[f.EntityType] = true
	}
	if seen[meta.QuotaIP] && len(seen) > 1 {
		return fmt.Errorf("%w: an ip has no user and no client id", kerr.InvalidRequest)
	}
	return nil
}

func quotaMatches(e meta.QuotaEntity, filter []kmsg.DescribeClientQuotasRequestComponent, strict bool) bool {
	if strict && len(e) != len(filter) {
		return false
	}
	for _, f := range filter {
		name, there := e[f.EntityType]
		switch {
		case !there,
			f.MatchType == kmsg.QuotasMatchTypeDefault && name != nil,
			f.MatchType == kmsg.QuotasMatchTypeExact && (name == nil || *name != *f.Match):
			return false
		}
	}
	return true
}

// alterClientQuotas is key 49. Each entity succeeds or fails alone.
func (a *API) alterClientQuotas(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.AlterClientQuotasRequest)
	resp := req.ResponseKind().(*kmsg.AlterClientQuotasResponse)
	resp.Entries = make([]kmsg.AlterClientQuotasResponseEntry, 0, len(req.Entries))
	var cmds []meta.Command
	var at []int
	for i := range req.Entries {
		out := kmsg.NewAlterClientQuotasResponseEntry()
		for _, e := range req.Entries[i].Entity {
			re := kmsg.NewAlterClientQuotasResponseEntryEntity()
			re.Type, re.Name = e.Type, e.Name
			out.Entity = append(out.Entity, re)
		}
		cmd, err := quotaCommand(&req.Entries[i])
		switch {
		case err == nil && slices.ContainsFunc(cmds, func(o meta.Command) bool { return sameEntity(o, cmd) }):
			err = fmt.Errorf("%w: the request names the same entity more than once", kerr.InvalidRequest)
		case err == nil && len(cmds) == meta.MaxCommands:
			err = fmt.Errorf("%w: one request changes at most %d entities", kerr.InvalidRequest, meta.MaxCommands)
		}
		if err != nil {
			out.ErrorCode, out.ErrorMessage = codeAndMessage(err)
		} else {
			cmds, at = append(cmds, cmd), append(at, i)
		}
		resp.Entries = append(resp.Entries, out)
	}
	failed := func(i int, err error) {
		resp.Entries[at[i]].ErrorCode, resp.Entries[at[i]].ErrorMessage = codeAndMessage(err)
	}
	if !req.ValidateOnly {
		a.proposeEach(ctx, cmds, failed)
		return resp, nil
	}
	for i, r := range a.cfg.Meta.Check(cmds...) {
		if r.Err != nil {
			failed(i, r.Err)
		}
	}
	return resp, nil
}

func sameEntity(a, b meta.Command) bool {
	return maps.EqualFunc(a.(*meta.AlterClientQuota).Entity, b.(*meta.AlterClientQuota).Entity, func(x, y *string) bool {
		return x == nil && y == nil || x != nil && y != nil && *x == *y
	})
}

// quotaCommand checks one entry of the request.
func quotaCommand(r *kmsg.AlterClientQuotasRequestEntry) (*meta.AlterClientQuota, error) {
	cmd := &meta.AlterClientQuota{Entity: meta.QuotaEntity{}, Set: map[string]float64{}}
	for _, e := range r.Entity {
		if err := checkEntityPart(cmd.Entity, e); err != nil {
			return nil, err
		}
		cmd.Entity[e.Type] = e.Name
	}
	_, ip := cmd.Entity[meta.QuotaIP]
	switch {
	case len(cmd.Entity) == 0:
		return nil, fmt.Errorf("%w: the entity is empty: name a user, a client-id, both, or an ip", kerr.InvalidRequest)
	case ip && len(cmd.Entity) > 1:
		return nil, fmt.Errorf("%w: an ip cannot be combined with a user or a client-id", kerr.InvalidRequest)
	}
	for _, op := range r.Ops {
		if _, twice := cmd.Set[op.Key]; twice || slices.Contains(cmd.Remove, op.Key) {
			return nil, fmt.Errorf("%w: quota %.64q is named more than once", kerr.InvalidRequest, op.Key)
		}
		if op.Remove { // of a key that nobody knows too: it is not set afterwards
			cmd.Remove = append(cmd.Remove, op.Key)
			continue
		}
		if err := checkQuota(op.Key, op.Value, ip); err != nil {
			return nil, err
		}
		cmd.Set[op.Key] = op.Value
	}
	return cmd, nil
}

func checkEntityPart(have meta.QuotaEntity, e kmsg.AlterClientQuotasRequestEntryEntity) error {
	if e.Type != meta.QuotaUser && e.Type != meta.QuotaClientID && e.Type != meta.QuotaIP {
		return fmt.Errorf("%w: entity type %.64q is not known; there are user, client-id and ip", kerr.InvalidRequest, e.Type)
	}
	if _, twice := have[e.Type]; twice {
		return fmt.Errorf("%w: the entity has two parts of type %s", kerr.InvalidRequest, e.Type)
	}
	if e.Name == nil { // the default
		return nil
	}
	switch name := *e.Name; {
	case name == "":
		return fmt.Errorf("%w: the name of the %s is empty; null is the default", kerr.InvalidRequest, e.Type)
	case len(name) > meta.MaxQuotaName:
		return fmt.Errorf("%w: the name of the %s has %d bytes, at most %d are allowed", kerr.InvalidRequest, e.Type, len(name), meta.MaxQuotaName)
	case e.Type == meta.QuotaIP:
		if _, err := netip.ParseAddr(name); err != nil { // names are not resolved: they would mean another address tomorrow
			return fmt.Errorf("%w: %.64q is not an IP address", kerr.InvalidRequest, name)
		}
	}
	return nil
}

func checkQuota(key string, value float64, ip bool) error {
	k, ok := quotaKeys[key]
	switch {
	case !ok:
		return fmt.Errorf("%w: quota %.64q is not known; there are %v", kerr.InvalidRequest, key, slices.Sorted(maps.Keys(quotaKeys)))
	case k.ip && !ip:
		return fmt.Errorf("%w: %s is a quota of an ip, not of a user or client-id", kerr.InvalidRequest, key)
	case !k.ip && ip:
		return fmt.Errorf("%w: %s is a quota of a user or client-id, not of an ip", kerr.InvalidRequest, key)
	case !(value > 0): // NaN too
		return fmt.Errorf("%w: quota %s is %v, it must be above 0", kerr.InvalidRequest, key, value)
	case value > k.most:
		return fmt.Errorf("%w: quota %s is %v, it must be at most %v", kerr.InvalidRequest, key, value, k.most)
	case k.whole && value != math.Trunc(value):
		return fmt.Errorf("%w: quota %s is %v, it must be a whole number", kerr.InvalidRequest, key, value)
	}
	return nil
}
