package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// noAuthorizer is why ACLs, and with them SCRAM users, can neither be read nor set.
const noAuthorizer = "this broker has no authorizer: everybody may do everything, and there is nothing to list or change"

func (a *API) describeACLs(_ context.Context, c *call) (kmsg.Response, error) {
	resp := c.msg.ResponseKind().(*kmsg.DescribeACLsResponse)
	resp.ErrorCode, resp.ErrorMessage = kerr.SecurityDisabled.Code, kmsg.StringPtr(noAuthorizer)
	return resp, nil
}

// createACLs is key 30.
func (a *API) createACLs(_ context.Context, c *call) (kmsg.Response, error) {
	resp := c.msg.ResponseKind().(*kmsg.CreateACLsResponse)
	for range c.msg.(*kmsg.CreateACLsRequest).Creations {
		out := kmsg.NewCreateACLsResponseResult()
		out.ErrorCode, out.ErrorMessage = kerr.SecurityDisabled.Code, kmsg.StringPtr(noAuthorizer)
		resp.Results = append(resp.Results, out)
	}
	return resp, nil
}

// deleteACLs is key 31.
func (a *API) deleteACLs(_ context.Context, c *call) (kmsg.Response, error) {
	resp := c.msg.ResponseKind().(*kmsg.DeleteACLsResponse)
	for range c.msg.(*kmsg.DeleteACLsRequest).Filters {
		out := kmsg.NewDeleteACLsResponseResult()
		out.ErrorCode, out.ErrorMessage = kerr.SecurityDisabled.Code, kmsg.StringPtr(noAuthorizer)
		resp.Results = append(resp.Results, out)
	}
	return resp, nil
}
