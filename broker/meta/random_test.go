package meta

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestRandomHistoriesKeepTheRulesOfLeadership runs random commands of four brokers and compares
// each partition with itself one entry earlier.
func TestRandomHistoriesKeepTheRulesOfLeadership(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			w := newWorld(t)
			for id := range NodeID(4) {
				w.boot(id+1, testID(byte(200+id)).String(), true)
			}
			ids := []TopicID{
				w.topic(1, "one", 1, 1, nil, 1),
				w.topic(1, "two", 2, 1, map[string]string{"min.insync.replicas": "2"}, 1, 2, 3),
				w.topic(1, "loose", 3, 1, map[string]string{"unclean.leader.election.enable": "true"}, 2, 3, 4),
				w.topic(1, "cached", 4, 1, map[string]string{"write.caching": "true"}, 3, 4),
			}
			for range 150 {
				before := w.img()
				randomStep(w, rng, ids[rng.IntN(len(ids))])
				for _, id := range ids {
					checkStep(t, before, w.img(), id)
				}
			}
			checkRestores(t, encodeState(t, w.f))
		})
	}
}

func randomStep(w *world, rng *rand.Rand, id TopicID) {
	b := NodeID(rng.IntN(4) + 1)
	p := w.part(id)
	leader := max(p.Leader, 1)
	switch rng.IntN(8) {
	case 0:
		dir := w.img().Broker(b).DirectoryID
		if w.img().Broker(b).Fenced && rng.IntN(4) == 0 {
			dir = testID(byte(rng.IntN(100))).String()
		}
		w.boots %= 150
		w.boot(b, dir, rng.IntN(2) == 0)
	case 1:
		w.propose(b, &FenceBroker{Broker: NodeID(rng.IntN(4) + 1), Epoch: w.epoch[NodeID(rng.IntN(4)+1)]})
	case 2:
		w.propose(b, &FenceBroker{Broker: b, Epoch: w.epoch[b]})
	case 3:
		w.propose(b, &UnfenceBroker{Broker: b, Epoch: w.epoch[b]})
	case 4:
		c := &AlterPartition{TopicID: id, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch}
		for _, r := range p.Replicas {
			if rng.IntN(3) > 0 || r == leader {
				c.ISR = append(c.ISR, ISRMember{r, w.epoch[r]})
			}
		}
		if rng.IntN(3) == 0 {
			c.Leader = b
		}
		w.propose(leader, c)
	case 5:
		w.propose(leader, &CommitTier{
			TopicID: id, LeaderEpoch: p.LeaderEpoch, BrokerEpoch: w.epoch[leader], Prev: p.Tier.Name,
			Name: fmt.Sprint("m", rng.IntN(1000)), LogStart: rng.Int64N(20), TieredEnd: rng.Int64N(100),
		})
	case 6:
		w.propose(leader, &SetLogStart{TopicID: id, LeaderEpoch: p.LeaderEpoch, LogStart: rng.Int64N(60)})
	case 7:
		w.propose(b, &AlterConfigs{Resource: ResourceTopic, TopicID: id, Set: map[string]string{"min.insync.replicas": fmt.Sprint(rng.IntN(4))}})
	}
}

func checkStep(t *testing.T, before, after *Image, id TopicID) {
	t.Helper()
	old, p := before.Partition(id, 0), after.Partition(id, 0)
	if p == old {
		return
	}
	if p.LeaderEpoch < old.LeaderEpoch || p.PartitionEpoch < old.PartitionEpoch || p.LogStart < old.LogStart || p.TieredEnd() < old.TieredEnd() {
		t.Fatalf("went back: %+v\nwas %+v", p, old)
	}
	if p.Leader != old.Leader && p.LeaderEpoch == old.LeaderEpoch {
		t.Fatalf("leader %d became %d in epoch %d", old.Leader, p.Leader, p.LeaderEpoch)
	}
	eligible := append(slices.Clone(old.ISR), old.ELR...)
	loss := after.UncleanElections > before.UncleanElections
	if p.Leader != NoNode && p.LeaderEpoch > old.LeaderEpoch && !slices.Contains(eligible, p.Leader) && old.Leader != p.Leader && !loss && !leadsByISRChange(old, p) {
		t.Fatalf("leader %d came from nowhere: %+v\nwas %+v", p.Leader, p, old)
	}
	for _, member := range p.ISR {
		if after.Broker(member).Fenced {
			t.Fatalf("fenced broker %d in ISR %v", member, p.ISR)
		}
	}
	if old.Leader != NoNode && p.Leader == old.Leader && after.Broker(p.Leader).Epoch != before.Broker(p.Leader).Epoch && p.LeaderEpoch == old.LeaderEpoch {
		t.Fatalf("a new incarnation of %d leads on in epoch %d", p.Leader, p.LeaderEpoch)
	}
}

// leadsByISRChange: the old leader itself vouched for the new one by taking it into the ISR.
func leadsByISRChange(old, p *Partition) bool { return old.Leader != NoNode && p.InISR(old.Leader) }
