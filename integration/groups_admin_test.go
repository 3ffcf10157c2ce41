package integration

import (
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/integration/harness"
)

// commitOne is a simple consumer's commit; it returns the partition's error code.
func commitOne(t *testing.T, cl *kgo.Client, group, topic string, partition int32, at int64) int16 {
	t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset = partition, at
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatalf("OffsetCommit: %v", err)
	}
	return resp.Topics[0].Partitions[0].ErrorCode
}

func expectCode(t *testing.T, what string, got int16, want *kerr.Error) {
	t.Helper()
	code := int16(0)
	if want != nil {
		code = want.Code
	}
	if got != code {
		t.Errorf("%s: code %d (%v), want %d", what, got, kerr.ErrorForCode(got), code)
	}
}

func TestOffsetsOfSimpleConsumersAreKeptFetchedAndDeleted(t *testing.T) {
	b := sharedBroker(t)
	cl := b.Client(t, kgo.MaxVersions(versionsBefore(8, 10)))
	const group, topic = "simple", "simple-offsets"
	b.CreateTopic(t, topic, 2, nil)
	expectCode(t, "commit", commitOne(t, cl, group, topic, 0, 7), nil)
	expectCode(t, "commit to a partition that is not there", commitOne(t, cl, group, topic, 2, 7), kerr.UnknownTopicOrPartition)
	expectCode(t, "commit to a topic that is not there", commitOne(t, cl, group, "no-such-topic", 0, 7), kerr.UnknownTopicOrPartition)

	// One fetch of several groups, topics by id.
	req := kmsg.NewPtrOffsetFetchRequest()
	for _, name := range []string{group, "never-heard-of"} {
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = name
		gt := kmsg.NewOffsetFetchRequestGroupTopic()
		gt.Topic, gt.TopicID, gt.Partitions = topic, topicID(t, cl, topic), []int32{0, 1}
		g.Topics = append(g.Topics, gt)
		req.Groups = append(req.Groups, g)
	}
	resp, err := req.RequestWith(t.Context(), b.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	if resp.Version < 10 {
		t.Errorf("OffsetFetch was answered in version %d", resp.Version)
	}
	for _, g := range resp.Groups {
		want := []int64{-1, -1}
		if g.Group == group {
			want[0] = 7
		}
		for i, p := range g.Topics[0].Partitions {
			if p.Offset != want[i] || p.ErrorCode != 0 {
				t.Errorf("%s/%d of group %s: offset %d, code %d", topic, p.Partition, g.Group, p.Offset, p.ErrorCode)
			}
		}
	}

	del := kmsg.NewPtrDeleteGroupsRequest()
	del.Groups = []string{group, "never-heard-of"}
	deleted, err := del.RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range deleted.Groups {
		want := map[string]*kerr.Error{"never-heard-of": kerr.GroupIDNotFound}[g.Group]
		expectCode(t, "delete "+g.Group, g.ErrorCode, want)
	}
	list, err := kmsg.NewPtrListGroupsRequest().RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range list.Groups {
		if g.Group == group {
			t.Errorf("the deleted group is listed: %+v", g)
		}
	}
}

func topicID(t *testing.T, cl *kgo.Client, topic string) [16]byte {
	t.Helper()
	req := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Topics[0].TopicID
}

func TestOffsetsGoWithTheirTopic(t *testing.T) {
	b := sharedBroker(t)
	cl := b.Client(t, kgo.MaxVersions(versionsBefore(8, 10)))
	const group, topic = "outlives", "deleted-under-a-group"
	b.CreateTopic(t, topic, 1, nil)
	expectCode(t, "commit", commitOne(t, cl, group, topic, 0, 7), nil)
	req := kmsg.NewPtrDeleteTopicsRequest()
	rt := kmsg.NewDeleteTopicsRequestTopic()
	rt.Topic = kmsg.StringPtr(topic)
	req.Topics, req.TopicNames = append(req.Topics, rt), []string{topic}
	if _, err := req.RequestWith(t.Context(), cl); err != nil {
		t.Fatal(err)
	}
	b.CreateTopic(t, topic, 1, nil)
	fetch := kmsg.NewPtrOffsetFetchRequest()
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	fetch.Groups = append(fetch.Groups, g) // null topics: all
	resp, err := fetch.RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(resp.Groups[0].Topics); n != 0 {
		t.Errorf("the new topic of the name has %d committed offsets", n)
	}
}

func TestInternalTopicsBelongToTheBroker(t *testing.T) {
	b := sharedBroker(t)
	cl := b.Client(t)
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorType, find.CoordinatorKeys, find.CoordinatorKey = 0, []string{"a", "b"}, "a"
	found, err := find.RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range found.Coordinators {
		if c.ErrorCode != 0 || c.Host == "" || c.NodeID < 1 {
			t.Errorf("coordinator of %s: %+v", c.Key, c)
		}
	}
	const topic = "__consumer_offsets"
	meta := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = kmsg.StringPtr(topic)
	meta.Topics = append(meta.Topics, rt)
	resp, err := meta.RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	if m := resp.Topics[0]; !m.IsInternal || len(m.Partitions) != 50 {
		t.Errorf("internal %v, %d partitions", m.IsInternal, len(m.Partitions))
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr(); err == nil {
		t.Error("a client's record was taken")
	}
	del := kmsg.NewPtrDeleteTopicsRequest()
	dt := kmsg.NewDeleteTopicsRequestTopic()
	dt.Topic = kmsg.StringPtr(topic)
	del.Topics, del.TopicNames = append(del.Topics, dt), []string{topic}
	gone, err := del.RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	expectCode(t, "delete", gone.Topics[0].ErrorCode, kerr.InvalidTopicException)
}

// TestStopAnswersMembersThatWait: a member that waits for a rebalance is told at once to look for
// another coordinator, and does not make the stop wait.
func TestStopAnswersMembersThatWait(t *testing.T) {
	b := harness.Start(t, harness.Options{Settings: map[string]string{"group.initial.rebalance.delay.ms": "60s"}})
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKey, find.CoordinatorKeys = "g", []string{"g"}
	if _, err := find.RequestWith(t.Context(), b.Client(t)); err != nil {
		t.Fatal(err)
	}
	join := joinRequest(nil)
	answers := make(chan *kmsg.JoinGroupResponse, 1)
	raw := b.Dial(t)
	go func() {
		resp, err := raw.TryDo(3, join)
		if err != nil {
			t.Errorf("JoinGroup: %v", err)
			resp = kmsg.NewPtrJoinGroupResponse()
		}
		answers <- resp.(*kmsg.JoinGroupResponse)
	}()
	harness.Eventually(t, harness.Soon, "the member waits", func() error {
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Groups = []string{"g"}
		resp, err := req.RequestWith(t.Context(), b.Client(t))
		if err == nil && resp.Groups[0].State != "PreparingRebalance" {
			err = errors.New(resp.Groups[0].State)
		}
		return err
	})
	b.Stop(t)
	expectCode(t, "the answer", (<-answers).ErrorCode, kerr.NotCoordinator)
}

func joinRequest(metadata []byte) *kmsg.JoinGroupRequest {
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = "g", "consumer", 30_000, 60_000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", metadata
	join.Protocols = append(join.Protocols, p)
	return join
}

// TestMembersThatWaitHoldNoRequestMemory parks more requests than the decode memory has room for: the
// broker goes on answering.
func TestMembersThatWaitHoldNoRequestMemory(t *testing.T) {
	b := harness.Start(t, harness.Options{Settings: map[string]string{"group.initial.rebalance.delay.ms": "60s"}})
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKey, find.CoordinatorKeys = "g", []string{"g"}
	if _, err := find.RequestWith(t.Context(), b.Client(t)); err != nil {
		t.Fatal(err)
	}
	const members = 70 // of 100 KiB, which count for 128 times as much while they are decoded
	for range members {
		join := joinRequest(make([]byte, 100<<10))
		join.SetVersion(3)
		f := kmsg.NewRequestFormatter(kmsg.FormatterClientID("raw"))
		if err := b.Dial(t).Send(f.AppendRequest(nil, join, 1)); err != nil {
			t.Fatal(err)
		}
	}
	harness.Eventually(t, harness.Soon, "every member waits", func() error {
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Groups = []string{"g"}
		resp, err := req.RequestWith(t.Context(), b.Client(t))
		if err == nil && len(resp.Groups[0].Members) != members {
			err = fmt.Errorf("%d members", len(resp.Groups[0].Members))
		}
		return err
	})
}
