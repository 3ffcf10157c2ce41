package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (a *API) describeCluster(_ context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.DescribeClusterRequest)
	resp := req.ResponseKind().(*kmsg.DescribeClusterResponse)
	im := a.cfg.Meta.Image()
	resp.ClusterID, resp.ControllerID, resp.EndpointType = im.ClusterID, a.cfg.Meta.ControllerID(), 1
	resp.ClusterAuthorizedOperations = noOperations
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = allClusterOperations
	}
	if req.Version >= 1 && req.EndpointType != 1 { // 2 asks for controllers, which are no endpoint here (KIP-919)
		resp.ErrorCode = kerr.MismatchedEndpointType.Code
		resp.ErrorMessage = kmsg.StringPtr("this listener describes brokers")
		return resp, nil
	}
	for _, b := range im.Brokers() {
		if b.Fenced && !(req.Version >= 2 && req.IncludeFencedBrokers) {
			continue
		}
		rb := kmsg.NewDescribeClusterResponseBroker()
		rb.NodeID, rb.Host, rb.Port, rb.IsFenced = b.ID, b.Host, b.Port, b.Fenced
		if b.Rack != "" {
			rb.Rack = kmsg.StringPtr(b.Rack)
		}
		resp.Brokers = append(resp.Brokers, rb)
	}
	return resp, nil
}
