package meta

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

// A golden file is never edited once it was released: it is what old logs and snapshots hold.
var rewrite = flag.Bool("rewrite", false, "write missing golden files; existing ones only if they differ")

// goldenCommands has one command of each kind with every field set.
var goldenCommands = map[string]Command{
	"register_broker": &RegisterBroker{
		ClusterID: testCluster, Broker: 1, DirectoryID: testDirA, Incarnation: testDirB, Clean: true,
		Host: "broker-1.example", Port: 9092, Rack: "a", Internal: "10.0.0.1:9093",
	},
	"fence_broker":   &FenceBroker{Broker: 1, Epoch: 7},
	"unfence_broker": &UnfenceBroker{Broker: 1, Epoch: 7},
	"create_topic": &CreateTopic{
		Name: "orders", TopicID: testID(1), Partitions: [][]NodeID{{1, 2}, {2, 1}},
		Configs: map[string]string{"retention.ms": "1000"},
	},
	"delete_topic":        &DeleteTopic{TopicID: testID(1)},
	"finish_delete_topic": &FinishDeleteTopic{TopicID: testID(1)},
	"create_partitions":   &CreatePartitions{TopicID: testID(1), From: 2, Partitions: [][]NodeID{{1, 2}}},
	"alter_configs": &AlterConfigs{
		Resource: ResourceTopic, TopicID: testID(1), Set: map[string]string{"segment.bytes": "4194304"},
		Delete: []string{"retention.ms"}, Compare: map[string]*string{"retention.ms": ptr("1000"), "segment.bytes": nil},
	},
	"alter_configs_broker": &AlterConfigs{Resource: ResourceBroker, Broker: 2, Set: map[string]string{"a": "b"}},
	"commit_tier": &CommitTier{
		TopicID: testID(1), Partition: 3, LeaderEpoch: 4, BrokerEpoch: 7, Prev: "0000000003-0000000000000001-0badcafe.json",
		Name: "0000000004-0000000000000002-deadbeef.json", CRC: 4_000_000_000, LogStart: 10, TieredEnd: 1 << 40, LastEpoch: 4, Bytes: 1 << 41,
	},
	"set_log_start":      &SetLogStart{TopicID: testID(1), Partition: 3, LeaderEpoch: 4, LogStart: 99},
	"alloc_producer_ids": &AllocProducerIDs{Count: 1000},
	"alter_partition": &AlterPartition{
		TopicID: testID(1), Partition: 3, LeaderEpoch: 4, PartitionEpoch: 5, ISR: []ISRMember{{1, 7}, {2, 9}}, Leader: 2,
	},
	"feature_level": &SetFeatureLevel{Level: 1},
	"alter_client_quota": &AlterClientQuota{
		Entity: QuotaEntity{QuotaUser: ptr("alice"), QuotaClientID: nil},
		Set:    map[string]float64{"producer_byte_rate": 1048576, "request_percentage": 12.5}, Remove: []string{"consumer_byte_rate"},
	},
}

func golden(t *testing.T, name string, have []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name)
	want, err := os.ReadFile(path)
	if *rewrite && (err != nil || !bytes.Equal(want, have)) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, have, 0o644); err != nil {
			t.Fatal(err)
		}
		return have
	}
	if err != nil {
		t.Fatal(err)
	}
	return want
}

func TestEveryCommandEverWrittenIsRead(t *testing.T) {
	kinds := map[string]bool{}
	for name, c := range goldenCommands {
		kinds[c.kind()] = true
		p := &proposal{Broker: 1, Epoch: 7, Sequence: 12, TimeMS: testTimeMS, Commands: []Command{c}}
		have, err := p.encode()
		if err != nil {
			t.Fatal(err)
		}
		want := golden(t, "commands/"+name+".json", append(have, '\n'))
		if !bytes.Equal(append(have, '\n'), want) {
			t.Errorf("%s is written as\n%s\nand was\n%s", name, have, want)
		}
		back, err := decodeProposal(bytes.TrimSpace(want))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(back, p) {
			t.Errorf("%s was read as %+v", name, back.Commands[0])
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(newCommand)) {
		if !kinds[kind] {
			t.Errorf("%s has no golden file", kind)
		}
		if newCommand[kind]().kind() != kind {
			t.Errorf("%s makes %s", kind, newCommand[kind]().kind())
		}
	}
}

func TestEverySnapshotEverWrittenIsRead(t *testing.T) {
	w := newWorld(t)
	busyHistory(w)
	have := encodeState(t, w.f)
	want := golden(t, "snapshots/v1.jsonl", have)
	if !bytes.Equal(have, want) {
		t.Errorf("snapshot is written as\n%s\nand was\n%s", have, want)
	}
	checkRestores(t, want)
}

// checkRestores restores a snapshot and wants the same bytes back.
func checkRestores(t *testing.T, data []byte) *fsm {
	t.Helper()
	w := newWorld(t)
	if err := w.f.Restore(readCloser{bytes.NewReader(data)}); err != nil {
		t.Fatal(err)
	}
	checkImage(t, w.img())
	if again := encodeState(t, w.f); !bytes.Equal(again, data) {
		t.Errorf("restored and written again:\n%s\nwas\n%s", again, data)
	}
	return w.f
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }
