package api

import (
	"context"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// listConfigResources names what has configs (KIP-1142). Version 0 asks for client metrics alone,
// of which there are none.
func (a *API) listConfigResources(_ context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.ListConfigResourcesRequest)
	resp := req.ResponseKind().(*kmsg.ListConfigResourcesResponse)
	resp.ConfigResources = []kmsg.ListConfigResourcesResponseConfigResource{}
	if req.Version == 0 {
		return resp, nil
	}
	asked := map[kmsg.ConfigResourceType]bool{}
	for _, kind := range req.ResourceTypes {
		asked[kmsg.ConfigResourceType(kind)] = true
	}
	for _, kind := range listedResources {
		delete(asked, kind)
	}
	if len(asked) > 0 {
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		return resp, nil
	}
	for _, kind := range req.ResourceTypes {
		asked[kmsg.ConfigResourceType(kind)] = true
	}
	add := func(kind kmsg.ConfigResourceType, name string) {
		if len(asked) > 0 && !asked[kind] {
			return
		}
		r := kmsg.NewListConfigResourcesResponseConfigResource()
		r.Type, r.Name = int8(kind), name
		resp.ConfigResources = append(resp.ConfigResources, r)
	}
	im := a.cfg.Meta.Image()
	for t := range im.Topics() {
		add(kmsg.ConfigResourceTypeTopic, t.Name)
	}
	for _, b := range im.Brokers() {
		add(kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(b.ID)))
		add(kmsg.ConfigResourceTypeBrokerLogger, strconv.Itoa(int(b.ID)))
	}
	return resp, nil
}

// listedResources are the kinds that may be asked for; of client metrics and groups there are none.
var listedResources = []kmsg.ConfigResourceType{
	kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker, kmsg.ConfigResourceTypeBrokerLogger,
	kmsg.ConfigResourceTypeClientMetrics, kmsg.ConfigResourceTypeGroupConfig,
}
