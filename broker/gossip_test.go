package broker

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"varve/gossip"
)

// gossipMetrics gives the series of gossip.
func gossipMetrics(t *testing.T, b *Broker) string {
	t.Helper()
	families, err := b.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "varve_gossip_") {
			for _, m := range f.GetMetric() {
				text.WriteString(f.GetName() + " " + m.String() + "\n")
			}
		}
	}
	return text.String()
}

func TestBrokerIsFoundByGossip(t *testing.T) {
	b := openBroker(t, testConfig(t, t.TempDir()))
	stranger, err := gossip.Start(t.Context(), gossip.Config{
		Self: gossip.Node{ID: 2}, ClusterID: b.node.Identity().ClusterID, Bind: "127.0.0.1:0", Seeds: []string{b.Addresses().Gossip},
	})
	if err != nil {
		t.Fatal(err)
	}
	late := time.After(20 * time.Second)
	var seen gossip.Member
	for seen.ID != b.cfg.NodeID {
		select {
		case e := <-stranger.Events():
			seen = e.Member
		case <-late:
			t.Fatal("the broker was never seen")
		}
	}
	want := gossip.Node{ID: 1, Epoch: b.node.BrokerEpoch(), Kafka: b.Addresses().Kafka, Admin: b.Addresses().Admin}
	if seen.Node != want || want.Epoch == 0 {
		t.Errorf("seen %+v, want %+v", seen.Node, want)
	}
	if text := gossipMetrics(t, b); !strings.Contains(text, "varve_gossip_members") || !strings.Contains(text, "varve_gossip_events_dropped_total") {
		t.Errorf("metrics:\n%s", text)
	}
	closeBroker(t, b)
	for e := range stranger.Events() {
		if e.Member.ID != 1 {
			continue
		}
		if e.Kind != gossip.Left {
			t.Errorf("a clean stop was seen as %s", e.Kind)
		}
		break
	}
	if err := stranger.Close(); err != nil {
		t.Error(err)
	}
}

func TestGossipPortTakenNamesAddressAndFlag(t *testing.T) {
	b := openBroker(t, testConfig(t, t.TempDir()))
	defer closeBroker(t, b)
	cfg := testConfig(t, t.TempDir())
	cfg.GossipListen = b.Addresses().Gossip
	second, err := Open(t.Context(), cfg)
	if err == nil {
		closeBroker(t, second)
		t.Fatal("two brokers gossip on one address")
	}
	for _, part := range []string{"start gossip", cfg.GossipListen, "--gossip", "already in use"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %q", err, part)
		}
	}
}

func TestGossipCanBeOff(t *testing.T) {
	cfg := testConfig(t, t.TempDir())
	cfg.GossipListen = ""
	b := openBroker(t, cfg)
	defer closeBroker(t, b)
	if a := b.Addresses().Gossip; a != "" {
		t.Errorf("gossip is off and listens on %s", a)
	}
	if resp, err := http.Get("http://" + b.Addresses().Admin + "/readyz"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("readyz: %v %v", resp, err)
	} else if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestGossipAdvertisesADialableHost(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:7946": "",
		"0.0.0.0:7946":   "kafka.example:7946",
		"[::]:0":         "kafka.example:0",
	} {
		if got := gossipAdvertise(listen, "kafka.example"); got != want {
			t.Errorf("gossipAdvertise(%s) = %q, want %q", listen, got, want)
		}
	}
}
