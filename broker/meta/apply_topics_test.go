package meta

import (
	"strings"
	"testing"
)

func TestCreateTopicIsRefused(t *testing.T) {
	good := CreateTopic{Name: "fresh", TopicID: testID(9), Partitions: [][]NodeID{{1}}}
	cases := map[string]struct {
		change func(*CreateTopic)
		want   error
	}{
		"name taken":               {func(c *CreateTopic) { c.Name = "a.b" }, ErrTopicExists},
		"name collides":            {func(c *CreateTopic) { c.Name = "a_b" }, ErrTopicCollision},
		"bad name":                 {func(c *CreateTopic) { c.Name = "a/b" }, ErrInvalidTopicName},
		"no partitions":            {func(c *CreateTopic) { c.Partitions = nil }, ErrInvalidPartitions},
		"too many partitions":      {func(c *CreateTopic) { c.Partitions = make([][]NodeID, MaxPartitions+1) }, ErrInvalidPartitions},
		"no replicas":              {func(c *CreateTopic) { c.Partitions = [][]NodeID{{}} }, ErrInvalidReplicas},
		"replica twice":            {func(c *CreateTopic) { c.Partitions = [][]NodeID{{1, 1}} }, ErrInvalidReplicas},
		"unknown broker":           {func(c *CreateTopic) { c.Partitions = [][]NodeID{{7}} }, ErrInvalidReplicas},
		"only fenced brokers":      {func(c *CreateTopic) { c.Partitions = [][]NodeID{{2}} }, ErrInvalidReplicas},
		"no id":                    {func(c *CreateTopic) { c.TopicID = TopicID{} }, ErrIDInUse},
		"id of a topic":            {func(c *CreateTopic) { c.TopicID = testID(1) }, ErrIDInUse},
		"id of a deleted topic":    {func(c *CreateTopic) { c.TopicID = testID(2) }, ErrIDInUse},
		"configs of a megabyte or": {func(c *CreateTopic) { c.Configs = map[string]string{"a": strings.Repeat("x", 70_000)} }, ErrLimit},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.boot(1, testDirA, true)
			w.boot(2, testDirB, true)
			w.topic(1, "a.b", 1, 1, nil, 1)
			w.must(1, &DeleteTopic{TopicID: w.topic(1, "gone", 2, 1, nil, 1)})
			w.must(1, &FenceBroker{Broker: 2, Epoch: w.epoch[2]})
			c := good
			tc.change(&c)
			w.refused(1, tc.want, &c)
		})
	}
}

func TestNewTopicLeavesFencedReplicasOutOfTheISR(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	w.boot(2, testDirB, true)
	w.must(1, &FenceBroker{Broker: 2, Epoch: w.epoch[2]})
	id := w.topic(1, "a", 1, 1, nil, 2, 1)
	w.wantSeats(id, "leader 1 epoch 0 isr [1] elr []")
}

func TestDeletedTopicKeepsItsIDUntilItIsFinished(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	id := w.topic(1, "a.b", 1, 3, nil, 1)
	w.must(1, &CommitTier{TopicID: id, Partition: 2, Name: "m1", BrokerEpoch: w.epoch[1], TieredEnd: 5})
	w.must(1, &DeleteTopic{TopicID: id})
	d := w.img().DeletedTopic(id)
	want := DeletedTopic{Name: "a.b", ID: id, Partitions: 3, Tiered: true, Index: w.img().Index, DeletedMS: testTimeMS}
	if d == nil || *d != want {
		t.Fatalf("deleted topic %+v, want %+v", d, want)
	}
	if w.img().Topic("a.b") != nil || w.img().TopicByID(id) != nil || w.img().PartitionCount != 0 {
		t.Error("a deleted topic is still there")
	}
	w.refused(1, ErrUnknownTopic, &DeleteTopic{TopicID: id})
	again := w.topic(1, "a_b", 2, 1, nil, 1) // the name, and what it collided with, are free at once
	w.must(1, &FinishDeleteTopic{TopicID: id})
	w.refused(1, ErrUnknownTopic, &FinishDeleteTopic{TopicID: id})
	w.refused(1, ErrUnknownTopic, &FinishDeleteTopic{TopicID: again})
	if w.img().DeletedTopic(id) != nil || w.img().TopicByID(again) == nil {
		t.Error("finishing a deletion removed the wrong topic")
	}
}

func TestPartitionsAreAddedToWhatTheProposerSaw(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	id := w.topic(1, "a", 1, 2, nil, 1)
	w.refused(1, ErrPartitionChanged, &CreatePartitions{TopicID: id, From: 1, Partitions: [][]NodeID{{1}}})
	w.refused(1, ErrInvalidPartitions, &CreatePartitions{TopicID: id, From: 2})
	old := w.img().Partition(id, 1)
	if n := w.must(1, &CreatePartitions{TopicID: id, From: 2, Partitions: [][]NodeID{{1}, {1}}}); n != 4 {
		t.Errorf("%d partitions", n)
	}
	if w.img().Partition(id, 1) != old || w.img().Partition(id, 3) == nil || w.img().Partition(id, 4) != nil {
		t.Error("wrong partitions")
	}
}

func TestConfigsAreChangedOnlyFromWhatTheProposerSaw(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	id := w.topic(1, "a", 1, 1, map[string]string{"k": "1", "gone": "x"}, 1)
	alter := func(c AlterConfigs) *AlterConfigs { c.Resource, c.TopicID = ResourceTopic, id; return &c }
	w.refused(1, ErrConfigChanged, alter(AlterConfigs{Set: map[string]string{"k": "2"}, Compare: map[string]*string{"k": ptr("0")}}))
	w.refused(1, ErrConfigChanged, alter(AlterConfigs{Set: map[string]string{"k": "2"}, Compare: map[string]*string{"k": nil}}))
	w.refused(1, ErrConfigChanged, alter(AlterConfigs{Compare: map[string]*string{"absent": ptr("")}}))
	w.refused(1, ErrLimit, alter(AlterConfigs{Set: map[string]string{"k": strings.Repeat("x", 70_000)}}))
	w.refused(1, ErrInvalidCommand, alter(AlterConfigs{Set: map[string]string{"": "x"}}))
	w.refused(1, ErrInvalidCommand, &AlterConfigs{Resource: "user"})
	w.refused(1, ErrUnknownBroker, &AlterConfigs{Resource: ResourceBroker, Broker: 9, Set: map[string]string{"a": "b"}})
	before := w.img().TopicByID(id)
	w.must(1, alter(AlterConfigs{
		Set: map[string]string{"k": "2"}, Delete: []string{"gone", "never"}, Compare: map[string]*string{"k": ptr("1"), "absent": nil},
	}))
	topic := w.img().TopicByID(id)
	if len(topic.Configs) != 1 || topic.Configs["k"] != "2" || topic.ConfigIndex != w.img().Index {
		t.Errorf("configs %v at %d", topic.Configs, topic.ConfigIndex)
	}
	if before.Configs["k"] != "1" || before.Configs["gone"] != "x" {
		t.Error("an old image changed")
	}
}

func TestBrokerAndClusterConfigsAreApart(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	w.must(1, &AlterConfigs{Resource: ResourceCluster, Set: map[string]string{"a": "cluster"}})
	w.must(1, &AlterConfigs{Resource: ResourceBroker, Broker: 1, Set: map[string]string{"a": "broker"}})
	if c, b := w.img().ClusterConfigs()["a"], w.img().BrokerConfigs(1)["a"]; c != "cluster" || b != "broker" {
		t.Errorf("cluster %q, broker %q", c, b)
	}
	w.must(1, &AlterConfigs{Resource: ResourceCluster, Delete: []string{"a"}})
	if w.img().ClusterConfigs() != nil || len(w.img().BrokerConfigs(1)) != 1 {
		t.Error("deleting the cluster's config touched the wrong one")
	}
}

func TestTopicNamesFollowKafkasRules(t *testing.T) {
	for _, name := range []string{"a", "a.b_c-D9", "__consumer_offsets", "...", strings.Repeat("x", 249)} {
		if err := ValidateTopicName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a b", "a/b", "ä", "a\x00", strings.Repeat("x", 250)} {
		if ValidateTopicName(name) == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}
