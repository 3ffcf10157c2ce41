package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"
)

const (
	// The first pauses are short because brokers of a cluster are often started together; the last
	// one also heals a partition that outlasted memberlist's memory of the dead.
	joinPause    = 200 * time.Millisecond
	maxJoinPause = 10 * time.Second
	// resolveTimeout bounds one lookup of a seed's name.
	resolveTimeout = 2 * time.Second
	// maxSeedAddresses bounds what one name may stand for.
	maxSeedAddresses = 64
)

// Join asks seeds (host:port) for their members once, and tells how many answered; the own address
// is skipped. An error says that there were seeds and none of them answered.
func (g *Gossip) Join(ctx context.Context, seeds []string) (int, error) {
	addresses, err := g.resolveSeeds(ctx, seeds)
	return g.join(ctx, addresses, err)
}

func (g *Gossip) join(ctx context.Context, addresses []netip.AddrPort, err error) (int, error) {
	joined := 0
	for _, a := range addresses {
		if ctx.Err() != nil {
			return joined, context.Cause(ctx)
		}
		n, e := g.list.Join([]string{a.String()})
		joined += n
		if e != nil {
			err = errors.Join(err, e)
		}
	}
	if joined > 0 || err == nil {
		return joined, nil
	}
	return 0, fmt.Errorf("join gossip: %w", err)
}

// keepJoined tries the seeds that are not among the members, for as long as the broker lives: at
// start they may not be up yet, and after a long partition each side has forgotten the other.
func (g *Gossip) keepJoined(ctx context.Context, seeds []string) {
	pause, told := joinPause, false
	for {
		missing, err := g.missingSeeds(ctx, seeds)
		n, err := g.join(ctx, missing, err)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil && !told:
			told = true
			g.log.Warn("no gossip seed answers yet, trying on", "seeds", seeds, "err", err)
		case n > 0:
			told = false
			g.log.Debug("gossip seeds answered", "answered", n, "tried", len(missing))
		}
		if pause = min(2*pause, maxJoinPause); len(missing) == 0 && err == nil {
			pause = maxJoinPause
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + rand.N(pause/2)): // apart, so that brokers do not ask in step
		}
	}
}

// missingSeeds are the addresses of seeds that no live member has. The error is about names that did
// not resolve; the rest is still tried.
func (g *Gossip) missingSeeds(ctx context.Context, seeds []string) ([]netip.AddrPort, error) {
	addresses, err := g.resolveSeeds(ctx, seeds)
	live := make(map[string]bool)
	for _, m := range g.Members() {
		live[m.Address] = true
	}
	missing := addresses[:0]
	for _, a := range addresses {
		if !live[a.String()] {
			missing = append(missing, a)
		}
	}
	return missing, err
}

// resolveSeeds gives the addresses behind seeds, without this broker's own.
func (g *Gossip) resolveSeeds(ctx context.Context, seeds []string) ([]netip.AddrPort, error) {
	var all []netip.AddrPort
	var errs []error
	for _, seed := range seeds {
		addresses, err := resolve(ctx, seed)
		if err != nil {
			errs = append(errs, fmt.Errorf("seed %s: %w", seed, err))
		}
		for _, a := range addresses {
			if a != g.self {
				all = append(all, a)
			}
		}
	}
	return all, errors.Join(errs...)
}

// resolveOne prefers IPv4 among many, as net.Listen does. An empty host is every address.
func resolveOne(ctx context.Context, address string) (netip.AddrPort, error) {
	addresses, err := resolve(ctx, address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, a := range addresses {
		if a.Addr().Is4() {
			return a, nil
		}
	}
	return addresses[0], nil
}

// resolve gives at least one address, or an error. The resolver is ours and not memberlist's, which
// asks for every record type over TCP first and cannot be cancelled.
func resolve(ctx context.Context, address string) ([]netip.AddrPort, error) {
	host, port, err := splitHostPort(address)
	if err != nil {
		return nil, err
	}
	if host == "" {
		host = "0.0.0.0"
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var addresses []netip.AddrPort
	for _, ip := range ips[:min(len(ips), maxSeedAddresses)] {
		addresses = append(addresses, netip.AddrPortFrom(ip.Unmap(), port))
	}
	if len(addresses) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	return addresses, nil
}
