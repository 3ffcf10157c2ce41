package meta

import (
	"strings"
	"testing"
)

// tiered is a world with one partition whose manifest m1 covers [0, 10).
func tiered(t *testing.T) (*world, TopicID, CommitTier) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	w.boot(2, testDirB, true)
	id := w.topic(1, "a", 1, 1, nil, 1, 2)
	c := CommitTier{TopicID: id, Name: "m1", CRC: 7, BrokerEpoch: w.epoch[1], TieredEnd: 10, Bytes: 100}
	w.must(1, &c)
	next := c
	next.Prev, next.Name, next.TieredEnd = "m1", "m2", 20
	return w, id, next
}

func TestCommitTierReplacesExactlyWhatItRead(t *testing.T) {
	w, id, next := tiered(t)
	w.must(1, &next)
	p := w.part(id)
	want := TierPointer{Name: "m2", CRC: 7, TieredEnd: 20, Bytes: 100, LogIndex: w.img().Index}
	if p.Tier != want || p.LogStart != 0 || p.TieredEnd() != 20 {
		t.Errorf("pointer %+v, want %+v", p.Tier, want)
	}
}

func TestCommitTierIsRefused(t *testing.T) {
	cases := map[string]struct {
		by     NodeID
		change func(*CommitTier)
		want   error
	}{
		"prev is not the current name":     {1, func(c *CommitTier) { c.Prev = "m0" }, ErrPrevMismatch},
		"prev is empty after a commit":     {1, func(c *CommitTier) { c.Prev = "" }, ErrPrevMismatch},
		"leader epoch is old":              {1, func(c *CommitTier) { c.LeaderEpoch = -1 }, ErrStaleEpoch},
		"leader epoch is from the future":  {1, func(c *CommitTier) { c.LeaderEpoch = 1 }, ErrStaleEpoch},
		"proposer does not lead":           {2, func(*CommitTier) {}, ErrNotLeader},
		"upload of an earlier incarnation": {1, func(c *CommitTier) { c.BrokerEpoch-- }, ErrStaleBrokerEpoch},
		"tiered end goes back":             {1, func(c *CommitTier) { c.TieredEnd = 9 }, ErrGoesBack},
		"log start above tiered end":       {1, func(c *CommitTier) { c.LogStart = 21 }, ErrInvalidCommand},
		"negative log start":               {1, func(c *CommitTier) { c.LogStart = -1 }, ErrInvalidCommand},
		"epoch of data above its leader's": {1, func(c *CommitTier) { c.LastEpoch = 1 }, ErrInvalidCommand},
		"no name":                          {1, func(c *CommitTier) { c.Name = "" }, ErrInvalidCommand},
		"name of the one it replaces":      {1, func(c *CommitTier) { c.Name = "m1" }, ErrInvalidCommand},
		"name too long":                    {1, func(c *CommitTier) { c.Name = strings.Repeat("m", 256) }, ErrInvalidCommand},
		"unknown topic":                    {1, func(c *CommitTier) { c.TopicID = testID(9) }, ErrUnknownTopic},
		"unknown partition":                {1, func(c *CommitTier) { c.Partition = 1 }, ErrUnknownPartition},
		"negative partition":               {1, func(c *CommitTier) { c.Partition = -1 }, ErrUnknownPartition},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w, _, c := tiered(t)
			tc.change(&c)
			w.refused(tc.by, tc.want, &c)
		})
	}
}

func TestCommitTierLogStartNeverGoesBack(t *testing.T) {
	w, id, c := tiered(t)
	w.must(1, &SetLogStart{TopicID: id, LogStart: 15}) // beyond what is tiered
	if p := w.part(id); p.TieredEnd() != 15 || p.Tier.TieredEnd != 10 {
		t.Fatalf("tiered end %d, pointer %+v", p.TieredEnd(), p.Tier)
	}
	c.LogStart = 14
	w.refused(1, ErrGoesBack, &c)
	c.LogStart, c.TieredEnd = 15, 15
	w.must(1, &c)
	if p := w.part(id); p.LogStart != 15 || p.TieredEnd() != 15 {
		t.Errorf("log start %d, tiered end %d", p.LogStart, p.TieredEnd())
	}
}

func TestDeposedLeaderCommitsNothing(t *testing.T) {
	w, id, c := tiered(t)
	w.must(2, &FenceBroker{Broker: 1, Epoch: w.epoch[1]})
	w.wantSeats(id, "leader 2 epoch 1 isr [2] elr []")
	w.refused(1, ErrStaleEpoch, &c)
	c.LeaderEpoch = 1
	w.refused(1, ErrNotLeader, &c)
	c.BrokerEpoch = w.epoch[2]
	w.must(2, &c)
}

func TestSetLogStartIsMonotone(t *testing.T) {
	w, id, _ := tiered(t)
	if v := w.must(1, &SetLogStart{TopicID: id, LogStart: 5}); v != 5 {
		t.Errorf("value %d", v)
	}
	if r := w.refused(1, ErrGoesBack, &SetLogStart{TopicID: id, LogStart: 4}); r.Value != 5 {
		t.Errorf("a refusal tells the log start that stands, got %d", r.Value)
	}
	w.must(1, &SetLogStart{TopicID: id, LogStart: 5})
	w.refused(2, ErrNotLeader, &SetLogStart{TopicID: id, LogStart: 6})
	w.refused(1, ErrStaleEpoch, &SetLogStart{TopicID: id, LeaderEpoch: 1, LogStart: 6})
	if p := w.part(id); p.LogStart != 5 || p.Tier.Name != "m1" {
		t.Errorf("log start %d, tier %+v", p.LogStart, p.Tier)
	}
}

func TestAlterPartitionNeedsEligibleMembers(t *testing.T) {
	w := newWorld(t)
	for id, dir := range map[NodeID]string{1: testDirA, 2: testDirB} {
		w.boot(id, dir, true)
	}
	w.boot(3, testID(50).String(), true)
	id := w.topic(1, "a", 1, 1, map[string]string{"min.insync.replicas": "2"}, 1, 2)
	alter := func(members ...ISRMember) *AlterPartition {
		p := w.part(id)
		return &AlterPartition{TopicID: id, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch, ISR: members}
	}
	one, two := ISRMember{1, w.epoch[1]}, ISRMember{2, w.epoch[2]}
	w.refused(2, ErrNotLeader, alter(one, two))
	w.refused(1, ErrIneligibleReplica, alter())
	w.refused(1, ErrIneligibleReplica, alter(two))
	w.refused(1, ErrIneligibleReplica, alter(one, one))
	w.refused(1, ErrIneligibleReplica, alter(one, ISRMember{2, w.epoch[2] + 1}))
	w.refused(1, ErrIneligibleReplica, alter(one, ISRMember{3, w.epoch[3]}))
	stale := alter(one)
	w.must(1, alter(one))
	w.wantSeats(id, "leader 1 epoch 0 isr [1] elr [2]")
	w.refused(1, ErrPartitionChanged, stale)
	w.must(1, alter(two, one))
	w.wantSeats(id, "leader 1 epoch 0 isr [1 2] elr []")
	w.must(3, &FenceBroker{Broker: 2, Epoch: w.epoch[2]})
	w.wantSeats(id, "leader 1 epoch 0 isr [1] elr [2]")
	w.refused(1, ErrIneligibleReplica, alter(one, two))
}

func TestLeaderMovesOnlyInsideTheISR(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	w.boot(2, testDirB, true)
	id := w.topic(1, "a", 1, 1, nil, 1, 2)
	p := w.part(id)
	move := &AlterPartition{
		TopicID: id, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch, Leader: 2,
		ISR: []ISRMember{{1, w.epoch[1]}, {2, w.epoch[2]}},
	}
	w.must(1, move)
	w.wantSeats(id, "leader 2 epoch 1 isr [1 2] elr []")
	p = w.part(id)
	w.must(2, &AlterPartition{
		TopicID: id, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch, ISR: []ISRMember{{2, w.epoch[2]}},
	})
	p = w.part(id)
	w.refused(1, ErrIneligibleReplica, &AlterPartition{ // broker 1, as the controller, cannot know that it caught up
		TopicID: id, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch, Leader: 1,
		ISR: []ISRMember{{1, w.epoch[1]}, {2, w.epoch[2]}},
	})
}
