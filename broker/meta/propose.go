package meta

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// retryPause is how long a proposal waits before it looks for a controller again: short beside the
// election timeout, long beside a failed try.
const retryPause = 10 * time.Millisecond

// Register makes this process the incarnation of its broker: the one before is fenced, every
// partition that it led gets a new leader epoch, and this one is unfenced, all in one command that
// Image shows when Register returns. It waits for a controller until ctx ends. It may be called
// again; an incarnation registers once.
func (n *Node) Register(ctx context.Context) (brokerEpoch int64, err error) {
	internal := n.c.InternalAdvertise
	if internal == "" && n.c.Internal != "" {
		internal = string(n.transport.LocalAddr())
	}
	p := &proposal{Broker: n.c.NodeID, TimeMS: n.c.Now().UnixMilli(), Commands: []Command{&RegisterBroker{
		ClusterID: n.identity.ClusterID, Broker: n.c.NodeID, DirectoryID: n.identity.DirectoryID,
		Incarnation: n.incarnation, Clean: n.c.Clean,
		Host: n.c.Host, Port: n.c.Port, Rack: n.c.Rack, Internal: internal,
	}}}
	results, err := n.submit(ctx, p)
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		return 0, fmt.Errorf("register broker %d: %w", n.c.NodeID, err)
	}
	n.epoch.Store(results[0].Value)
	return results[0].Value, nil
}

// Propose hands commands to the controller as one batch and waits for their outcomes. Each command
// succeeds or fails alone, see Result; Image shows what was applied when Propose returns. If ctx
// ends first, or the node is closed, the error is ErrUnknownOutcome: the commands may or may not be
// applied, then or later. Every other error means that nothing was proposed.
func (n *Node) Propose(ctx context.Context, commands ...Command) ([]Result, error) {
	if len(commands) == 0 {
		return nil, nil
	}
	epoch := n.epoch.Load()
	if epoch == 0 {
		return nil, ErrNotRegistered
	}
	select {
	case n.inFlight <- struct{}{}:
	case <-n.closing:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a place among %d open proposals: %w", maxInFlight, ctx.Err())
	}
	defer func() { <-n.inFlight }()
	return n.submit(ctx, &proposal{
		Broker: n.c.NodeID, Epoch: epoch, Sequence: n.sequence.Add(1),
		TimeMS: n.c.Now().UnixMilli(), Commands: commands,
	})
}

// ProposeOne is Propose for one command: its refusal is the error.
func (n *Node) ProposeOne(ctx context.Context, c Command) (Result, error) {
	results, err := n.Propose(ctx, c)
	if err != nil {
		return Result{}, err
	}
	return results[0], results[0].Err
}

// Check tells what commands would come to if they were applied, one after another, to the present
// image, and changes nothing (validate_only).
func (n *Node) Check(commands ...Command) []Result {
	img := n.Image()
	t := &tx{
		img: *img, index: img.Index + 1, broker: n.c.NodeID, epoch: n.epoch.Load(), timeMS: n.c.Now().UnixMilli(),
	}
	results := make([]Result, 0, len(commands))
	for _, c := range commands {
		results = append(results, newOutcome(t.run(c)).result(t.index))
	}
	return results
}

// submit applies a proposal through raft. Lost leadership is an unknown outcome and is retried
// under the same sequence, so that an entry that did get through is not applied twice.
func (n *Node) submit(ctx context.Context, p *proposal) ([]Result, error) {
	data, err := p.encode()
	if err != nil {
		return nil, err
	}
	tried := false
	for {
		results, err := n.applyOnce(ctx, data)
		switch {
		case err == nil:
			return results, nil
		case errors.Is(err, errNotSent):
		case errors.Is(err, errFailed):
			return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
		default:
			tried = true
		}
		if stop := n.pause(ctx); stop != nil {
			if !tried && errors.Is(stop, ErrClosed) {
				return nil, stop
			}
			return nil, fmt.Errorf("%w: %w: %w", ErrUnknownOutcome, stop, err)
		}
	}
}

// errNotSent is an attempt that raft refused before it wrote anything.
var errNotSent = errors.New("no controller")

func (n *Node) applyOnce(ctx context.Context, data []byte) ([]Result, error) {
	var results []Result
	err := n.await(ctx, func() error {
		future := n.raft.Apply(data, 0)
		if err := future.Error(); err != nil {
			if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipTransferInProgress) {
				return fmt.Errorf("%w: %w", errNotSent, err)
			}
			return err
		}
		switch r := future.Response().(type) {
		case []Result:
			results = r
			return nil
		case error:
			return r
		default:
			return fmt.Errorf("state machine answered %T", r)
		}
	})
	if err != nil {
		return nil, err // results may still be written by the attempt
	}
	return results, nil
}

// pause waits before the next attempt. Its error ends the proposal.
func (n *Node) pause(ctx context.Context) error {
	timer := time.NewTimer(retryPause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return n.store.Failed()
	case <-ctx.Done():
		return ctx.Err()
	case <-n.closing:
		return ErrClosed
	}
}

// WaitController returns when a controller is known, or with the error of ctx.
func (n *Node) WaitController(ctx context.Context) error {
	for n.ControllerID() == NoNode {
		if err := n.pause(ctx); err != nil {
			return fmt.Errorf("wait for a controller: %w", err)
		}
	}
	return nil
}
