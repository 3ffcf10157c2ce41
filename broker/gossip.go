package broker

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"varve/gossip"
)

// openGossip makes this broker findable and looks for the others. What gossip says is a hint: the
// events are logged and counted, and nothing is decided by them.
func (b *Broker) openGossip(ctx context.Context) error {
	if b.cfg.GossipListen == "" {
		b.log.Info("gossip is off: gossip.listen is empty")
		return nil
	}
	host, port, err := b.advertised()
	if err != nil {
		return err
	}
	g, err := gossip.Start(ctx, gossip.Config{
		Self: gossip.Node{
			ID: b.cfg.NodeID, Epoch: b.node.BrokerEpoch(), Rack: b.cfg.Rack,
			Kafka: joinHostPort(host, port), Admin: b.admin.Addr(),
		},
		ClusterID: b.node.Identity().ClusterID,
		Bind:      b.cfg.GossipListen, Advertise: gossipAdvertise(b.cfg.GossipListen, host),
		Seeds: b.cfg.Seeds, Log: b.log,
	})
	if errors.Is(err, gossip.ErrAddressInUse) {
		return fmt.Errorf("%w (is another broker running? --gossip names another address)", err)
	}
	if err != nil {
		return fmt.Errorf("%w (--gossip names the address)", err)
	}
	b.gossip = g
	b.onClose("gossip", g.Leave)
	b.task(func(ctx context.Context) {
		select {
		case <-ctx.Done():
		case <-b.fatal.raised: // the others are told at once that this broker goes
			if err := g.Leave(ctx); err != nil {
				b.log.Warn("gossip not left in time", "err", err)
			}
		}
	})
	b.watchGossip(g)
	return nil
}

// watchGossip logs and counts the events until gossip is left.
func (b *Broker) watchGossip(g *gossip.Gossip) {
	events := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "varve_gossip_events_total", Help: "Changes of the membership that gossip told of.",
	}, []string{"event"})
	b.registry.MustRegister(events,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "varve_gossip_members", Help: "Brokers that gossip believes to live, this one too.",
		}, func() float64 { return float64(len(g.Members())) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "varve_gossip_events_dropped_total", Help: "Changes of the membership that were too many to log.",
		}, func() float64 { return float64(g.Dropped()) }))
	b.task(func(ctx context.Context) {
		for {
			select {
			case <-ctx.Done():
				return
			case e, open := <-g.Events():
				if !open {
					return
				}
				events.WithLabelValues(e.Kind.String()).Inc()
				b.logGossip(e)
			}
		}
	})
}

func (b *Broker) logGossip(e gossip.Event) {
	switch e.Kind {
	case gossip.Conflict:
		b.log.Warn("two processes claim one node id: stop one of them, or give it another --node-id",
			"broker", e.Member.ID, "gossip", e.Member.Address, "other", e.Other)
	case gossip.Joined, gossip.Updated, gossip.Left, gossip.Failed:
		if e.Member.ID == b.cfg.NodeID {
			return
		}
		b.log.Info("gossip: broker "+e.Kind.String(), "broker", e.Member.ID, "epoch", e.Member.Epoch,
			"gossip", e.Member.Address, "kafka", e.Member.Kafka)
	}
}

// gossipAdvertise is the address that other brokers dial: the gossip address as bound or, if that is
// every interface, the host that clients are told.
func gossipAdvertise(listen, host string) string {
	if !isWildcard(listen) {
		return ""
	}
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		return ""
	}
	return net.JoinHostPort(host, port)
}
