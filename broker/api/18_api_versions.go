package api

import (
	"context"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/wire"
)

const (
	keyProduce     = 0
	keyApiVersions = 18
	// rebootstrapRequired tells a client that it reached another cluster or node than it believes
	// (KIP-1242).
	rebootstrapRequired = 129
)

// apiVersions answers from the table.
func (a *API) apiVersions(_ context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.ApiVersionsRequest)
	resp := req.ResponseKind().(*kmsg.ApiVersionsResponse)
	a.fillApiVersions(resp)
	if req.Version >= 5 && (req.ClusterID != nil && *req.ClusterID != a.cfg.Meta.Image().ClusterID ||
		req.NodeID >= 0 && req.NodeID != a.cfg.NodeID) {
		resp.ErrorCode = rebootstrapRequired
	}
	return resp, nil
}

func (a *API) fillApiVersions(resp *kmsg.ApiVersionsResponse) {
	for _, key := range slices.Sorted(maps.Keys(a.table)) {
		e := a.table[key]
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = key, e.min, e.max
		if key == keyProduce {
			// Old librdkafka wants to see version 0, though nobody may send it: KAFKA-18659.
			k.MinVersion = 0
		}
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	resp.FinalizedFeaturesEpoch = int64(a.cfg.Meta.Image().Index)
	for _, f := range a.features() {
		s, l := kmsg.NewApiVersionsResponseSupportedFeature(), kmsg.NewApiVersionsResponseFinalizedFeature()
		s.Name, s.MinVersion, s.MaxVersion = f.name, f.min, f.max
		if resp.Version < 4 { // older Java clients cannot read a level of 0
			s.MinVersion = max(f.min, 1)
		}
		resp.SupportedFeatures = append(resp.SupportedFeatures, s)
		if f.level > 0 {
			l.Name, l.MinVersionLevel, l.MaxVersionLevel = f.name, f.level, f.level
			resp.FinalizedFeatures = append(resp.FinalizedFeatures, l)
		}
	}
}

// oldApiVersions answers a version we do not know in version 0, which every client can read, with
// what we do know (KIP-511).
func (a *API) oldApiVersions(req *wire.Request) {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ErrorCode = kerr.UnsupportedVersion.Code
	a.fillApiVersions(resp)
	req.Release()
	req.Reply(wire.Response{Body: resp.AppendTo(wire.GetBuffer(512)[:0])})
}
