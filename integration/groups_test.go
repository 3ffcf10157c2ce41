package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/integration/harness"
)

// groupClient is a consumer library that joins groups. join subscribes to one topic and gives every
// record to got; the member commits what it was given when it leaves, and before if it likes.
type groupClient struct {
	name string
	join func(t testing.TB, b *harness.Broker, group, topic string, got func(partition int32, offset int64)) (leave func())
}

var groupClients = []groupClient{kgoGroup, saramaGroup, kafkaGoGroup, confluentGroup}

const groupPartitions = 4

// seen is what the members of one group were given.
type seen struct {
	mu sync.Mutex
	at map[int32]map[int64]int // how often
}

func (s *seen) got(p int32, offset int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.at = map[int32]map[int64]int{}
	}
	if s.at[p] == nil {
		s.at[p] = map[int64]int{}
	}
	s.at[p][offset]++
}

// all tells whether every offset in [from, end) of each partition was given to a member.
func (s *seen) all(from, end int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range int32(groupPartitions) {
		for o := from; o < end; o++ {
			if s.at[p][o] == 0 {
				return fmt.Errorf("partition %d: offset %d of [%d, %d) was given to nobody", p, o, from, end)
			}
		}
	}
	return nil
}

func (s *seen) noneBelow(from int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, offsets := range s.at {
		for o := range offsets {
			if o < from {
				return fmt.Errorf("partition %d: offset %d was read again, %d was committed", p, o, from)
			}
		}
	}
	return nil
}

// TestGroupsOfEveryClientRebalanceAndResume takes a group of each library through a second member's
// coming and going, kills the broker under all of them, and lets them, and then new members, go on.
func TestGroupsOfEveryClientRebalanceAndResume(t *testing.T) {
	b := harness.Start(t, harness.Options{Settings: map[string]string{"group.initial.rebalance.delay.ms": "100ms"}})
	type running struct {
		topic, group string
		seen         seen
		leave        func()
	}
	var all []*running
	outer := t // members outlive the subtest that they join in
	for _, c := range groupClients {
		t.Run(c.name, func(t *testing.T) {
			r := &running{topic: "groups-" + c.name, group: "group-" + c.name}
			b.CreateTopic(t, r.topic, groupPartitions, nil)
			produceEach(t, b, r.topic, 50)
			r.leave = c.join(outer, b, r.group, r.topic, r.seen.got)
			harness.Eventually(t, harness.Late, "one member has everything", func() error {
				return errors.Join(assignedTo(t, b, r.group, 1), r.seen.all(0, 50))
			})
			leave := c.join(t, b, r.group, r.topic, r.seen.got)
			harness.Eventually(t, harness.Late, "two members share", func() error { return assignedTo(t, b, r.group, 2) })
			leave()
			harness.Eventually(t, harness.Late, "one is left", func() error { return assignedTo(t, b, r.group, 1) })
			all = append(all, r)
		})
	}
	b.Kill(t)
	b.Restart(t)
	for i, r := range all {
		t.Run("after kill/"+groupClients[i].name, func(t *testing.T) {
			produceEach(t, b, r.topic, 50)
			harness.Eventually(t, harness.Late, "the member goes on", func() error { return r.seen.all(0, 100) })
			r.leave()
			harness.Eventually(t, harness.Late, "everything is committed", func() error { return committed(t, b, r.group, r.topic, 100) })
			var fresh seen
			produceEach(t, b, r.topic, 10)
			leave := groupClients[i].join(t, b, r.group, r.topic, fresh.got)
			defer leave()
			harness.Eventually(t, harness.Late, "a new member goes on", func() error { return fresh.all(100, 110) })
			if err := fresh.noneBelow(100); err != nil {
				t.Error(err)
			}
		})
	}
}

func produceEach(t *testing.T, b *harness.Broker, topic string, n int) {
	t.Helper()
	cl := b.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	var records []*kgo.Record
	for p := range int32(groupPartitions) {
		for range n {
			records = append(records, &kgo.Record{Topic: topic, Partition: p, Value: []byte("value")})
		}
	}
	if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// assignedTo tells whether a group is stable with so many members that own every partition once.
func assignedTo(t testing.TB, b *harness.Broker, group string, members int) error {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{group}
	resp, err := req.RequestWith(t.Context(), b.Client(t))
	if err != nil {
		return err
	}
	g := resp.Groups[0]
	if g.State != "Stable" || len(g.Members) != members {
		return fmt.Errorf("state %s, %d members, code %d", g.State, len(g.Members), g.ErrorCode)
	}
	var owned []int32
	for _, m := range g.Members {
		var a kmsg.ConsumerMemberAssignment
		if err := a.ReadFrom(m.MemberAssignment); err != nil {
			return fmt.Errorf("assignment of %s: %w", m.MemberID, err)
		}
		n := 0
		for _, topic := range a.Topics {
			owned = append(owned, topic.Partitions...)
			n += len(topic.Partitions)
		}
		if n != groupPartitions/members {
			return fmt.Errorf("%s has %d partitions", m.MemberID, n)
		}
	}
	if slices.Sort(owned); !slices.Equal(owned, []int32{0, 1, 2, 3}) {
		return fmt.Errorf("owned are %v", owned)
	}
	return nil
}

// committed tells whether a group's offset of every partition is want.
func committed(t testing.TB, b *harness.Broker, group, topic string, want int64) error {
	req := kmsg.NewPtrOffsetFetchRequest()
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	req.Group, req.Groups = group, append(req.Groups, g)
	resp, err := req.RequestWith(t.Context(), b.Client(t, kgo.MaxVersions(versionsBefore(9, 10))))
	if err != nil {
		return err
	}
	n := 0
	for _, rt := range resp.Groups[0].Topics {
		for _, p := range rt.Partitions {
			if p.Offset != want {
				return fmt.Errorf("%s/%d is at %d, not %d", rt.Topic, p.Partition, p.Offset, want)
			}
			n++
		}
	}
	if n != groupPartitions {
		return fmt.Errorf("%d offsets: %w", n, kerr.ErrorForCode(resp.Groups[0].ErrorCode))
	}
	return nil
}

var kgoGroup = groupClient{"franz-go", func(t testing.TB, b *harness.Broker, group, topic string, got func(int32, int64)) func() {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { got(r.Partition, r.Offset) })
			_ = cl.CommitUncommittedOffsets(ctx) // the next one, or the last, commits what this one could not
		}
	}()
	leave := sync.OnceFunc(func() {
		stop()
		<-done
		if err := cl.CommitUncommittedOffsets(context.Background()); err != nil {
			t.Errorf("last commit: %v", err)
		}
		cl.Close()
	})
	t.Cleanup(leave)
	return leave
}}
