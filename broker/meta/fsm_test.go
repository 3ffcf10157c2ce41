package meta

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
)

func TestSameLogGivesSameSnapshotBytes(t *testing.T) {
	w := newWorld(t)
	busyHistory(w)
	want := encodeState(t, w.f)
	for _, batch := range []int{1, 7, 1000} {
		other := newWorld(t)
		var logs []*raft.Log
		for i, data := range w.log {
			logs = append(logs, &raft.Log{Index: uint64(i + 1), Type: raft.LogCommand, Data: data})
		}
		for len(logs) > 0 {
			n := min(batch, len(logs))
			other.f.ApplyBatch(logs[:n])
			logs = logs[n:]
		}
		if have := encodeState(t, other.f); !bytes.Equal(have, want) {
			t.Errorf("in batches of %d the log gives another state:\n%s\nwant\n%s", batch, have, want)
		}
	}
}

// busyHistory goes through every command and many refusals.
func busyHistory(w *world) {
	w.boot(1, testDirA, true)
	w.boot(2, testDirB, true)
	a := w.topic(1, "a", 1, 3, map[string]string{"min.insync.replicas": "2", "retention.ms": "1000"}, 1, 2)
	b := w.topic(1, "b", 2, 1, map[string]string{"write.caching": "true"}, 1)
	w.must(2, &CreatePartitions{TopicID: b, From: 1, Partitions: [][]NodeID{{2, 1}}})
	w.must(1, &AlterConfigs{Resource: ResourceTopic, TopicID: a, Set: map[string]string{"x": "1", "y": "2"}, Delete: []string{"retention.ms"}})
	w.must(1, &AlterConfigs{Resource: ResourceBroker, Broker: 2, Set: map[string]string{"k": "v"}})
	w.must(1, &AlterConfigs{Resource: ResourceCluster, Set: map[string]string{"min.insync.replicas": "2"}})
	w.propose(1, &AlterConfigs{Resource: ResourceTopic, TopicID: a, Compare: map[string]*string{"p": ptr("1"), "q": ptr("2"), "r": ptr("3")}})
	for i := range int64(5) {
		w.must(1, &CommitTier{
			TopicID: b, Prev: w.part(b).Tier.Name, Name: fmt.Sprintf("m%d", i), CRC: uint32(i),
			BrokerEpoch: w.epoch[1], LogStart: i, TieredEnd: 10 * (i + 1), Bytes: 100,
		})
	}
	w.propose(1, &SetLogStart{TopicID: b, LogStart: 30}, &SetLogStart{TopicID: b, LogStart: 3}, &AllocProducerIDs{Count: 1000})
	w.must(1, &FenceBroker{Broker: 2, Epoch: w.epoch[2]})
	w.must(1, &UnfenceBroker{Broker: 2, Epoch: w.epoch[2]})
	p := w.part(a)
	w.must(1, &AlterPartition{
		TopicID: a, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch,
		ISR: []ISRMember{{1, w.epoch[1]}, {2, w.epoch[2]}},
	})
	w.must(1, &SetFeatureLevel{Level: 1})
	w.boot(1, testDirA, false)
	c := w.topic(1, "c.d", 3, 1, nil, 1)
	w.must(1, &DeleteTopic{TopicID: c})
	d := w.topic(2, "d", 4, 1, map[string]string{"remote.storage.enable": "TRUE"}, 2)
	w.must(2, &DeleteTopic{TopicID: d})
	w.must(2, &FinishDeleteTopic{TopicID: c})
}

func ptr[T any](v T) *T { return &v }

func TestRetryUnderTheSameSequenceGetsTheFirstOutcome(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	id := w.topic(1, "a", 1, 1, nil, 1)
	commit := &CommitTier{TopicID: id, Name: "m1", BrokerEpoch: w.epoch[1], TieredEnd: 10, Bytes: 5}
	first := w.propose(1, commit, &AllocProducerIDs{Count: 7})
	before := w.img()
	again := w.raw(w.log[len(w.log)-1]).([]Result)
	if fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("retry gave %v, first was %v", again, first)
	}
	if w.part(id) != before.Partition(id, 0) || w.img().NextProducerID != 7 {
		t.Error("retry was applied again")
	}
	// The same commit under a new sequence is another proposal, and no longer replaces the right one.
	w.refused(1, ErrPrevMismatch, commit)
}

func TestRetryGetsTheFirstRefusal(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	first := w.refused(1, ErrUnknownTopic, &DeleteTopic{TopicID: testID(9)})
	retry := w.log[len(w.log)-1]
	w.topic(1, "late", 9, 1, nil, 1) // now it would succeed
	again := w.raw(retry).([]Result)[0]
	if !errors.Is(again.Err, ErrUnknownTopic) || again.Index != first.Index || again.Err.Error() != first.Err.Error() {
		t.Errorf("retry gave %v at %d, first was %v at %d", again.Err, again.Index, first.Err, first.Index)
	}
	if w.img().Topic("late") == nil {
		t.Error("retry was applied")
	}
}

func TestSequencesMayArriveInAnyOrderWithinTheWindow(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	at := func(seq uint64) Result {
		return w.send(&proposal{Broker: 1, Epoch: w.epoch[1], Sequence: seq, Commands: []Command{&AllocProducerIDs{Count: 1}}})[0]
	}
	for _, seq := range []uint64{3, 1, 2} {
		if r := at(seq); r.Err != nil {
			t.Fatalf("sequence %d: %v", seq, r.Err)
		}
	}
	if r := at(1); r.Value != 1 {
		t.Errorf("sequence 1 came second and got id 1, its retry got %d", r.Value)
	}
	for seq := uint64(10); seq < 10+windowEntries; seq++ {
		at(seq)
	}
	next := w.img().NextProducerID
	for _, seq := range []uint64{3, 2} { // evicted, and never seen but below what was evicted
		if r := at(seq); !errors.Is(r.Err, ErrStaleSequence) {
			t.Errorf("sequence %d below the window: %v", seq, r.Err)
		}
	}
	if w.img().NextProducerID != next {
		t.Error("a proposal below the window was applied")
	}
	if len(w.f.windows[1].entries) != windowEntries {
		t.Errorf("window has %d entries", len(w.f.windows[1].entries))
	}
}

func TestOldIncarnationIsRefusedEverything(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	old := w.epoch[1]
	w.topic(1, "a", 1, 1, nil, 1)
	w.boot(1, testDirA, true)
	if w.epoch[1] <= old {
		t.Fatalf("epoch %d after %d", w.epoch[1], old)
	}
	rs := w.send(&proposal{Broker: 1, Epoch: old, Sequence: 99, Commands: []Command{
		&AllocProducerIDs{Count: 1}, &DeleteTopic{TopicID: testID(1)},
	}})
	for _, r := range rs {
		if !errors.Is(r.Err, ErrStaleBrokerEpoch) {
			t.Errorf("old incarnation: %v", r.Err)
		}
	}
	if w.img().Topic("a") == nil || len(rs) != 2 {
		t.Error("old incarnation changed the state")
	}
}

func TestUnregisteredBrokerMayOnlyRegister(t *testing.T) {
	w := newWorld(t)
	for _, p := range []*proposal{
		{Broker: 1, Sequence: 1, Commands: []Command{&AllocProducerIDs{Count: 1}}},
		{Broker: 1, Epoch: 5, Sequence: 1, Commands: []Command{&AllocProducerIDs{Count: 1}}},
	} {
		if r := w.send(p)[0]; !errors.Is(r.Err, ErrStaleBrokerEpoch) {
			t.Errorf("got %v", r.Err)
		}
	}
	w.boot(1, testDirA, true)
	w.refused(1, ErrInvalidCommand, &RegisterBroker{ClusterID: testCluster, Broker: 1, DirectoryID: testDirA, Incarnation: incarnation(9)})
}

func TestUnreadableEntryStopsTheStateMachine(t *testing.T) {
	for _, data := range []string{"", "{", `{"v":2}`, `{"v":1,"broker":1,"epoch":1,"seq":1,"time_ms":0,"commands":[{"v":1,"type":"no_such","cmd":{}}]}`} {
		w := newWorld(t)
		w.boot(1, testDirA, true)
		before := w.img()
		if _, ok := w.raw([]byte(data)).(error); !ok || w.fatal == nil {
			t.Errorf("%q was applied", data)
		}
		if _, ok := w.raw(w.log[0]).(error); !ok {
			t.Error("the state machine went on after an entry that it could not apply")
		}
		if w.img() != before {
			t.Error("the image moved")
		}
		if _, err := w.f.Snapshot(); err == nil {
			t.Error("a stopped state machine gave a snapshot")
		}
	}
}

func TestWatchersSeeEveryImageOnceInOrder(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	var deltas []*Delta
	var last *Image
	cancel := w.f.subscribe(&watcher{func(old, fresh *Image, d *Delta) {
		if last != nil && old != last {
			t.Error("old image is not the one before")
		}
		if d.Index != fresh.Index {
			t.Errorf("delta at %d, image at %d", d.Index, fresh.Index)
		}
		last = fresh
		deltas = append(deltas, d)
	}})
	id := w.topic(1, "a", 1, 2, nil, 1)
	w.must(1, &SetLogStart{TopicID: id, Partition: 1, LogStart: 5})
	w.must(1, &AlterConfigs{Resource: ResourceTopic, TopicID: id, Set: map[string]string{"a": "b"}})
	w.must(1, &DeleteTopic{TopicID: id})
	w.must(1, &FinishDeleteTopic{TopicID: id})
	cancel()
	w.topic(1, "b", 2, 1, nil, 1)
	want := []func(d *Delta) bool{
		func(d *Delta) bool { return d.Reset },
		func(d *Delta) bool { return len(d.TopicsCreated) == 1 && len(d.Partitions) == 0 },
		func(d *Delta) bool { return len(d.Partitions) == 1 && d.Partitions[0] == PartitionKey{id, 1} },
		func(d *Delta) bool { return len(d.TopicsChanged) == 1 },
		func(d *Delta) bool { return len(d.TopicsDeleted) == 1 },
		func(d *Delta) bool { return len(d.DeletesFinished) == 1 },
	}
	if len(deltas) != len(want) {
		t.Fatalf("%d deltas, want %d", len(deltas), len(want))
	}
	for i, ok := range want {
		if !ok(deltas[i]) {
			t.Errorf("delta %d is %+v", i, deltas[i])
		}
	}
}

func TestRefusedCommandLeavesNoTraceInTheDelta(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	id := w.topic(1, "a", 1, 1, nil, 1)
	var seen *Delta
	w.f.subscribe(&watcher{func(_, _ *Image, d *Delta) { seen = d }})
	w.propose(1, &SetLogStart{TopicID: id, LogStart: 5}, &SetLogStart{TopicID: id, LogStart: 4}, &DeleteTopic{TopicID: testID(7)})
	if len(seen.Partitions) != 1 || len(seen.TopicsDeleted) != 0 {
		t.Errorf("delta %+v", seen)
	}
}
