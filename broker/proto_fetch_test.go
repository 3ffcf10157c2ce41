package broker

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/record"
)

func TestAFullFetchAnswerNamesEveryPartitionAlsoAfterAWait(t *testing.T) {
	b := protoBroker(t, nil)
	c, p := dialProto(t, b), dialProto(t, b)
	c.makeTopic("t", 3, nil)
	for _, wake := range []bool{false, true} {
		req := fetchOf(12, 0, 0, "t", 0, 0, 0)
		req.MaxWaitMillis = 100
		if wake {
			req.MaxWaitMillis = 10_000
		}
		c.send(req)
		if wake {
			p.mustProduce("t", 1, batchOf(t, 1, 10))
		}
		resp := answer[*kmsg.FetchResponse](c, req)
		if got := fetched(resp); len(got) != 3 || resp.SessionID == 0 {
			t.Fatalf("woken %v: session %d answers partitions %v; Java drops a session whose full answer lacks one", wake, resp.SessionID, got)
		}
	}
}

func TestASessionTellsOnlyWhatChanged(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	c.makeTopic("t", 3, nil)
	c.mustProduce("t", 0, batchOf(t, 1, 10))
	id := ask[*kmsg.FetchResponse](c, fetchOf(12, 0, 0, "t", 1, 0, 0)).SessionID
	if got := fetched(ask[*kmsg.FetchResponse](c, fetchOf(12, id, 1, ""))); len(got) != 0 {
		t.Fatalf("nothing changed, told %v", got)
	}
	c.mustProduce("t", 2, batchOf(t, 1, 10))
	got := fetched(ask[*kmsg.FetchResponse](c, fetchOf(12, id, 2, "")))
	if len(got) != 1 || got[2].HighWatermark != 1 || len(got[2].RecordBatches) == 0 {
		t.Fatalf("partition 2 grew, told %v", got)
	}
	// Not read further: it is told again, as in Kafka, until the client moves its offset.
	req := fetchOf(12, id, 3, "t", 1, 0, 1)
	if got := fetched(ask[*kmsg.FetchResponse](c, req)); len(got) != 0 {
		t.Fatalf("everything is read, told %v", got)
	}
	forget := fetchOf(12, id, 4, "")
	ft := kmsg.NewFetchRequestForgottenTopic()
	ft.Topic, ft.Partitions = "t", []int32{1, 77}
	forget.ForgottenTopics = append(forget.ForgottenTopics, ft)
	ask[*kmsg.FetchResponse](c, forget)
	c.mustProduce("t", 1, batchOf(t, 1, 10))
	if got := fetched(ask[*kmsg.FetchResponse](c, fetchOf(12, id, 5, ""))); len(got) != 0 {
		t.Fatalf("a forgotten partition was told: %v", got)
	}
}

func TestSessionIDsAndEpochsAreChecked(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	topic := c.makeTopic("t", 1, nil)
	id := ask[*kmsg.FetchResponse](c, fetchOf(12, 0, 0, "t", 0)).SessionID
	byID := fetchOf(13, id, 1, "")
	for _, x := range []struct {
		what string
		req  *kmsg.FetchRequest
		want *kerr.Error
	}{
		{"an unknown session", fetchOf(12, id+1, 1, ""), kerr.FetchSessionIDNotFound},
		{"an epoch ahead", fetchOf(12, id, 2, ""), kerr.InvalidFetchSessionEpoch},
		{"topic ids in a session of names", byID, kerr.FetchSessionTopicIDError},
		{"the right epoch after refusals", fetchOf(12, id, 1, ""), nil},
		{"the same epoch again", fetchOf(12, id, 1, ""), kerr.InvalidFetchSessionEpoch},
		{"the end", fetchOf(12, id, -1, ""), nil},
		{"after the end", fetchOf(12, id, 2, ""), kerr.FetchSessionIDNotFound},
	} {
		resp := ask[*kmsg.FetchResponse](c, x.req)
		want := int16(0)
		if x.want != nil {
			want = x.want.Code
		}
		if resp.ErrorCode != want {
			t.Errorf("%s: code %d, want %d", x.what, resp.ErrorCode, want)
		}
	}
	_ = topic
}

func TestAFullSessionCacheAnswersWithoutASession(t *testing.T) {
	b := protoBroker(t, func(c *Config) { c.FetchSessionSlots = 1 })
	c := dialProto(t, b)
	c.makeTopic("t", 1, nil)
	if first := ask[*kmsg.FetchResponse](c, fetchOf(12, 0, 0, "t", 0)); first.SessionID == 0 {
		t.Fatal("the first gets no session")
	}
	second := ask[*kmsg.FetchResponse](c, fetchOf(12, 0, 0, "t", 0))
	if second.SessionID != 0 || second.ErrorCode != 0 || len(fetched(second)) != 1 {
		t.Fatalf("the second: session %d, code %d, %v", second.SessionID, second.ErrorCode, fetched(second))
	}
}

func TestASessionSeesATopicMadeAnewUnderTheSameName(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	old := c.makeTopic("t", 1, nil)
	c.mustProduce("t", 0, batchOf(t, 5, 10))
	names := ask[*kmsg.FetchResponse](c, fetchOf(12, 0, 0, "t", 0)).SessionID
	byID := fetchOf(13, 0, 0, "", 0)
	byID.Topics[0].TopicID = old
	ids := ask[*kmsg.FetchResponse](c, byID).SessionID

	del := kmsg.NewPtrDeleteTopicsRequest()
	del.Version, del.TimeoutMillis = 6, 10_000
	rt := kmsg.NewDeleteTopicsRequestTopic()
	rt.Topic = kmsg.StringPtr("t")
	del.Topics = append(del.Topics, rt)
	if code := ask[*kmsg.DeleteTopicsResponse](c, del).Topics[0].ErrorCode; code != 0 {
		t.Fatalf("delete: %d", code)
	}
	gone := fetched(ask[*kmsg.FetchResponse](c, fetchOf(12, names, 1, "")))
	if gone[0].ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Fatalf("after the deletion: %+v", gone[0])
	}
	fresh := c.makeTopic("t", 1, nil)
	if fresh == old {
		t.Fatal("the new topic has the old id")
	}
	c.mustProduce("t", 0, batchOf(t, 1, 10))
	got := fetched(ask[*kmsg.FetchResponse](c, fetchOf(12, names, 2, "")))
	if got[0].ErrorCode != 0 || got[0].HighWatermark != 1 || len(got[0].RecordBatches) == 0 {
		t.Fatalf("by name: code %d, high watermark %d", got[0].ErrorCode, got[0].HighWatermark)
	}
	stale := fetched(ask[*kmsg.FetchResponse](c, fetchOf(13, ids, 1, "")))
	if stale[0].ErrorCode != kerr.UnknownTopicID.Code {
		t.Fatalf("by the old id: %+v", stale[0])
	}
}

func TestAWaitingFetchIsAnsweredByAnAppendAndByADeletion(t *testing.T) {
	b := protoBroker(t, nil)
	c, p := dialProto(t, b), dialProto(t, b)
	c.makeTopic("t", 2, nil)
	for _, session := range []int32{-1, 0} { // without and with
		req := fetchOf(12, 0, session, "t", 0, 0)
		offset := replicaOf(t, b, "t", 1).HW()
		req.Topics[0].Partitions[1].FetchOffset = offset
		req.MaxWaitMillis = int32(protoTimeout.Milliseconds()) * 2
		c.send(req)
		p.mustProduce("t", 1, batchOf(t, 1, 10))
		if got := fetched(answer[*kmsg.FetchResponse](c, req)); got[1].HighWatermark != offset+1 {
			t.Fatalf("session %d: %+v", session, got)
		}
	}
	req := fetchOf(12, 0, -1, "t", 0)
	req.MaxWaitMillis = int32(protoTimeout.Milliseconds()) * 2
	c.send(req)
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.Version, del.TopicNames, del.TimeoutMillis = 5, []string{"t"}, 10_000
	ask[*kmsg.DeleteTopicsResponse](p, del)
	if got := fetched(answer[*kmsg.FetchResponse](c, req)); got[0].ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Fatalf("a deleted topic: %+v", got)
	}
}

func TestOneOversizeBatchAnAnswerAndEverybodysTurnComes(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	c.makeTopic("t", 2, nil)
	for p := range int32(2) {
		for range 3 {
			c.mustProduce("t", p, batchOf(t, 1, 1000))
		}
	}
	req := fetchOf(12, 0, 0, "t", 0, 0)
	req.MaxBytes = 1
	next := []int64{0, 0}
	id := int32(0)
	for epoch := int32(0); epoch < 6; epoch++ {
		resp := ask[*kmsg.FetchResponse](c, req)
		if id == 0 {
			id = resp.SessionID
		}
		batches := 0
		again := fetchOf(12, id, epoch+1, "")
		again.MaxBytes = 1
		for i, got := range fetched(resp) {
			if len(got.RecordBatches) == 0 {
				continue
			}
			batch, err := record.Parse(got.RecordBatches)
			if err != nil || batch.Len() != len(got.RecordBatches) || batch.BaseOffset() != next[i] {
				t.Fatalf("partition %d: %d bytes, %v", i, len(got.RecordBatches), err)
			}
			next[i]++
			batches++
			rt := kmsg.NewFetchRequestTopic()
			rt.Topic = "t"
			rp := kmsg.NewFetchRequestTopicPartition()
			rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = i, next[i], 1<<20
			rt.Partitions = append(rt.Partitions, rp)
			again.Topics = append(again.Topics, rt)
		}
		if batches != 1 {
			t.Fatalf("answer %d holds %d batches, want one", epoch, batches)
		}
		if d := next[0] - next[1]; d < -1 || d > 1 {
			t.Fatalf("after %d answers the partitions are at %v: one is starved", epoch+1, next)
		}
		req = again
	}
}

func TestFetchOffsetsOutOfRangeAndLeaderEpochsAreRefused(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	topic := c.makeTopic("t", 1, nil)
	c.mustProduce("t", 0, batchOf(t, 2, 10))
	epoch := replicaOf(t, b, "t", 0).LeaderEpoch()
	for _, x := range []struct {
		what   string
		offset int64
		epoch  int32
		want   int16
	}{
		{"the end", 2, -1, 0},
		{"behind the end", 3, -1, kerr.OffsetOutOfRange.Code},
		{"negative", -1, -1, kerr.OffsetOutOfRange.Code},
		{"the current epoch", 0, epoch, 0},
		{"an old epoch", 0, epoch - 1, kerr.FencedLeaderEpoch.Code},
		{"a future epoch", 0, epoch + 1, kerr.UnknownLeaderEpoch.Code},
	} {
		if x.what == "an old epoch" && x.epoch < 0 {
			continue
		}
		req := fetchOf(12, 0, -1, "t", x.offset)
		req.Topics[0].Partitions[0].CurrentLeaderEpoch = x.epoch
		if got := fetched(ask[*kmsg.FetchResponse](c, req))[0]; got.ErrorCode != x.want {
			t.Errorf("%s: code %d, want %d", x.what, got.ErrorCode, x.want)
		}
	}
	byID := fetchOf(13, 0, -1, "", 0)
	byID.Topics[0].TopicID = topic
	byID.Topics[0].Partitions[0].Partition = 9
	if got := fetched(ask[*kmsg.FetchResponse](c, byID))[9]; got.ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("a partition that a known topic does not have: code %d", got.ErrorCode)
	}
	byID.Topics[0].TopicID = [16]byte{1}
	if got := fetched(ask[*kmsg.FetchResponse](c, byID))[9]; got.ErrorCode != kerr.UnknownTopicID.Code {
		t.Errorf("an unknown topic id: code %d", got.ErrorCode)
	}
}

func TestCloseIsBoundedWithAParkedFetch(t *testing.T) {
	b := openBroker(t, testConfig(t, t.TempDir()))
	c := dialProto(t, b)
	c.makeTopic("t", 1, nil)
	req := fetchOf(12, 0, -1, "t", 0)
	req.MaxWaitMillis = 600_000
	c.send(req)
	start := time.Now()
	closeBroker(t, b)
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
}
