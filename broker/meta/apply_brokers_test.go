package meta

import (
	"errors"
	"testing"
)

func TestRegistrationBeginsANewLeaderEpochWithOneBroker(t *testing.T) {
	for _, clean := range []bool{true, false} {
		w := newWorld(t)
		w.boot(1, testDirA, true)
		id := w.topic(1, "a", 1, 3, nil, 1)
		for epoch := int32(1); epoch < 4; epoch++ {
			w.boot(1, testDirA, clean)
			for i, p := range w.img().TopicByID(id).Partitions.All() {
				if p.Leader != 1 || p.LeaderEpoch != epoch || len(p.ISR) != 1 || p.ELR != nil {
					t.Errorf("partition %d after boot %d: %+v", i, epoch, p)
				}
			}
		}
		if w.img().UncleanElections != 0 {
			t.Error("a restart with the same disk counted as possible loss")
		}
	}
}

func TestRetriedRegistrationIsTheSameIncarnation(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	id := w.topic(1, "a", 1, 1, nil, 1)
	first := w.boot(1, testDirA, true)
	again := w.raw(w.log[len(w.log)-1]).([]Result)[0]
	if again.Err != nil || again.Value != first.Value {
		t.Errorf("retry gave epoch %d and %v, first %d", again.Value, again.Err, first.Value)
	}
	w.wantSeats(id, "leader 1 epoch 1 isr [1] elr []")
}

func TestRegistrationIsRefused(t *testing.T) {
	good := RegisterBroker{ClusterID: testCluster, Broker: 1, DirectoryID: testDirA, Incarnation: incarnation(99), Port: 9092}
	cases := map[string]struct {
		change func(*RegisterBroker)
		want   error
	}{
		"another cluster":               {func(c *RegisterBroker) { c.ClusterID = testDirB }, ErrClusterMismatch},
		"live process on another disk":  {func(c *RegisterBroker) { c.DirectoryID = testDirB }, ErrBrokerLive},
		"malformed incarnation":         {func(c *RegisterBroker) { c.Incarnation = "x" }, ErrInvalidCommand},
		"id 0":                          {func(c *RegisterBroker) { c.Broker = 0 }, ErrInvalidCommand},
		"port out of range":             {func(c *RegisterBroker) { c.Port = 65536 }, ErrInvalidCommand},
		"rack of a thousand characters": {func(c *RegisterBroker) { c.Rack = string(make([]byte, 1000)) }, ErrInvalidCommand},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.boot(1, testDirA, true)
			c := good
			tc.change(&c)
			if r := w.register(&c); !errors.Is(r.Err, tc.want) {
				t.Errorf("got %v, want %v", r.Err, tc.want)
			}
			if len(w.img().Brokers()) != 1 || w.img().Broker(1).Incarnation == c.Incarnation {
				t.Error("a refused registration changed the brokers")
			}
		})
	}
}

func TestNewDiskLosesAllSeats(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	w.boot(2, testDirB, true)
	shared := w.topic(1, "shared", 1, 1, map[string]string{"min.insync.replicas": "2"}, 1, 2)
	alone := w.topic(1, "alone", 2, 1, nil, 1)
	w.must(2, &FenceBroker{Broker: 1, Epoch: w.epoch[1]})
	w.wantSeats(shared, "leader 2 epoch 1 isr [2] elr [1]")
	w.wantSeats(alone, "leader -1 epoch 1 isr [] elr [1]")
	w.boot(1, testID(60).String(), true)
	w.wantSeats(shared, "leader 2 epoch 1 isr [2] elr []")
	w.wantSeats(alone, "leader 1 epoch 2 isr [1] elr []") // the last known leader: nobody else is left
	if n := w.img().UncleanElections; n != 1 {
		t.Errorf("%d unclean elections, want 1", n)
	}
}

func TestUncleanStopLosesSeatsOfWriteCachedTopics(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	w.boot(2, testDirB, true)
	set := func(id TopicID, v string) {
		w.must(1, &AlterConfigs{Resource: ResourceTopic, TopicID: id, Set: map[string]string{"write.caching": v}})
	}
	cached := w.topic(1, "cached", 1, 1, map[string]string{"write.caching": " True "}, 1)
	synced := w.topic(1, "synced", 2, 1, nil, 1)
	wasCached := w.topic(1, "was-cached", 3, 1, nil, 1)
	set(wasCached, "true")
	set(wasCached, "false")
	w.boot(1, testDirA, true) // clean: nothing is lost
	if n := w.img().UncleanElections; n != 0 {
		t.Fatalf("%d unclean elections after a clean stop", n)
	}
	w.boot(1, testDirA, false) // was-cached was synced in the incarnation that ended
	if n := w.img().UncleanElections; n != 1 {
		t.Errorf("%d unclean elections, want 1: cached", n)
	}
	set(wasCached, "true")
	set(wasCached, "false")
	w.boot(1, testDirA, false)
	if n := w.img().UncleanElections; n != 3 {
		t.Errorf("%d unclean elections, want 3: cached again, was-cached", n)
	}
	for _, id := range []TopicID{cached, synced, wasCached} {
		w.wantSeats(id, "leader 1 epoch 3 isr [1] elr []")
	}
}

func TestClusterDefaultOfWriteCachingCounts(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	w.topic(1, "a", 1, 1, nil, 1)
	w.must(1, &AlterConfigs{Resource: ResourceCluster, Set: map[string]string{"write.caching": "true"}})
	w.must(1, &AlterConfigs{Resource: ResourceCluster, Delete: []string{"write.caching"}})
	w.boot(1, testDirA, false)
	if n := w.img().UncleanElections; n != 1 {
		t.Errorf("%d unclean elections, want 1", n)
	}
}

func TestElectionGoesFromISRToELRToNobody(t *testing.T) {
	w := newWorld(t)
	for i := range 3 {
		w.boot(NodeID(i+1), testID(byte(70+i)).String(), true)
	}
	w.boot(4, testID(80).String(), true) // proposes; holds no replica
	id := w.topic(4, "a", 1, 1, map[string]string{"min.insync.replicas": "2"}, 1, 2, 3)
	fence := func(b NodeID) { w.must(4, &FenceBroker{Broker: b, Epoch: w.epoch[b]}) }
	fence(1)
	w.wantSeats(id, "leader 2 epoch 1 isr [2 3] elr []")
	fence(2)
	w.wantSeats(id, "leader 3 epoch 2 isr [3] elr [2]")
	fence(3)
	w.wantSeats(id, "leader -1 epoch 3 isr [] elr [2 3]")
	w.must(4, &UnfenceBroker{Broker: 1, Epoch: w.epoch[1]}) // not eligible: HW moved without it
	w.wantSeats(id, "leader -1 epoch 3 isr [] elr [2 3]")
	w.must(4, &UnfenceBroker{Broker: 2, Epoch: w.epoch[2]})
	w.wantSeats(id, "leader 2 epoch 4 isr [2] elr [3]")
	if w.img().UncleanElections != 0 {
		t.Error("an election from the ELR counted as possible loss")
	}
	w.refused(4, ErrStaleBrokerEpoch, &FenceBroker{Broker: 2, Epoch: w.epoch[2] - 1})
	w.refused(4, ErrUnknownBroker, &FenceBroker{Broker: 9, Epoch: 1})
}

func TestMinISRIsAtMostTheNumberOfReplicas(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	w.boot(2, testDirB, true)
	for value, want := range map[string]int{"1": 1, "2": 2, "9": 2, "0": 1, "x": 1, " 2 ": 2, "": 1} {
		id := w.topic(1, "a", 1, 1, map[string]string{"min.insync.replicas": value}, 1, 2)
		if n := w.img().MinISR(w.img().TopicByID(id), w.part(id)); n != want {
			t.Errorf("%q gives %d, want %d", value, n, want)
		}
		w.must(1, &DeleteTopic{TopicID: id})
		w.must(1, &FinishDeleteTopic{TopicID: id})
	}
}

func TestUncleanElectionOnlyWhereTheTopicAllowsIt(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	w.boot(2, testDirB, true)
	w.boot(4, testID(80).String(), true)
	w.must(4, &FenceBroker{Broker: 2, Epoch: w.epoch[2]})
	strict := w.topic(4, "strict", 1, 1, nil, 1, 2)
	loose := w.topic(4, "loose", 2, 1, map[string]string{"unclean.leader.election.enable": "true"}, 1, 2)
	w.must(4, &UnfenceBroker{Broker: 2, Epoch: w.epoch[2]})
	w.must(4, &FenceBroker{Broker: 1, Epoch: w.epoch[1]})
	w.wantSeats(strict, "leader -1 epoch 1 isr [] elr [1]")
	w.wantSeats(loose, "leader 2 epoch 1 isr [2] elr []")
	if n := w.img().UncleanElections; n != 1 {
		t.Errorf("%d unclean elections, want 1", n)
	}
}

func TestELREndsWhenMinISRIsReachedOrChanges(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	w.boot(2, testDirB, true)
	w.boot(4, testID(80).String(), true)
	id := w.topic(4, "a", 1, 1, map[string]string{"min.insync.replicas": "2"}, 1, 2)
	w.must(4, &FenceBroker{Broker: 2, Epoch: w.epoch[2]})
	w.wantSeats(id, "leader 1 epoch 0 isr [1] elr [2]")
	w.must(4, &AlterConfigs{Resource: ResourceTopic, TopicID: id, Set: map[string]string{"min.insync.replicas": "1"}})
	w.wantSeats(id, "leader 1 epoch 0 isr [1] elr []")
}

func TestELRSurvivesAChangeOfMinISRWhileNobodyLeads(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	w.boot(4, testID(80).String(), true)
	id := w.topic(4, "a", 1, 1, nil, 1)
	w.must(4, &FenceBroker{Broker: 1, Epoch: w.epoch[1]})
	w.must(4, &AlterConfigs{Resource: ResourceTopic, TopicID: id, Set: map[string]string{"min.insync.replicas": "2"}})
	w.must(4, &UnfenceBroker{Broker: 1, Epoch: w.epoch[1]})
	w.wantSeats(id, "leader 1 epoch 2 isr [1] elr []")
	if w.img().UncleanElections != 0 {
		t.Error("the last proof of who has everything was thrown away")
	}
}

func TestProducerIDsAreNeverGivenTwice(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	if a, b := w.must(1, &AllocProducerIDs{Count: 1000}), w.must(1, &AllocProducerIDs{Count: 1000}); a != 0 || b != 1000 {
		t.Errorf("blocks at %d and %d", a, b)
	}
	for _, n := range []int64{0, -1, 1_000_001} {
		w.refused(1, ErrInvalidCommand, &AllocProducerIDs{Count: n})
	}
	img := *w.img()
	img.NextProducerID = 1<<63 - 5
	w.f.image.Store(&img)
	w.refused(1, ErrLimit, &AllocProducerIDs{Count: 1000})
}

func TestFeatureLevelOnlyRises(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	w.must(1, &SetFeatureLevel{Level: 3})
	w.must(1, &SetFeatureLevel{Level: 3})
	w.refused(1, ErrGoesBack, &SetFeatureLevel{Level: 2})
}
