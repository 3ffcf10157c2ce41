package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// findCoordinator answers COORDINATOR_NOT_AVAILABLE: there are no coordinators yet, and clients
// that want a group keep asking.
func (a *API) findCoordinator(_ context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.FindCoordinatorRequest)
	resp := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
	const why = "this broker has no group or transaction coordinator yet"
	resp.ErrorCode, resp.ErrorMessage, resp.NodeID = kerr.CoordinatorNotAvailable.Code, kmsg.StringPtr(why), -1
	for _, key := range req.CoordinatorKeys {
		k := kmsg.NewFindCoordinatorResponseCoordinator()
		k.Key, k.NodeID, k.Port = key, -1, -1
		k.ErrorCode, k.ErrorMessage = kerr.CoordinatorNotAvailable.Code, kmsg.StringPtr(why)
		resp.Coordinators = append(resp.Coordinators, k)
	}
	return resp, nil
}
