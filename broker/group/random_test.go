package group

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var randomSeeds = flag.Int("random.seeds", 60, "histories of the random group test")

const (
	randomPartitions = 6
	randomSteps      = 600
)

// TestNoPartitionHasTwoOwnersAndNoOffsetGoesBack drives a group with members that join, sync, commit,
// leave, vanish and come back as zombies, and a coordinator that restarts and loses appends, beside
// a model: who was given which partition in which generation, and what was committed.
func TestNoPartitionHasTwoOwnersAndNoOffsetGoesBack(t *testing.T) {
	synced, commits := 0, 0
	for seed := range uint64(*randomSeeds) {
		r := &randomRun{
			world: newWorld(t), seed: seed, rng: rand.New(rand.NewPCG(seed, 4)),
			owners: map[int32]map[int32]string{}, committed: map[int32]int64{}, progress: map[string]map[int32]int64{},
		}
		r.set.InitialDelay = time.Second
		for i := range 4 {
			a := &actor{run: r, name: fmt.Sprintf("actor%d", i)}
			if i == 0 {
				a.instance = kmsg.StringPtr("static")
			}
			r.actors = append(r.actors, a)
		}
		for range randomSteps {
			r.one()
			r.look()
		}
		synced, commits = synced+r.synced, commits+r.commits
	}
	if synced < 10*int(*randomSeeds) || commits < 20*int(*randomSeeds) {
		t.Errorf("%d assignments and %d commits: the histories test nothing", synced, commits)
	}
}

type randomRun struct {
	*world
	seed      uint64
	rng       *rand.Rand
	actors    []*actor
	zombies   []*actor                   // members that vanished and still commit what they believe is theirs
	owners    map[int32]map[int32]string // by generation and partition
	committed map[int32]int64
	progress  map[string]map[int32]int64 // what a member in a generation has read to
	synced    int
	commits   int
}

type phase uint8

const (
	out phase = iota
	joins
	joined
	syncs
	settled
)

// actor is one client.
type actor struct {
	run        *randomRun
	name       string
	instance   *string
	id         string
	generation int32
	leader     bool
	others     []string // of a leader
	phase      phase
	owned      []int32
	next       map[int32]int64
}

func (r *randomRun) one() {
	switch r.rng.IntN(20) {
	case 0:
		r.m.Stopped()
		r.load()
		return
	case 1, 2, 3:
		r.pass(time.Duration(r.rng.IntN(6000)) * time.Millisecond)
		return
	}
	lose := r.rng.IntN(40) == 0
	r.lost = lose
	if n := len(r.zombies); n > 0 && r.rng.IntN(5) == 0 {
		r.zombies[r.rng.IntN(n)].commit()
	} else {
		r.actors[r.rng.IntN(len(r.actors))].act()
	}
	if lose { // what the log did not take is dropped with the state
		r.lost = false
		r.m.Stopped()
		r.load()
	}
}

// look checks that no committed offset went back.
func (r *randomRun) look() {
	g := r.m.groups["g"]
	for p, before := range r.committed {
		now := int64(-1)
		if g != nil {
			if o, ok := g.offsets["t"][p]; ok {
				now = o.at
			}
		}
		if now < before {
			r.t.Fatalf("seed %d: partition %d went back from %d to %d", r.seed, p, before, now)
		}
	}
}

func (a *actor) act() {
	switch a.phase {
	case out:
		a.join()
	case joined:
		a.sync()
	case settled:
		switch a.run.rng.IntN(12) {
		case 0:
			a.leave()
		case 1:
			a.vanish()
		case 2:
			a.phase = out // joins again for a reason of its own
		case 3, 4, 5, 6:
			a.commit()
		default:
			a.beat()
		}
	case joins, syncs: // it waits for an answer
	}
}

// refused decides as clients do what an error means for membership.
func (a *actor) refused(code int16) {
	a.haunt()
	a.phase, a.owned = out, nil
	switch code {
	case kerr.UnknownMemberID.Code, kerr.FencedInstanceID.Code:
		a.id = ""
	}
}

func (a *actor) join() {
	r := a.run
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.InstanceID, req.ProtocolType = "g", a.id, a.instance, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 15_000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", subscription("t")
	req.Protocols = append(req.Protocols, p)
	a.haunt()
	a.phase, a.owned = joins, nil
	r.step(r.m.Join(r.now, req, Client{ID: a.name, Version: 9}, func(resp *kmsg.JoinGroupResponse) {
		switch resp.ErrorCode {
		case 0:
			a.id, a.generation, a.leader, a.phase = resp.MemberID, resp.Generation, resp.LeaderID == resp.MemberID && !resp.SkipAssignment, joined
			a.others = nil
			for _, m := range resp.Members {
				a.others = append(a.others, m.MemberID)
			}
		case kerr.MemberIDRequired.Code:
			a.phase, a.id = out, resp.MemberID
		default:
			a.refused(resp.ErrorCode)
		}
	}))
}

func (a *actor) sync() {
	r := a.run
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.InstanceID, req.Generation = "g", a.id, a.instance, a.generation
	req.ProtocolType, req.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
	if a.leader {
		given := map[string][]byte{}
		for p := range randomPartitions {
			to := a.others[r.rng.IntN(len(a.others))]
			given[to] = append(given[to], byte(p))
		}
		for _, id := range a.others {
			x := kmsg.NewSyncGroupRequestGroupAssignment()
			x.MemberID, x.MemberAssignment = id, given[id]
			req.GroupAssignment = append(req.GroupAssignment, x)
		}
	}
	generation := a.generation
	a.phase = syncs
	r.step(r.m.Sync(r.now, req, Client{Version: 5}, func(resp *kmsg.SyncGroupResponse) {
		if resp.ErrorCode != 0 {
			a.refused(resp.ErrorCode)
			return
		}
		a.phase = settled
		a.take(generation, resp.MemberAssignment)
	}))
}

// take notes an assignment in the model, and where the member goes on.
func (a *actor) take(generation int32, assignment []byte) {
	r := a.run
	r.synced++
	owner := a.id
	if a.instance != nil {
		owner = *a.instance
	}
	if r.owners[generation] == nil {
		r.owners[generation] = map[int32]string{}
	}
	key := fmt.Sprint(a.id, "/", generation)
	if r.progress[key] == nil { // one client sends its commits in order, late ones too
		r.progress[key] = map[int32]int64{}
	}
	a.owned, a.next = nil, r.progress[key]
	for _, b := range assignment {
		p := int32(b)
		if other, taken := r.owners[generation][p]; taken && other != owner {
			r.t.Fatalf("seed %d: generation %d gives partition %d to %s and to %s", r.seed, generation, p, other, owner)
		}
		r.owners[generation][p] = owner
		a.owned = append(a.owned, p)
		a.next[p] = r.committed[p]
	}
}

func (a *actor) beat() {
	r := a.run
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.InstanceID, req.Generation = "g", a.id, a.instance, a.generation
	r.step(r.m.Heartbeat(r.now, req, func(resp *kmsg.HeartbeatResponse) {
		if resp.ErrorCode != 0 {
			a.refused(resp.ErrorCode)
		}
	}))
}

// commit commits what the member has read since, which for a zombie may be less than what others did.
func (a *actor) commit() {
	r := a.run
	if len(a.owned) == 0 {
		return
	}
	p := a.owned[r.rng.IntN(len(a.owned))]
	at := a.next[p] + int64(r.rng.IntN(3))
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version = 9
	req.Group, req.MemberID, req.InstanceID, req.Generation = "g", a.id, a.instance, a.generation
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = "t"
	x := kmsg.NewOffsetCommitRequestTopicPartition()
	x.Partition, x.Offset = p, at
	t.Partitions = append(t.Partitions, x)
	req.Topics = append(req.Topics, t)
	r.step(r.m.CommitOffsets(r.now, req, func(resp *kmsg.OffsetCommitResponse) {
		if resp.Topics[0].Partitions[0].ErrorCode != 0 {
			return
		}
		if at < r.committed[p] {
			r.t.Fatalf("seed %d: %s committed %d of partition %d in generation %d, %d was committed before",
				r.seed, a.name, at, p, a.generation, r.committed[p])
		}
		r.commits++
		a.next[p], r.committed[p] = at, at
	}))
}

func (a *actor) leave() {
	r := a.run
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = "g"
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID, m.InstanceID = a.id, a.instance
	req.Members = append(req.Members, m)
	r.step(r.m.Leave(r.now, req, Client{Version: 5}, func(*kmsg.LeaveGroupResponse) {}))
	a.phase, a.id, a.owned = out, "", nil
}

// vanish begins anew, without a member id, and leaves a zombie behind.
func (a *actor) vanish() {
	a.haunt()
	a.phase, a.id, a.owned = out, "", nil
}

// haunt leaves something behind that goes on committing as the member that a was: a process that was
// taken for dead, or a request that comes late.
func (a *actor) haunt() {
	if len(a.owned) == 0 {
		return
	}
	z := *a
	z.owned = slices.Clone(a.owned)
	if r := a.run; len(r.zombies) < 8 {
		r.zombies = append(r.zombies, &z)
	} else {
		r.zombies[r.rng.IntN(8)] = &z
	}
}
