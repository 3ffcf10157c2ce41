package integration

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/integration/harness"
)

// session is an incremental fetch session (KIP-227) on one connection.
type session struct {
	t     *testing.T
	raw   *harness.Raw
	topic string
	id    int32
	epoch int32
}

// ask sends one request that names partitions with their offsets and forgets others, and gives
// the partitions of the answer with the offset after their records.
func (s *session) ask(waitMS int32, named map[int32]int64, forgotten ...int32) (told map[int32]int64, code int16) {
	s.t.Helper()
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionID, req.SessionEpoch = waitMS, 1, 50<<20, s.id, s.epoch
	if len(named) > 0 {
		ft := kmsg.NewFetchRequestTopic()
		ft.Topic = s.topic
		for p, offset := range named {
			part := kmsg.NewFetchRequestTopicPartition()
			part.Partition, part.FetchOffset, part.PartitionMaxBytes = p, offset, 1<<20
			ft.Partitions = append(ft.Partitions, part)
		}
		req.Topics = append(req.Topics, ft)
	}
	if len(forgotten) > 0 {
		ft := kmsg.NewFetchRequestForgottenTopic()
		ft.Topic, ft.Partitions = s.topic, forgotten
		req.ForgottenTopics = append(req.ForgottenTopics, ft)
	}
	resp := harness.Do[*kmsg.FetchResponse](s.t, s.raw, 12, req)
	told = map[int32]int64{}
	for _, topic := range resp.Topics {
		for _, p := range topic.Partitions {
			if p.ErrorCode != 0 {
				s.t.Fatalf("partition %d: error code %d", p.Partition, p.ErrorCode)
			}
			next, err := harness.NextOffset(p.RecordBatches)
			if err != nil {
				s.t.Fatalf("partition %d: %v", p.Partition, err)
			}
			told[p.Partition] = next // -1 without records
		}
	}
	if resp.ErrorCode == 0 {
		s.id = resp.SessionID
		s.epoch++
	}
	return told, resp.ErrorCode
}

func (s *session) expect(what string, told map[int32]int64, want map[int32]int64) {
	s.t.Helper()
	if fmt.Sprint(told) != fmt.Sprint(want) { // maps print in key order
		s.t.Errorf("%s: the answer holds %v (partition: next offset), want %v", what, told, want)
	}
}

// TestFetchSessionsTellOnlyWhatMoved walks one session through its life.
func TestFetchSessionsTellOnlyWhatMoved(t *testing.T) {
	b := sharedBroker(t)
	const topic, partitions = "sessions", 4
	b.CreateTopic(t, topic, partitions, nil)
	b.Produce(t, topic, 0, []byte("before"))
	s := &session{t: t, raw: b.Dial(t), topic: topic}
	all := map[int32]int64{}
	for p := range int32(partitions) {
		all[p] = 0
	}
	told, _ := s.ask(0, all)
	s.expect("the first, full answer", told, map[int32]int64{0: 1, 1: -1, 2: -1, 3: -1})
	if s.id == 0 {
		t.Fatal("the broker opened no session")
	}
	told, _ = s.ask(0, map[int32]int64{0: 1})
	s.expect("nothing new", told, map[int32]int64{})
	b.Produce(t, topic, 2, []byte("one"), []byte("two"))
	told, _ = s.ask(10_000, nil)
	if len(told) != 1 || told[2] < 1 {
		t.Errorf("after a write to partition 2 the answer holds %v", told)
	}
	told, _ = s.ask(0, map[int32]int64{2: 2})
	s.expect("partition 2 is read", told, map[int32]int64{})

	b.Produce(t, topic, 1, []byte("forgotten"))
	told, _ = s.ask(0, nil, 1)
	s.expect("partition 1 is forgotten", told, map[int32]int64{})
	b.Produce(t, topic, 1, []byte("still"))
	b.Produce(t, topic, 3, []byte("told"))
	told, _ = s.ask(10_000, nil)
	s.expect("partition 3 moved, 1 is forgotten", told, map[int32]int64{3: 1})
	told, _ = s.ask(0, map[int32]int64{1: 0, 3: 1})
	s.expect("partition 1 is back", told, map[int32]int64{1: 2})
	s.testWrongEpochs(b)
}

// testWrongEpochs: a session is left alone by requests that do not fit it, and ends when it is
// told to.
func (s *session) testWrongEpochs(b *harness.Broker) {
	t := s.t
	t.Helper()
	good := *s
	for _, epoch := range []int32{good.epoch - 1, good.epoch + 1} {
		s.epoch = epoch
		if _, code := s.ask(0, nil); code != kerr.InvalidFetchSessionEpoch.Code {
			t.Errorf("epoch %d instead of %d: error code %d", epoch, good.epoch, code)
		}
	}
	*s = good
	s.id++
	if _, code := s.ask(0, nil); code != kerr.FetchSessionIDNotFound.Code {
		t.Errorf("unknown session: error code %d", code)
	}
	*s = good
	b.Produce(t, s.topic, 0, []byte("after"))
	told, code := s.ask(10_000, map[int32]int64{1: 2})
	if code != 0 || told[0] != 2 {
		t.Errorf("the session goes on: error code %d, %v", code, told)
	}
	old := *s
	s.epoch = -1 // close the session, read without one
	told, code = s.ask(0, map[int32]int64{0: 0})
	s.expect("without a session", told, map[int32]int64{0: 2})
	if code != 0 || s.id != 0 {
		t.Errorf("closing the session: error code %d, session %d", code, s.id)
	}
	*s = old
	if _, code := s.ask(0, nil); code != kerr.FetchSessionIDNotFound.Code {
		t.Errorf("closed session: error code %d", code)
	}
}

// TestClosingAFetchSessionDoesNotWaitForAParkedPoll: a client that gave up a long poll closes its
// session on another connection, and gets its answer while the poll is still parked.
func TestClosingAFetchSessionDoesNotWaitForAParkedPoll(t *testing.T) {
	b := sharedBroker(t)
	const topic = "sessions-parked"
	b.CreateTopic(t, topic, 1, nil)
	s := &session{t: t, raw: b.Dial(t), topic: topic}
	s.ask(0, map[int32]int64{0: 0})
	other := *s
	other.raw = b.Dial(t)
	for parked := false; !parked; {
		s.park()
		// The broker lets one request at a time into a session: the same epoch is refused to another
		// connection once the poll has it. If the probe was first, the poll is refused instead.
		other.epoch = s.epoch
		_, code := other.ask(0, nil)
		if parked = code == kerr.InvalidFetchSessionEpoch.Code; !parked {
			s.epoch++
			if _, err := s.raw.Receive(); err != nil {
				t.Fatal(err)
			}
		}
	}
	other.epoch = -1
	if _, code := other.ask(0, nil); code != 0 {
		t.Errorf("closing the session: error code %d", code)
	}
}

// park sends a poll that waits for ten minutes, and does not wait for its answer.
func (s *session) park() {
	s.t.Helper()
	poll := kmsg.NewPtrFetchRequest()
	poll.MaxWaitMillis, poll.MinBytes, poll.MaxBytes, poll.SessionID, poll.SessionEpoch = 600_000, 1, 1<<20, s.id, s.epoch
	poll.SetVersion(12)
	if err := s.raw.Send(kmsg.NewRequestFormatter().AppendRequest(nil, poll, 1)); err != nil {
		s.t.Fatal(err)
	}
}
