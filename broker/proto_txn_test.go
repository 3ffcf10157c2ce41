package broker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/record"
	"varve/broker/txn"
)

// protoTxn is one transactional producer over a plain connection.
type protoTxn struct {
	c     *protoConn
	id    string
	pid   int64
	epoch int16
}

// txnProducer begins a producer of a transactional id, as clients do: coordinator first.
func (c *protoConn) txnProducer(id string) *protoTxn {
	c.t.Helper()
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.Version, find.CoordinatorType, find.CoordinatorKeys = 6, 1, []string{id}
	if got := ask[*kmsg.FindCoordinatorResponse](c, find).Coordinators; len(got) != 1 || got[0].ErrorCode != 0 {
		c.t.Fatalf("no coordinator: %+v", got)
	}
	p := &protoTxn{c: c, id: id, pid: -1, epoch: -1}
	var resp *kmsg.InitProducerIDResponse
	eventually(c.t, "the coordinator is loaded", func() bool {
		resp = p.init(5, -1, -1, 60_000)
		return resp.ErrorCode != kerr.CoordinatorLoadInProgress.Code && resp.ErrorCode != kerr.NotCoordinator.Code &&
			resp.ErrorCode != kerr.ConcurrentTransactions.Code
	})
	if resp.ErrorCode != 0 {
		c.t.Fatalf("InitProducerID: code %d", resp.ErrorCode)
	}
	p.pid, p.epoch = resp.ProducerID, resp.ProducerEpoch
	return p
}

func (p *protoTxn) init(version int16, pid int64, epoch int16, timeout int32) *kmsg.InitProducerIDResponse {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version, req.TransactionalID, req.TransactionTimeoutMillis = version, kmsg.StringPtr(p.id), timeout
	req.ProducerID, req.ProducerEpoch = pid, epoch
	return ask[*kmsg.InitProducerIDResponse](p.c, req)
}

func (p *protoTxn) add(version int16, topic string, parts ...int32) (codes []int16) {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch = version, p.id, p.pid, p.epoch
	req.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: topic, Partitions: parts}}
	for _, op := range ask[*kmsg.AddPartitionsToTxnResponse](p.c, req).Topics[0].Partitions {
		codes = append(codes, op.ErrorCode)
	}
	return codes
}

func (p *protoTxn) addOffsets(version int16, group string) int16 {
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = version, p.id, p.pid, p.epoch, group
	return ask[*kmsg.AddOffsetsToTxnResponse](p.c, req).ErrorCode
}

func (p *protoTxn) end(version int16, commit bool) int16 {
	req := kmsg.NewPtrEndTxnRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = version, p.id, p.pid, p.epoch, commit
	resp := ask[*kmsg.EndTxnResponse](p.c, req)
	if version >= 5 && resp.ErrorCode == 0 {
		p.pid, p.epoch = resp.ProducerID, resp.ProducerEpoch
	}
	return resp.ErrorCode
}

func (p *protoTxn) commitOffset(version int16, group, topic string, id [16]byte, offset int64) int16 {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = version, p.id, p.pid, p.epoch, group
	req.Generation = -1
	t := kmsg.NewTxnOffsetCommitRequestTopic()
	t.Topic, t.TopicID = topic, id
	part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	part.Offset = offset
	t.Partitions = append(t.Partitions, part)
	req.Topics = append(req.Topics, t)
	return ask[*kmsg.TxnOffsetCommitResponse](p.c, req).Topics[0].Partitions[0].ErrorCode
}

func (c *protoConn) committedOffset(group, topic string) int64 {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version, req.Group = 5, group
	req.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: topic, Partitions: []int32{0}}}
	return ask[*kmsg.OffsetFetchResponse](c, req).Topics[0].Partitions[0].Offset
}

func (p *protoTxn) batch(seq int32) []byte {
	b := record.NewBuilder(record.None)
	b.SetProducer(p.pid, p.epoch, seq)
	b.SetTransactional()
	b.Append(record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte("v")})
	batch, err := b.Build()
	if err != nil {
		p.c.t.Fatal(err)
	}
	return batch
}

func (p *protoTxn) produce(version int16, id [16]byte, part, seq int32) int16 {
	req := produceOf(version, -1, "t", id, map[int32][]byte{part: p.batch(seq)})
	if p.id != "" {
		req.TransactionID = kmsg.StringPtr(p.id)
	}
	return ask[*kmsg.ProduceResponse](p.c, req).Topics[0].Partitions[0].ErrorCode
}

type wantCode struct {
	what string
	got  int16
	want *kerr.Error
}

func checkCodes(t *testing.T, checks []wantCode) {
	t.Helper()
	for _, x := range checks {
		want := int16(0)
		if x.want != nil {
			want = x.want.Code
		}
		if x.got != want {
			t.Errorf("%s: %v, want %v", x.what, kerr.ErrorForCode(x.got), x.want)
		}
	}
}

func TestZombieGetsTheCodeThatItsVersionKnows(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	id := c.makeTopic("t", 2, nil)
	zombie := c.txnProducer("x")
	c.txnProducer("x")
	checkCodes(t, []wantCode{
		{"InitProducerID v3", zombie.init(3, zombie.pid, zombie.epoch+7, 1000).ErrorCode, kerr.InvalidProducerEpoch},
		{"InitProducerID v4", zombie.init(4, zombie.pid, zombie.epoch+7, 1000).ErrorCode, kerr.ProducerFenced},
		{"AddPartitionsToTxn v1", zombie.add(1, "t", 0)[0], kerr.InvalidProducerEpoch},
		{"AddPartitionsToTxn v2", zombie.add(2, "t", 0)[0], kerr.ProducerFenced},
		{"AddOffsetsToTxn v1", zombie.addOffsetsReady(1), kerr.InvalidProducerEpoch},
		{"AddOffsetsToTxn v2", zombie.addOffsetsReady(2), kerr.ProducerFenced},
		{"EndTxn v1", zombie.end(1, true), kerr.InvalidProducerEpoch},
		{"EndTxn v2", zombie.end(2, true), kerr.ProducerFenced},
		{"EndTxn v5", zombie.end(5, true), kerr.ProducerFenced},
		{"Produce v9", zombie.produce(9, id, 0, 0), kerr.InvalidProducerEpoch},
		{"Produce v13", zombie.produce(13, id, 0, 0), kerr.InvalidProducerEpoch},
	})
}

// addOffsetsReady is addOffsets once the offsets topic is there.
func (p *protoTxn) addOffsetsReady(version int16) (code int16) {
	p.c.groupReady("g")
	return p.addOffsets(version, "g")
}

func (c *protoConn) groupReady(group string) {
	c.t.Helper()
	eventually(c.t, "the group coordinator is loaded", func() bool {
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.Version, find.CoordinatorKeys = 6, []string{group}
		if ask[*kmsg.FindCoordinatorResponse](c, find).Coordinators[0].ErrorCode != 0 {
			return false
		}
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Version, req.Group = 5, group
		return ask[*kmsg.OffsetFetchResponse](c, req).ErrorCode == 0
	})
}

func TestTransactionalRequestsThatDoNotFitAreRefused(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	id := c.makeTopic("t", 4, nil)
	p := c.txnProducer("x")
	nobody := &protoTxn{c: c, id: "nobody", pid: p.pid, epoch: p.epoch}
	nameless := &protoTxn{c: c, pid: p.pid, epoch: p.epoch}
	tooLong := int32(b.cfg.TransactionMaxTimeout/time.Millisecond) + 1
	checkCodes(t, []wantCode{
		{"an empty id", nameless.init(4, -1, -1, 1000).ErrorCode, kerr.InvalidRequest},
		{"no timeout", p.init(4, -1, -1, 0).ErrorCode, kerr.InvalidTransactionTimeout},
		{"a timeout over the limit", p.init(4, -1, -1, tooLong).ErrorCode, kerr.InvalidTransactionTimeout},
		{"an id without epoch", p.init(4, p.pid, -1, 1000).ErrorCode, kerr.InvalidRequest},
		{"a commit of nothing, v4", p.end(4, true), kerr.InvalidTxnState},
		{"a commit of nothing, v5", p.end(5, true), kerr.InvalidTxnState},
		{"an unknown id adds", nobody.add(3, "t", 0)[0], kerr.InvalidProducerIDMapping},
		{"an unknown id ends", nobody.end(3, true), kerr.InvalidProducerIDMapping},
		{"Produce of an unknown id", nobody.produce(12, id, 0, 0), kerr.InvalidProducerIDMapping},
		{"Produce without id", nameless.produce(9, id, 0, 0), kerr.TransactionalIDAuthorizationFailed},
		{"Produce v9 without AddPartitions", p.produce(9, id, 0, 0), kerr.InvalidTxnState},
		{"Produce v11 without AddPartitions", p.produce(11, id, 0, 0), kerr.TransactionAbortable},
		{"Produce v12 adds the partition itself", p.produce(12, id, 0, 0), nil},
		{"Produce goes on", p.produce(9, id, 0, 1), nil},
		{"another partition", p.produce(11, id, 1, 0), kerr.TransactionAbortable},
	})
	if got := p.add(3, "t", 1, 9); !slices.Equal(got, []int16{kerr.OperationNotAttempted.Code, kerr.UnknownTopicOrPartition.Code}) {
		t.Errorf("one of two partitions is unknown: %v", got)
	}
	for _, topic := range []string{txn.Topic, offsetsTopic} {
		if got := p.add(3, topic, 0); got[0] != kerr.InvalidTopicException.Code {
			t.Errorf("%s: %v", topic, got)
		}
	}
	checkCodes(t, []wantCode{{"the commit", p.end(5, true), nil}})
	if p.epoch != 1 {
		t.Errorf("EndTxn v5 left epoch %d", p.epoch)
	}
	if l, h := replicaOf(t, b, "t", 0), replicaOf(t, b, "t", 0).Bounds(); h.HW < 2 || l.HW() < 2 {
		t.Errorf("bounds %+v", h)
	}
}

func TestBatchedAddPartitionsVerifiesAndAdds(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	c.makeTopic("t", 3, nil)
	p := c.txnProducer("x")
	send := func(verify bool, parts ...int32) (codes []int16) {
		req := kmsg.NewPtrAddPartitionsToTxnRequest()
		req.Version = 5
		x := kmsg.NewAddPartitionsToTxnRequestTransaction()
		x.TransactionalID, x.ProducerID, x.ProducerEpoch, x.VerifyOnly = p.id, p.pid, p.epoch, verify
		x.Topics = []kmsg.AddPartitionsToTxnRequestTransactionTopic{{Topic: "t", Partitions: parts}}
		req.Transactions = append(req.Transactions, x)
		for _, part := range ask[*kmsg.AddPartitionsToTxnResponse](c, req).Transactions[0].Topics[0].Partitions {
			codes = append(codes, part.ErrorCode)
		}
		return codes
	}
	abortable := kerr.TransactionAbortable.Code
	for i, x := range []struct {
		verify bool
		parts  []int32
		want   []int16
	}{
		{true, []int32{0, 1}, []int16{abortable, abortable}},
		{false, []int32{1}, []int16{0}},
		{true, []int32{0, 1}, []int16{abortable, 0}},
	} {
		if got := send(x.verify, x.parts...); !slices.Equal(got, x.want) {
			t.Errorf("request %d: %v, want %v", i, got, x.want)
		}
	}
}

func TestOffsetsOfATransactionCountFromItsCommit(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	id := c.makeTopic("t", 1, nil)
	p := c.txnProducer("x")
	// Before anybody asked for the group's coordinator: the topic is made on the way.
	checkCodes(t, []wantCode{{"the first request about groups", p.addOffsets(3, "g"), nil}, {"abort", p.end(3, false), nil}})
	c.groupReady("g")
	checkCodes(t, []wantCode{
		{"v3 without AddOffsetsToTxn", p.commitOffset(3, "g", "t", id, 5), kerr.InvalidTxnState},
		{"v4 without AddOffsetsToTxn", p.commitOffset(4, "g", "t", id, 5), kerr.TransactionAbortable},
		{"AddOffsetsToTxn", p.addOffsets(3, "g"), nil},
		{"v3", p.commitOffset(3, "g", "t", id, 5), nil},
	})
	if got := c.committedOffset("g", "t"); got != -1 {
		t.Errorf("offset %d of an open transaction is visible", got)
	}
	checkCodes(t, []wantCode{{"abort", p.end(3, false), nil}})
	checkCodes(t, []wantCode{
		{"v5 adds by itself", p.commitOffset(5, "g", "t", id, 7), nil},
		{"commit", p.end(5, true), nil},
	})
	eventually(t, "the committed offset is visible", func() bool { return c.committedOffset("g", "t") == 7 })
	checkCodes(t, []wantCode{
		{"v6 names topics by id", p.commitOffset(6, "g", "", id, 9), nil},
		{"an unknown id", p.commitOffset(6, "g", "", [16]byte{1, 2}, 9), kerr.UnknownTopicID},
		{"an unknown topic", p.commitOffset(5, "g", "none", id, 9), kerr.UnknownTopicOrPartition},
		{"commit", p.end(5, true), nil},
	})
	eventually(t, "the next one too", func() bool { return c.committedOffset("g", "t") == 9 })
	old := *p
	old.epoch--
	checkCodes(t, []wantCode{{"an old epoch", old.commitOffset(5, "g", "t", id, 11), kerr.InvalidProducerEpoch}})
}

func TestTransactionsAreDescribedAndListed(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	id := c.makeTopic("t", 2, nil)
	p, idle := c.txnProducer("open"), c.txnProducer("idle")
	checkCodes(t, []wantCode{{"produce", p.produce(12, id, 1, 0), nil}})

	dt := kmsg.NewPtrDescribeTransactionsRequest()
	dt.TransactionalIDs = []string{"open", "idle", "none", ""}
	got := ask[*kmsg.DescribeTransactionsResponse](c, dt).TransactionStates
	if s := got[0]; s.State != "Ongoing" || s.ProducerID != p.pid || s.ProducerEpoch != p.epoch || s.TimeoutMillis != 60_000 ||
		s.StartTimestamp <= 0 || fmt.Sprint(s.Topics[0].Topic, s.Topics[0].Partitions) != "t[1]" {
		t.Errorf("open: %+v", s)
	}
	if s := got[1]; s.State != "Empty" || s.ProducerID != idle.pid || len(s.Topics) != 0 {
		t.Errorf("idle: %+v", s)
	}
	checkCodes(t, []wantCode{
		{"an unknown id", got[2].ErrorCode, kerr.TransactionalIDNotFound}, {"no id", got[3].ErrorCode, kerr.InvalidRequest},
	})

	list := func(change func(*kmsg.ListTransactionsRequest)) (ids []string) {
		req := kmsg.NewPtrListTransactionsRequest()
		req.Version, req.DurationFilterMillis = 2, -1
		change(req)
		resp := ask[*kmsg.ListTransactionsResponse](c, req)
		for _, s := range resp.TransactionStates {
			ids = append(ids, s.TransactionalID)
		}
		slices.Sort(ids)
		for _, name := range resp.UnknownStateFilters {
			ids = append(ids, "?"+name)
		}
		if resp.ErrorCode != 0 {
			ids = append(ids, kerr.ErrorForCode(resp.ErrorCode).Error())
		}
		return ids
	}
	for want, change := range map[string]func(*kmsg.ListTransactionsRequest){
		"[idle open]": func(*kmsg.ListTransactionsRequest) {},
		"[open]":      func(r *kmsg.ListTransactionsRequest) { r.StateFilters = []string{"Ongoing"} },
		"[?Nonsense]": func(r *kmsg.ListTransactionsRequest) { r.StateFilters = []string{"Nonsense"} },
		"[idle]":      func(r *kmsg.ListTransactionsRequest) { r.ProducerIDFilters = []int64{idle.pid} },
		"[]":          func(r *kmsg.ListTransactionsRequest) { r.DurationFilterMillis = 3_600_000 },
	} {
		if got := fmt.Sprint(list(change)); got != want {
			t.Errorf("listed %s, want %s", got, want)
		}
	}
	if got := fmt.Sprint(list(func(r *kmsg.ListTransactionsRequest) { r.TransactionalIDPattern = kmsg.StringPtr("o.*") })); got != "[open]" {
		t.Errorf("by pattern: %s", got)
	}
	if got := list(func(r *kmsg.ListTransactionsRequest) { r.TransactionalIDPattern = kmsg.StringPtr("(") }); len(got) != 1 {
		t.Errorf("a bad pattern: %v", got)
	}
}

// TestHangingTransactionIsEndedByAnAdministrator is what kafka-transactions does: find it with
// DescribeProducers, end it with WriteTxnMarkers.
func TestHangingTransactionIsEndedByAnAdministrator(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	id := c.makeTopic("t", 1, nil)
	p := c.txnProducer("x")
	checkCodes(t, []wantCode{{"produce", p.produce(12, id, 0, 0), nil}})
	describe := func() kmsg.DescribeProducersResponseTopicPartition {
		req := kmsg.NewPtrDescribeProducersRequest()
		req.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: "t", Partitions: []int32{0, 5}}}
		parts := ask[*kmsg.DescribeProducersResponse](c, req).Topics[0].Partitions
		if parts[1].ErrorCode != kerr.UnknownTopicOrPartition.Code {
			t.Errorf("an unknown partition: %+v", parts[1])
		}
		return parts[0]
	}
	got := describe().ActiveProducers
	if len(got) != 1 || got[0].ProducerID != p.pid || got[0].CurrentTxnStartOffset != 0 || got[0].CoordinatorEpoch != -1 || got[0].LastSequence != 0 {
		t.Fatalf("%+v", got)
	}
	mark := func(epoch int16, coordinator int32, topic string) int16 {
		req := kmsg.NewPtrWriteTxnMarkersRequest()
		req.Version = 1
		m := kmsg.NewWriteTxnMarkersRequestMarker()
		m.ProducerID, m.ProducerEpoch, m.CoordinatorEpoch = p.pid, epoch, coordinator
		m.Topics = []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: topic, Partitions: []int32{0}}}
		req.Markers = append(req.Markers, m)
		return ask[*kmsg.WriteTxnMarkersResponse](c, req).Markers[0].Topics[0].Partitions[0].ErrorCode
	}
	checkCodes(t, []wantCode{
		{"an unknown topic", mark(0, 9, "none"), kerr.UnknownTopicOrPartition},
		{"the coordinators' own topic", mark(0, 9, txn.Topic), kerr.InvalidTopicException},
		{"a negative epoch", mark(-1, 9, "t"), kerr.InvalidRequest},
		{"the marker", mark(p.epoch, 9, "t"), nil},
		{"an older coordinator", mark(p.epoch, 8, "t"), kerr.TransactionCoordinatorFenced},
	})
	got = describe().ActiveProducers
	if len(got) != 1 || got[0].CurrentTxnStartOffset != -1 || got[0].CoordinatorEpoch != 9 {
		t.Fatalf("%+v", got)
	}
}
