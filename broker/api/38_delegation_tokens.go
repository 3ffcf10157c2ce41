package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Keys 38 to 41: there are no delegation tokens, because there are no users who could delegate.

func (a *API) createDelegationToken(_ context.Context, c *call) (kmsg.Response, error) {
	resp := c.msg.ResponseKind().(*kmsg.CreateDelegationTokenResponse)
	resp.ErrorCode = kerr.DelegationTokenAuthDisabled.Code
	return resp, nil
}

func (a *API) renewDelegationToken(_ context.Context, c *call) (kmsg.Response, error) {
	resp := c.msg.ResponseKind().(*kmsg.RenewDelegationTokenResponse)
	resp.ErrorCode = kerr.DelegationTokenAuthDisabled.Code
	return resp, nil
}

func (a *API) expireDelegationToken(_ context.Context, c *call) (kmsg.Response, error) {
	resp := c.msg.ResponseKind().(*kmsg.ExpireDelegationTokenResponse)
	resp.ErrorCode = kerr.DelegationTokenAuthDisabled.Code
	return resp, nil
}

func (a *API) describeDelegationToken(_ context.Context, c *call) (kmsg.Response, error) {
	resp := c.msg.ResponseKind().(*kmsg.DescribeDelegationTokenResponse)
	resp.ErrorCode = kerr.DelegationTokenAuthDisabled.Code
	return resp, nil
}
