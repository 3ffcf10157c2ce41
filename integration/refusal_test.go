package integration

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/integration/harness"
)

// serveFlags are the flags of a broker on free ports and a data directory of its own; more come
// after them and win.
func serveFlags(t testing.TB, more ...string) []string {
	t.Helper()
	addrs, err := harness.FreeAddresses(4)
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{
		"serve", "--data", filepath.Join(t.TempDir(), "data"),
		"--listen", addrs[0], "--admin", addrs[1], "--internal", addrs[2], "--gossip", addrs[3],
	}, more...)
}

// TestServeRefusesWhatItCannotDo starts brokers that must not come up: each ends by itself with
// exit code 1 and says why.
func TestServeRefusesWhatItCannotDo(t *testing.T) {
	b := sharedBroker(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("segment.bites: 1MiB\nnode.id: 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	admin := strings.TrimPrefix(b.Admin, "http://")
	for _, c := range []struct {
		what  string
		flags []string
		words []string
	}{
		{"a data directory that another broker has", []string{"--data", b.Data}, []string{b.Data, "in use"}},
		{"a port that is taken", []string{"--listen", b.Addr}, []string{b.Addr, "in use"}},
		{"an admin port that is taken", []string{"--admin", admin}, []string{admin, "in use"}},
		{"one port for two listeners", []string{"--listen", "127.0.0.1:19092", "--admin", "127.0.0.1:19092"}, []string{"127.0.0.1:19092"}},
		{"a data directory below a file", []string{"--data", file + "/data"}, []string{file}},
		{"an unknown key", []string{"-X", "varve.tier.max.dely.ms=1h"}, []string{"varve.tier.max.dely.ms", "varve.tier.max.delay.ms"}},
		{"a value that is no number", []string{"-X", "num.partitions=many"}, []string{"num.partitions", "many"}},
		{"a value out of bounds", []string{"-X", "log.segment.bytes=1"}, []string{"log.segment.bytes", "1"}},
		{"a file with faults", []string{"-c", file}, []string{"segment.bites", "log.segment.bytes", "node.id"}},
		{"a file that is not there", []string{"-c", file + ".yaml"}, []string{file + ".yaml"}},
		{"a store of an unknown kind", []string{"--store", "ftp://bucket"}, []string{"store", "ftp"}},
		{"a store below a file", []string{"--store", "dir://" + file + "/bucket"}, []string{file}},
		{"every interface without a name for clients", []string{"--listen", "0.0.0.0:19093"}, []string{"advertise"}},
		{"local above total retention by default", []string{"-X", "log.local.retention.ms=2d", "-X", "log.retention.ms=1d"}, []string{"local.retention.ms"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			refused(t, 1, harness.Run(t, "", nil, serveFlags(t, c.flags...)...), c.words...)
		})
	}
	// The broker that had it all goes on.
	b.CreateTopic(t, "undisturbed", 1, nil)
	b.Produce(t, "undisturbed", 0, []byte("x"))
}

// TestTopicsThatCannotBeTieredSoAreRefused creates and alters topics whose configs contradict each
// other; values that are wrong alone are the business of TestBadTopicIsRefusedWithItsReason.
func TestTopicsThatCannotBeTieredSoAreRefused(t *testing.T) {
	b := sharedBroker(t)
	tiered := func(kv ...string) map[string]string {
		out := map[string]string{"remote.storage.enable": "true"}
		for i := 0; i < len(kv); i += 2 {
			out[kv[i]] = kv[i+1]
		}
		return out
	}
	for _, c := range []struct {
		what    string
		configs map[string]string
		words   []string
	}{
		{"local above total retention by time", tiered("retention.ms", "1000", "local.retention.ms", "1001"), []string{"local.retention.ms", "retention.ms=1000"}},
		{"local above total retention by size", tiered("retention.bytes", "1000", "local.retention.bytes", "1001"), []string{"local.retention.bytes"}},
		{"local for ever, total not", tiered("retention.ms", "1000", "local.retention.ms", "-1"), []string{"local.retention.ms"}},
		{"a compacted tiered topic", tiered("cleanup.policy", "compact"), []string{"compact", "not supported"}},
		{"compacted and deleted, tiered", tiered("cleanup.policy", "compact,delete"), []string{"compact", "not supported"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			refusedTopic(t, b.TryCreateTopic(t, "refused", 1, c.configs), kerr.InvalidConfig, c.words...)
		})
	}
	b.CreateTopic(t, "refused-not", 1, tiered("retention.ms", "1000"))
	refusedTopic(t, b.TryCreateTopic(t, "refused-not", 1, nil), kerr.TopicAlreadyExists)
	for words, configs := range map[string]map[string]string{
		"local.retention.ms":           {"local.retention.ms": "2000"},
		"compact":                      {"cleanup.policy": "compact"},
		"remote.log.delete.on.disable": {"remote.storage.enable": "false"},
	} {
		refusedTopic(t, b.TryAlterTopic(t, "refused-not", configs), kerr.InvalidConfig, words)
	}
	refusedTopic(t, b.TryAlterTopic(t, "refused", map[string]string{"retention.ms": "1"}), kerr.UnknownTopicOrPartition)
	if r := b.Varve(t, "", "topic", "describe", "refused"); r.Code != 1 {
		t.Errorf("a refused topic is there: %s", r.Stdout)
	}
	refusedReplicas(t, b)
}

func refusedTopic(t *testing.T, err error, code *kerr.Error, words ...string) {
	t.Helper()
	if !errors.Is(err, code) {
		t.Errorf("%v, want %v", err, code)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// refusedReplicas asks for more replicas than there are brokers, and for fewer partitions than
// there are.
func refusedReplicas(t *testing.T, b *harness.Broker) {
	t.Helper()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "refused", 1, 3
	create := kmsg.NewPtrCreateTopicsRequest()
	create.Topics = append(create.Topics, topic)
	if got := harness.Do[*kmsg.CreateTopicsResponse](t, b.Dial(t), 5, create).Topics[0]; got.ErrorCode != kerr.InvalidReplicationFactor.Code {
		t.Errorf("three replicas: error code %d", got.ErrorCode)
	}
	grow := kmsg.NewCreatePartitionsRequestTopic()
	grow.Topic, grow.Count = "refused-not", 1
	partitions := kmsg.NewPtrCreatePartitionsRequest()
	partitions.Topics = append(partitions.Topics, grow)
	if got := harness.Do[*kmsg.CreatePartitionsResponse](t, b.Dial(t), 3, partitions).Topics[0]; got.ErrorCode != kerr.InvalidPartitions.Code {
		t.Errorf("as many partitions as there are: error code %d", got.ErrorCode)
	}
}

// TestWithoutAStoreNothingIsTiered: a broker without --store works, and says so when a topic is to
// be tiered.
func TestWithoutAStoreNothingIsTiered(t *testing.T) {
	b := harness.Start(t, harness.Options{Store: harness.NoStore})
	err := b.TryCreateTopic(t, "tiered", 1, harness.Cold)
	refusedTopic(t, err, kerr.InvalidConfig, "remote.storage.enable", "--store")
	b.CreateTopic(t, "plain", 1, nil)
	refusedTopic(t, b.TryAlterTopic(t, "plain", map[string]string{"remote.storage.enable": "true"}), kerr.InvalidConfig, "--store")
	b.Produce(t, "plain", 0, []byte("x"))
	refused(t, 1, b.Varve(t, "", "tier", "flush", "plain"), "plain")
	if got := b.TierStatus(t); got.StoreState != "none" || got.Store != "" {
		t.Errorf("tier status: %+v", got)
	}
	b.Stop(t)
}

// TestSilentConnectionsDoNotHoldUpAStop: a clean stop takes seconds at most while clients are
// connected, poll and send nothing.
func TestSilentConnectionsDoNotHoldUpAStop(t *testing.T) {
	b := harness.Start(t, harness.Options{})
	b.CreateTopic(t, "polled", 1, nil)
	conn, err := net.Dial("tcp", b.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	polling := b.Dial(t)
	part := kmsg.NewFetchRequestTopicPartition()
	ft := kmsg.NewFetchRequestTopic()
	ft.Topic, ft.Partitions = "polled", append(ft.Partitions, part)
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.SessionEpoch = 600_000, 1, -1
	req.Topics = append(req.Topics, ft)
	req.SetVersion(12)
	if err := polling.Send(kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)); err != nil {
		t.Fatal(err)
	}
	b.Stop(t)
}
