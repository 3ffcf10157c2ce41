package api

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// unregisterBroker forgets a broker that is gone for good. This one is not: it answers.
func (a *API) unregisterBroker(_ context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.UnregisterBrokerRequest)
	resp := req.ResponseKind().(*kmsg.UnregisterBrokerResponse)
	err := fmt.Errorf("%w: there is no broker %d", kerr.BrokerIDNotRegistered, req.BrokerID)
	if a.cfg.Meta.Image().Broker(req.BrokerID) != nil {
		err = fmt.Errorf("%w: broker %d holds replicas and cannot be unregistered yet", kerr.InvalidRequest, req.BrokerID)
	}
	resp.ErrorCode, resp.ErrorMessage = codeAndMessage(err)
	return resp, nil
}
