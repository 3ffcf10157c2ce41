package meta

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func quotaWorld(t *testing.T) *world {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	return w
}

func TestQuotasOfAnEntityAreSetMergedAndRemoved(t *testing.T) {
	w := quotaWorld(t)
	alice := QuotaEntity{QuotaUser: ptr("alice"), QuotaClientID: nil}
	w.must(1, &AlterClientQuota{Entity: alice, Set: map[string]float64{"producer_byte_rate": 10, "consumer_byte_rate": 20}})
	w.must(1, &AlterClientQuota{Entity: alice, Set: map[string]float64{"producer_byte_rate": 11}, Remove: []string{"consumer_byte_rate", "none"}})
	if q := w.img().ClientQuota(alice); q == nil || !maps.Equal(q.Values, map[string]float64{"producer_byte_rate": 11}) {
		t.Fatalf("%+v", q)
	}
	if q := w.img().ClientQuota(QuotaEntity{QuotaUser: ptr("alice")}); q != nil {
		t.Fatalf("another entity has %+v", q)
	}
	w.must(1, &AlterClientQuota{Entity: alice, Remove: []string{"producer_byte_rate"}})
	if n := len(slices.Collect(w.img().ClientQuotas())); n != 0 {
		t.Fatalf("%d entities are left without a quota", n)
	}
}

func TestQuotasOfNobodyOrOfNothingAreRefused(t *testing.T) {
	w := quotaWorld(t)
	for what, c := range map[string]*AlterClientQuota{
		"no entity":        {},
		"unknown part":     {Entity: QuotaEntity{"group": ptr("g")}},
		"ip and user":      {Entity: QuotaEntity{QuotaIP: nil, QuotaUser: nil}},
		"empty name":       {Entity: QuotaEntity{QuotaUser: ptr("")}},
		"name without end": {Entity: QuotaEntity{QuotaUser: ptr(strings.Repeat("x", MaxQuotaName+1))}},
		"zero":             {Entity: QuotaEntity{QuotaUser: nil}, Set: map[string]float64{"a": 0}},
		"below zero":       {Entity: QuotaEntity{QuotaUser: nil}, Set: map[string]float64{"a": -1}},
		"no key":           {Entity: QuotaEntity{QuotaUser: nil}, Set: map[string]float64{"": 1}},
	} {
		t.Run(what, func(t *testing.T) {
			w.t = t
			w.refused(1, ErrInvalidCommand, c)
		})
	}
}

func TestAChangeOfQuotasIsInTheDelta(t *testing.T) {
	w := quotaWorld(t)
	told := 0
	w.f.subscribe(&watcher{func(_, _ *Image, d *Delta) {
		if d.Quotas {
			told++
		}
	}})
	c := &AlterClientQuota{Entity: QuotaEntity{QuotaIP: ptr("10.0.0.1")}, Set: map[string]float64{"connection_creation_rate": 5}}
	w.must(1, c)
	w.must(1, c) // changes nothing
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

func TestASnapshotWithQuotasIsReadForEver(t *testing.T) {
	w := quotaWorld(t)
	w.must(1, &AlterClientQuota{Entity: QuotaEntity{QuotaUser: nil}, Set: map[string]float64{"producer_byte_rate": 1024}})
	w.must(1, &AlterClientQuota{Entity: QuotaEntity{QuotaUser: ptr("a\"b"), QuotaClientID: nil}, Set: map[string]float64{"request_percentage": 12.5}})
	w.must(1, &AlterClientQuota{Entity: QuotaEntity{QuotaIP: ptr("::1")}, Set: map[string]float64{"connection_creation_rate": 3}})
	have := encodeState(t, w.f)
	want := golden(t, "snapshots/v1-quotas.jsonl", have)
	if string(have) != string(want) {
		t.Errorf("snapshot is written as\n%s\nand was\n%s", have, want)
	}
	f := checkRestores(t, want)
	if n := len(slices.Collect(f.image.Load().ClientQuotas())); n != 3 {
		t.Errorf("%d entities after the restore", n)
	}
}
