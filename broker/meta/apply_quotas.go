package meta

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
)

// The parts that the entity of a client quota may have (KIP-546).
const (
	QuotaUser     = "user"
	QuotaClientID = "client-id"
	QuotaIP       = "ip"
)

// Limits of client quotas: they are read on every change, and a snapshot line holds one entity.
const (
	maxQuotaEntities = 10_000
	maxQuotaKeys     = 16
	maxQuotaKey      = 64
	// MaxQuotaName is the longest name of a user, client id or address. Distinguished names of
	// certificates have some hundred bytes.
	MaxQuotaName = 1024
)

// QuotaEntity says to whom a quota applies: names by part; a nil name is the default of that part.
type QuotaEntity map[string]*string

// key is the entity in one form: JSON sorts the parts.
func (e QuotaEntity) key() string {
	b, err := json.Marshal(e)
	if err != nil {
		panic("meta: quota entity does not marshal: " + err.Error()) // strings always do
	}
	return string(b)
}

// ClientQuota are the limits of one entity. It is never changed in place.
type ClientQuota struct {
	Entity QuotaEntity        `json:"entity"`
	Values map[string]float64 `json:"values"`
}

// AlterClientQuota changes the limits of one entity. The proposer has checked keys and values
// against those it knows; here they are only bounded.
type AlterClientQuota struct {
	Entity QuotaEntity        `json:"entity"`
	Set    map[string]float64 `json:"set,omitempty"`
	Remove []string           `json:"remove,omitempty"`
}

func (*AlterClientQuota) kind() string { return "alter_client_quota" }

func (c *AlterClientQuota) apply(t *tx) (int64, *CommandError) {
	if err := c.check(); err != nil {
		return 0, err
	}
	key := c.Entity.key()
	old, ok := t.img.quotas.get(key)
	fresh := &ClientQuota{Entity: c.Entity, Values: map[string]float64{}}
	if ok {
		maps.Copy(fresh.Values, old.Values)
	}
	for _, name := range c.Remove {
		delete(fresh.Values, name)
	}
	maps.Copy(fresh.Values, c.Set)
	switch {
	case ok && maps.Equal(old.Values, fresh.Values), !ok && len(fresh.Values) == 0:
		return 0, nil
	case len(fresh.Values) == 0:
		t.img.quotas = t.img.quotas.without(key)
	case len(fresh.Values) > maxQuotaKeys:
		return 0, refuse(ErrLimit, "%d quotas of one entity, at most %d", len(fresh.Values), maxQuotaKeys)
	case !ok && t.img.quotas.len() >= maxQuotaEntities:
		return 0, refuse(ErrLimit, "%d entities have quotas, at most %d", t.img.quotas.len(), maxQuotaEntities)
	default:
		t.img.quotas = t.img.quotas.with(key, fresh)
	}
	t.delta.Quotas = true
	return 0, nil
}

func (c *AlterClientQuota) check() *CommandError {
	if reason := c.Entity.fault(); reason != "" {
		return refuse(ErrInvalidCommand, "%s", reason)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Set)) { // sorted: every broker names the same key
		v := c.Set[name]
		if name == "" || len(name) > maxQuotaKey || !(v > 0) || math.IsInf(v, 0) {
			return refuse(ErrInvalidCommand, "quota %.64q of %v", name, v)
		}
	}
	return nil
}

// fault tells what is wrong with an entity, "" for nothing.
func (e QuotaEntity) fault() string {
	_, user := e[QuotaUser]
	_, client := e[QuotaClientID]
	_, ip := e[QuotaIP]
	known := 0
	for _, there := range []bool{user, client, ip} {
		if there {
			known++
		}
	}
	switch {
	case len(e) == 0 || known != len(e):
		return "an entity is a user, a client-id, both, or an ip"
	case ip && len(e) > 1:
		return "an ip stands alone"
	}
	for _, name := range e {
		if name != nil && (*name == "" || len(*name) > MaxQuotaName) {
			return "a name of an entity is empty or too long"
		}
	}
	return ""
}
