package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker"
)

// maxAdminReply bounds an answer of the admin API: a manifest of a year of segments is some MiB.
const maxAdminReply = 256 << 20

// adminNode is one broker's admin API.
type adminNode struct {
	id  int32
	url string // http://host:port
}

// adminNodes learns the admin address of every broker from the brokers themselves: the key
// admin.listen of the broker resource. An address that means every interface is reached by the
// host that clients use.
func adminNodes(ctx context.Context, cl *kgo.Client) ([]adminNode, error) {
	raw, err := ask(ctx, cl, kmsg.NewPtrMetadataRequest())
	if err != nil {
		return nil, err
	}
	var nodes []adminNode
	for _, b := range raw.(*kmsg.MetadataResponse).Brokers {
		address, err := adminAddress(ctx, cl, b.NodeID)
		if err != nil {
			return nil, fmt.Errorf("admin address of broker %d: %w", b.NodeID, err)
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("admin address of broker %d: %w", b.NodeID, err)
		}
		if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
			host = b.Host
		}
		nodes = append(nodes, adminNode{b.NodeID, "http://" + net.JoinHostPort(host, port)})
	}
	if len(nodes) == 0 {
		return nil, errors.New("the cluster lists no brokers")
	}
	return nodes, nil
}

func adminAddress(ctx context.Context, cl *kgo.Client, node int32) (string, error) {
	configs, err := describeConfigs(ctx, cl, kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(node)), "admin.listen")
	if err != nil {
		return "", err
	}
	for _, c := range configs {
		if c.Name == "admin.listen" && c.Value != nil {
			return *c.Value, nil
		}
	}
	return "", errors.New("the broker does not tell admin.listen; is it Varve?")
}

// call asks one admin API and decodes its answer into out.
func (n adminNode) call(ctx context.Context, method, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, n.url+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask broker %d: %w", n.id, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAdminReply+1))
	if err != nil {
		return fmt.Errorf("read answer of broker %d: %w", n.id, err)
	}
	if len(body) > maxAdminReply {
		return fmt.Errorf("read answer of broker %d: longer than %d bytes", n.id, maxAdminReply)
	}
	if resp.StatusCode/100 != 2 {
		var e broker.AdminError
		if json.Unmarshal(body, &e) == nil && e.Message != "" {
			return &adminFailure{resp.StatusCode, e}
		}
		return fmt.Errorf("broker %d: %s %s: %s", n.id, method, path, resp.Status)
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("decode answer of broker %d: %w", n.id, err)
	}
	return nil
}

// adminFailure is an error that the admin API told.
type adminFailure struct {
	status int
	e      broker.AdminError
}

func (f *adminFailure) Error() string { return f.e.Message }

// askEach asks every broker for the same path and gives the answers of those that have one. A
// broker that does not lead what is asked for is not an error as long as another does.
func askEach[T any](ctx context.Context, nodes []adminNode, method, path string) ([]T, error) {
	var out []T
	var passed error
	for _, n := range nodes {
		var answer T
		err := n.call(ctx, method, path, &answer)
		var failure *adminFailure
		switch {
		case err == nil:
			out = append(out, answer)
		case errors.As(err, &failure) && failure.e.Code == "not_leader":
			passed = err
		default:
			return nil, err
		}
	}
	if len(out) == 0 {
		return nil, passed
	}
	return out, nil
}
