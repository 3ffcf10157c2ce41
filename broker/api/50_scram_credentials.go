package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// describeScramCredentials refuses each user that is asked for, and lists none where all are: there
// are none, and librdkafka 2.15 ends its process on an error of the whole request.
func (a *API) describeScramCredentials(_ context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.DescribeUserSCRAMCredentialsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeUserSCRAMCredentialsResponse)
	at := map[string]int{}
	for _, u := range req.Users {
		if i, twice := at[u.Name]; twice {
			resp.Results[i].ErrorCode = kerr.DuplicateResource.Code
			resp.Results[i].ErrorMessage = kmsg.StringPtr("the request names the user more than once")
			continue
		}
		at[u.Name] = len(resp.Results)
		out := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		out.User, out.ErrorCode, out.ErrorMessage = u.Name, kerr.SecurityDisabled.Code, kmsg.StringPtr(noAuthorizer)
		resp.Results = append(resp.Results, out)
	}
	return resp, nil
}

// alterScramCredentials is key 51; each user is answered once, however often the request names him.
func (a *API) alterScramCredentials(_ context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.AlterUserSCRAMCredentialsRequest)
	resp := req.ResponseKind().(*kmsg.AlterUserSCRAMCredentialsResponse)
	seen := map[string]bool{}
	refuse := func(user string) {
		if seen[user] {
			return
		}
		seen[user] = true
		out := kmsg.NewAlterUserSCRAMCredentialsResponseResult()
		out.User, out.ErrorCode, out.ErrorMessage = user, kerr.SecurityDisabled.Code, kmsg.StringPtr(noAuthorizer)
		resp.Results = append(resp.Results, out)
	}
	for _, d := range req.Deletions {
		refuse(d.Name)
	}
	for _, u := range req.Upsertions {
		refuse(u.Name)
	}
	return resp, nil
}
