package group

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func joinRequest(group string, metadata int) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.ProtocolType, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = group, "consumer", 10_000, 10_000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", make([]byte, metadata)
	req.Protocols = append(req.Protocols, p)
	return req
}

func (w *world) join(req *kmsg.JoinGroupRequest, client Client) (code int16, answered bool) {
	w.step(w.m.Join(w.now, req, client, func(r *kmsg.JoinGroupResponse) { code, answered = r.ErrorCode, true }))
	return code, answered
}

func TestJoinsBeyondTheLimitsAreRefusedAndKeepNothing(t *testing.T) {
	long := strings.Repeat("x", maxString)
	old := Client{ID: "c", Version: 3}
	for name, c := range map[string]struct {
		change func(*kmsg.JoinGroupRequest)
		client Client
		want   *kerr.Error
	}{
		"group id longer than a record can hold":    {func(r *kmsg.JoinGroupRequest) { r.Group = long + "x" }, old, kerr.InvalidGroupID},
		"no group id":                               {func(r *kmsg.JoinGroupRequest) { r.Group = "" }, old, kerr.InvalidGroupID},
		"instance id longer than a record can hold": {func(r *kmsg.JoinGroupRequest) { r.InstanceID = &long }, old, kerr.InvalidRequest},
		"protocol type longer":                      {func(r *kmsg.JoinGroupRequest) { r.ProtocolType = long + "x" }, old, kerr.InvalidRequest},
		"protocol name longer":                      {func(r *kmsg.JoinGroupRequest) { r.Protocols[0].Name = long + "x" }, old, kerr.InvalidRequest},
		"client id longer":                          {func(*kmsg.JoinGroupRequest) {}, Client{ID: long, Version: 3}, kerr.InvalidRequest},
		"metadata beyond what a group may have":     {func(r *kmsg.JoinGroupRequest) { r.Protocols[0].Metadata = make([]byte, maxGroupBytes) }, old, kerr.GroupMaxSizeReached},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			req := joinRequest("g", 10)
			c.change(req)
			if code, answered := w.join(req, c.client); !answered || code != c.want.Code {
				t.Errorf("answered %v with %s", answered, codeName(code))
			}
			if len(w.m.groups) != 0 || w.m.memberBytes != 0 {
				t.Errorf("%d groups and %d bytes are kept", len(w.m.groups), w.m.memberBytes)
			}
		})
	}
}

func TestMembersAndGroupsOfAShardAreBounded(t *testing.T) {
	w := newWorld(t)
	w.limits = Limits{Groups: 5, MemberBytes: 20_000, OffsetBytes: 3000}
	w.load()
	refused := 0
	for i := range 20 {
		if code, answered := w.join(joinRequest(fmt.Sprint("g", i), 10), Client{ID: "c", Version: 3}); answered && code == kerr.GroupMaxSizeReached.Code {
			refused++
		}
	}
	if len(w.m.groups) != 5 || refused != 15 {
		t.Errorf("%d groups, %d refused", len(w.m.groups), refused)
	}
	// Members, and ids that are given out to nobody in particular.
	for range 200 {
		w.join(joinRequest("g0", 1000), Client{ID: "c", Version: 3})
		w.join(joinRequest("g1", 10), Client{ID: "c", Version: 9})
	}
	if w.m.memberBytes > 20_000 {
		t.Errorf("%d bytes of members, the limit is 20000", w.m.memberBytes)
	}
	for i := range 100 {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Version, req.Group, req.Generation = 9, "g9", -1
		topic := kmsg.NewOffsetCommitRequestTopic()
		topic.Topic = "t"
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Metadata = int32(i), kmsg.StringPtr("metadata")
		topic.Partitions = append(topic.Partitions, p)
		req.Topics = append(req.Topics, topic)
		w.step(w.m.CommitOffsets(w.now, req, func(*kmsg.OffsetCommitResponse) {}))
	}
	if w.m.offsetBytes > 3000 {
		t.Errorf("%d bytes of offsets, the limit is 3000", w.m.offsetBytes)
	}
}

func TestCommitThatWouldNotFitOneStepChangesNothing(t *testing.T) {
	w := newWorld(t)
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 9, strings.Repeat("g", maxString), -1 // each record repeats it
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic = "t"
	for i := range 1000 {
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition = int32(i)
		topic.Partitions = append(topic.Partitions, p)
	}
	req.Topics = append(req.Topics, topic)
	w.step(w.m.CommitOffsets(w.now, req, func(r *kmsg.OffsetCommitResponse) {
		for _, p := range r.Topics[0].Partitions {
			if p.ErrorCode != kerr.InvalidCommitOffsetSize.Code {
				t.Fatalf("partition %d: %s", p.Partition, codeName(p.ErrorCode))
			}
		}
	}))
	if len(w.log) != 0 {
		t.Errorf("%d records were written", len(w.log))
	}
}

func TestTooLargeAnAssignmentEndsTheGenerationAndNotTheShard(t *testing.T) {
	w := newWorld(t)
	w.set.InitialDelay = 0
	w.join(joinRequest("g", 10), Client{ID: "c", Version: 3})
	w.pass(0)
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.Generation, req.MemberID = "g", 1, "c-1"
	a := kmsg.NewSyncGroupRequestGroupAssignment()
	a.MemberID, a.MemberAssignment = "c-1", make([]byte, maxGroupBytes)
	req.GroupAssignment = append(req.GroupAssignment, a)
	code := int16(0)
	w.step(w.m.Sync(w.now, req, Client{Version: 3}, func(r *kmsg.SyncGroupResponse) { code = r.ErrorCode }))
	if g := w.m.groups["g"]; code != kerr.UnknownServerError.Code || g.state != PreparingRebalance || len(w.log) != 0 {
		t.Errorf("answered %s, the group is %s, %d records", codeName(code), g.state, len(w.log))
	}
}

func TestSweepOfManyOffsetsGoesInSteps(t *testing.T) {
	w := newWorld(t)
	for i := range 3 * sweepRecords {
		w.must(w.m.Apply(offsetRecord("g", int32(i), w.now), infoOf(i)))
	}
	w.out.Reset()
	w.now = w.now.Add(w.set.OffsetsRetention + time.Hour)
	steps := 0
	for len(w.m.groups) > 0 {
		step := w.m.Tick(w.now)
		if len(step.Records) > sweepRecords+1 {
			t.Fatalf("one step has %d records", len(step.Records))
		}
		w.step(step)
		w.now = w.now.Add(sweepAgain)
		if steps++; steps > 10 {
			t.Fatalf("%d offsets are left after %d steps", len(w.m.groups["g"].offsets["t"]), steps)
		}
	}
}

func TestOffsetCommittedToANewTopicOfTheSameNameSurvivesThePurge(t *testing.T) {
	w := newWorld(t)
	for i := range sweepRecords + 10 {
		w.must(w.m.Apply(offsetRecord("g", int32(i), w.now), infoOf(i)))
	}
	w.step(w.m.TopicsDeleted(w.now, []string{"t"})) // too many for one step
	left := len(w.m.groups["g"].offsets["t"])
	later := w.now.Add(time.Millisecond)
	w.must(w.m.Apply(offsetRecord("g", 1<<20, later), infoOf(1<<20)))
	w.pass(time.Second)
	if parts := w.m.groups["g"].offsets["t"]; left == 0 || len(parts) != 1 || parts[1<<20].committedMS != later.UnixMilli() {
		t.Errorf("after the first step %d, at the end %d offsets", left, len(parts))
	}
}
