package broker

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// quotaOf makes a request that sets one quota of an entity, given as type and name in turn; the
// name "*" is the default.
func quotaOf(key string, value float64, entity ...string) *kmsg.AlterClientQuotasRequest {
	req := kmsg.NewPtrAlterClientQuotasRequest()
	req.Version = 1
	e := kmsg.NewAlterClientQuotasRequestEntry()
	for i := 0; i < len(entity); i += 2 {
		part := kmsg.NewAlterClientQuotasRequestEntryEntity()
		part.Type = entity[i]
		if entity[i+1] != "*" {
			part.Name = kmsg.StringPtr(entity[i+1])
		}
		e.Entity = append(e.Entity, part)
	}
	e.Ops = append(e.Ops, kmsg.AlterClientQuotasRequestEntryOp{Key: key, Value: value, Remove: value == 0})
	req.Entries = append(req.Entries, e)
	return req
}

func (c *protoConn) mustQuota(key string, value float64, entity ...string) {
	c.t.Helper()
	r := ask[*kmsg.AlterClientQuotasResponse](c, quotaOf(key, value, entity...))
	if e := r.Entries[0]; e.ErrorCode != 0 {
		c.t.Fatalf("%s of %v: code %d %s", key, entity, e.ErrorCode, *e.ErrorMessage)
	}
}

func (c *protoConn) quotas(strict bool, components ...kmsg.DescribeClientQuotasRequestComponent) (int16, []kmsg.DescribeClientQuotasResponseEntry) {
	c.t.Helper()
	req := kmsg.NewPtrDescribeClientQuotasRequest()
	req.Version, req.Strict, req.Components = 1, strict, components
	r := ask[*kmsg.DescribeClientQuotasResponse](c, req)
	if (r.ErrorCode != 0) != (r.ErrorMessage != nil) {
		c.t.Errorf("code %d, message %v", r.ErrorCode, r.ErrorMessage)
	}
	return r.ErrorCode, r.Entries
}

func exactly(kind, name string) kmsg.DescribeClientQuotasRequestComponent {
	return kmsg.DescribeClientQuotasRequestComponent{EntityType: kind, Match: &name}
}

func matching(kind string, match kmsg.QuotasMatchType) kmsg.DescribeClientQuotasRequestComponent {
	return kmsg.DescribeClientQuotasRequestComponent{EntityType: kind, MatchType: match}
}

func TestQuotasAreKeptListedAndRemoved(t *testing.T) {
	cfg := testConfig(t, t.TempDir())
	b := openBroker(t, cfg)
	c := dialProto(t, b)
	c.mustQuota("producer_byte_rate", 1e6, "user", "alice", "client-id", "app")
	c.mustQuota("request_percentage", 12.5, "user", "alice", "client-id", "*")
	c.mustQuota("consumer_byte_rate", 2e6, "user", "*")
	c.mustQuota("controller_mutation_rate", 5, "client-id", "app")
	c.mustQuota("connection_creation_rate", 50, "ip", "10.1.2.3")
	dry := quotaOf("producer_byte_rate", 1, "user", "bob")
	dry.ValidateOnly = true
	if r := ask[*kmsg.AlterClientQuotasResponse](c, dry); r.Entries[0].ErrorCode != 0 {
		t.Error("a good change was not valid")
	}
	closeBroker(t, b)

	b = openBroker(t, cfg) // they outlive a restart
	defer closeBroker(t, b)
	c = dialProto(t, b)
	for what, x := range map[string]struct {
		strict bool
		filter []kmsg.DescribeClientQuotasRequestComponent
		want   int
	}{
		"everything":             {false, nil, 5},
		"everything, strict":     {true, nil, 0},
		"a user":                 {false, []kmsg.DescribeClientQuotasRequestComponent{exactly("user", "alice")}, 2},
		"a user, strict":         {true, []kmsg.DescribeClientQuotasRequestComponent{exactly("user", "alice")}, 0},
		"the default user":       {false, []kmsg.DescribeClientQuotasRequestComponent{matching("user", kmsg.QuotasMatchTypeDefault)}, 1},
		"any user":               {false, []kmsg.DescribeClientQuotasRequestComponent{matching("user", kmsg.QuotasMatchTypeAny)}, 3},
		"any client id, strict":  {true, []kmsg.DescribeClientQuotasRequestComponent{matching("client-id", kmsg.QuotasMatchTypeAny)}, 1},
		"a user and the default": {true, []kmsg.DescribeClientQuotasRequestComponent{exactly("user", "alice"), matching("client-id", kmsg.QuotasMatchTypeDefault)}, 1},
		"an address":             {true, []kmsg.DescribeClientQuotasRequestComponent{exactly("ip", "10.1.2.3")}, 1},
	} {
		if code, got := c.quotas(x.strict, x.filter...); code != 0 || len(got) != x.want {
			t.Errorf("%s: code %d, %+v", what, code, got)
		}
	}
	_, got := c.quotas(true, exactly("user", "alice"), exactly("client-id", "app"))
	if len(got) != 1 || len(got[0].Entity) != 2 || len(got[0].Values) != 1 || got[0].Values[0].Key != "producer_byte_rate" || got[0].Values[0].Value != 1e6 {
		t.Errorf("%+v", got)
	}
	c.mustQuota("producer_byte_rate", 0, "user", "alice", "client-id", "app")
	if _, left := c.quotas(false); len(left) != 4 {
		t.Errorf("after the removal: %+v", left)
	}
}

func TestBadQuotasAreRefusedWithAMessageThatNamesTheFault(t *testing.T) {
	c := dialProto(t, protoBroker(t, nil))
	long := strings.Repeat("x", 2000)
	for what, x := range map[string]struct {
		req  *kmsg.AlterClientQuotasRequest
		says string
	}{
		"below zero":        {quotaOf("producer_byte_rate", -1, "user", "u"), "above 0"},
		"not a number":      {quotaOf("request_percentage", math.NaN(), "user", "u"), "above 0"},
		"without end":       {quotaOf("request_percentage", math.Inf(1), "user", "u"), "at most"},
		"a part of a byte":  {quotaOf("consumer_byte_rate", 1.5, "user", "u"), "whole number"},
		"too large":         {quotaOf("producer_byte_rate", 1e300, "user", "u"), "at most"},
		"unknown key":       {quotaOf("bytes", 1, "user", "u"), `"bytes" is not known`},
		"unknown entity":    {quotaOf("producer_byte_rate", 1, "group", "g"), `"group" is not known`},
		"no entity":         {quotaOf("producer_byte_rate", 1), "empty"},
		"an empty name":     {quotaOf("producer_byte_rate", 1, "user", ""), "empty"},
		"a long name":       {quotaOf("producer_byte_rate", 1, "user", long), "at most 1024"},
		"a part twice":      {quotaOf("producer_byte_rate", 1, "user", "a", "user", "b"), "two parts"},
		"ip and user":       {quotaOf("connection_creation_rate", 1, "ip", "::1", "user", "b"), "cannot be combined"},
		"no address":        {quotaOf("connection_creation_rate", 1, "ip", "localhost"), "not an IP address"},
		"quota of an ip":    {quotaOf("connection_creation_rate", 1, "user", "u"), "of an ip"},
		"quota of no ip":    {quotaOf("producer_byte_rate", 1, "ip", "::1"), "not of an ip"},
		"a half connection": {quotaOf("connection_creation_rate", 0.5, "ip", "::1"), "whole number"},
	} {
		for _, dry := range []bool{true, false} {
			x.req.ValidateOnly = dry
			e := ask[*kmsg.AlterClientQuotasResponse](c, x.req).Entries[0]
			if e.ErrorCode != kerr.InvalidRequest.Code || e.ErrorMessage == nil || !strings.Contains(*e.ErrorMessage, x.says) || len(*e.ErrorMessage) > 500 {
				t.Errorf("%s: code %d, message %v", what, e.ErrorCode, e.ErrorMessage)
			}
		}
	}
	twice := quotaOf("producer_byte_rate", 1, "user", "u")
	twice.Entries = append(twice.Entries, twice.Entries[0])
	if r := ask[*kmsg.AlterClientQuotasResponse](c, twice); r.Entries[1].ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("an entity twice: %+v", r.Entries)
	}
	for what, x := range map[string]struct {
		filter []kmsg.DescribeClientQuotasRequestComponent
		want   int16
	}{
		"no type":       {[]kmsg.DescribeClientQuotasRequestComponent{matching("", 2)}, kerr.InvalidRequest.Code},
		"unknown type":  {[]kmsg.DescribeClientQuotasRequestComponent{matching("group", 2)}, kerr.UnsupportedVersion.Code},
		"unknown match": {[]kmsg.DescribeClientQuotasRequestComponent{matching("user", 7)}, kerr.InvalidRequest.Code},
		"exact nothing": {[]kmsg.DescribeClientQuotasRequestComponent{matching("user", 0)}, kerr.InvalidRequest.Code},
		"twice":         {[]kmsg.DescribeClientQuotasRequestComponent{matching("user", 2), exactly("user", "u")}, kerr.InvalidRequest.Code},
		"ip and user":   {[]kmsg.DescribeClientQuotasRequestComponent{matching("user", 2), matching("ip", 2)}, kerr.InvalidRequest.Code},
	} {
		if code, _ := c.quotas(false, x.filter...); code != x.want {
			t.Errorf("filter with %s: code %d, want %d", what, code, x.want)
		}
	}
}

// tightQuotas makes the window one second, so that little data is over a quota.
func tightQuotas(c *Config) { c.QuotaWindows, c.QuotaWindowSeconds = 2, 1 }

func TestAProducerOverItsQuotaIsToldToWaitAndIsNotReadMeanwhile(t *testing.T) {
	b := protoBroker(t, tightQuotas)
	admin, c := dialProto(t, b), dialProto(t, b)
	id := admin.makeTopic("t", 1, nil)
	admin.mustQuota("producer_byte_rate", 10_000, "client-id", "*")
	produce := func(acks int16) int32 {
		t.Helper()
		r := ask[*kmsg.ProduceResponse](c, produceOf(13, acks, "t", id, map[int32][]byte{0: batchOf(t, 1, 14_000)}))
		if code := r.Topics[0].Partitions[0].ErrorCode; code != 0 {
			t.Fatalf("code %d", code)
		}
		return r.ThrottleMillis
	}
	start := time.Now()
	first := produce(1)
	if first < 300 || first > 1000 { // 14 kB at 10 kB/s, one second is free
		t.Errorf("told to wait %d ms", first)
	}
	second := produce(-1) // sent at once by a client that does not listen
	if waited := time.Since(start); waited < time.Duration(first)*time.Millisecond {
		t.Errorf("the next request was read after %v, not after %d ms", waited, first)
	}
	if second < 300 { // whatever time has passed: a batch is more than a window
		t.Errorf("the second time told to wait %d ms", second)
	}
	admin.mustQuota("producer_byte_rate", 0, "client-id", "*")
	other := dialProto(t, b)
	if r := ask[*kmsg.ProduceResponse](other, produceOf(13, 1, "t", id, map[int32][]byte{0: batchOf(t, 1, 14_000)})); r.ThrottleMillis != 0 {
		t.Errorf("without a quota told to wait %d ms", r.ThrottleMillis)
	}
}

func TestAConsumerGetsAtMostAWindowOfItsQuotaAtOnce(t *testing.T) {
	b := protoBroker(t, tightQuotas)
	c := dialProto(t, b)
	id := c.makeTopic("t", 1, nil)
	for range 20 {
		c.mustProduce("t", 0, batchOf(t, 1, 5_000))
	}
	fetch := func(c *protoConn) *kmsg.FetchResponse {
		req := fetchOf(13, 0, -1, "t", 0, 0)
		req.Topics[0].TopicID = id
		return ask[*kmsg.FetchResponse](c, req)
	}
	if r := fetch(c); r.ThrottleMillis != 0 || len(fetched(r)[0].RecordBatches) < 100_000 {
		t.Fatalf("without a quota: throttle %d, %d bytes", r.ThrottleMillis, len(fetched(r)[0].RecordBatches))
	}
	c.mustQuota("consumer_byte_rate", 12_000, "user", "ANONYMOUS", "client-id", "test")
	if n := len(fetched(fetch(c))[0].RecordBatches); n < 5_000 || n > 12_000 {
		t.Errorf("with a quota of 12 kB/s one answer has %d bytes", n)
	}
	// A window is less than one batch: whatever time passes between them, each answer is over it.
	c.mustQuota("consumer_byte_rate", 2_000, "user", "ANONYMOUS", "client-id", "test")
	for range 2 { // connections share the quota, and one that must wait is not read
		if r := fetch(dialProto(t, b)); len(fetched(r)[0].RecordBatches) < 5_000 || len(fetched(r)[0].RecordBatches) > 6_000 || r.ThrottleMillis < 1000 {
			t.Errorf("%d bytes, throttle %d ms", len(fetched(r)[0].RecordBatches), r.ThrottleMillis)
		}
	}
}

func TestRequestTimeAndMutationsHaveQuotas(t *testing.T) {
	b := protoBroker(t, tightQuotas)
	dialProto(t, b).mustQuota("controller_mutation_rate", 0.01, "user", "*")
	make := func(version int16, name string) (int16, int32) {
		req := createOf(name, 1, nil)
		req.Version = version
		r := ask[*kmsg.CreateTopicsResponse](dialProto(t, b), req) // a connection that must wait is not read
		return r.Topics[0].ErrorCode, r.ThrottleMillis
	}
	if code, wait := make(7, "a"); code != 0 || wait != 0 {
		t.Fatalf("within the quota: code %d, wait %d", code, wait)
	}
	code, wait := make(7, "b") // a partition is owed for the next 99 seconds
	if code != kerr.ThrottlingQuotaExceeded.Code || wait < 1000 || b.set.ByName("b") != nil {
		t.Errorf("over the quota: code %d, wait %d", code, wait)
	}
	if code, wait = make(5, "c"); code != 0 || wait < 1000 { // older clients only wait
		t.Errorf("an older client: code %d, wait %d", code, wait)
	}
	other := dialProto(t, b)
	other.mustQuota("controller_mutation_rate", 0, "user", "*")
	other.mustQuota("request_percentage", 1e-9, "client-id", "test")
	probe := kmsg.NewPtrMetadataRequest()
	probe.Version = 9
	if r := ask[*kmsg.MetadataResponse](other, probe); r.ThrottleMillis < 1 || r.ThrottleMillis > 1000 {
		t.Errorf("Metadata is told to wait %d ms", r.ThrottleMillis)
	}
}

func TestAnAddressThatConnectsFasterThanItsQuotaIsCutOff(t *testing.T) {
	b := protoBroker(t, tightQuotas)
	c := dialProto(t, b)
	c.mustQuota("connection_creation_rate", 1, "ip", "*")
	var burst []*protoConn
	for range 20 { // they wait in the kernel and are accepted one after another
		burst = append(burst, dialProto(t, b))
	}
	cut := 0
	for _, again := range burst {
		probe := kmsg.NewPtrApiVersionsRequest()
		again.send(probe)
		if _, err := again.tryReceive(probe); err != nil {
			cut++
		}
	}
	if cut == 0 {
		t.Error("all of 20 connections at once were served at one a second")
	}
}
