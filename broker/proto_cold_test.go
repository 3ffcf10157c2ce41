package broker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/record"
)

// coldTopic makes a topic of one partition whose first offsets lie in the bucket alone.
func coldTopic(t *testing.T, b *Broker, c *protoConn, name string) {
	t.Helper()
	c.makeTopic(name, 1, map[string]string{
		"segment.bytes": "1048576", "local.retention.bytes": "0", "remote.storage.enable": "true",
	})
	for range 40 {
		c.mustProduce(name, 0, batchOf(t, 1, 100_000))
	}
	rep := replicaOf(t, b, name, 0)
	eventually(t, "local segments went", func() bool { return rep.Segments()[0].Base > 20 })
}

// fetchBoth is a Fetch of partition 0 of several topics, in this order.
func fetchBoth(session, epoch int32, topics []string, offsets map[string]int64) *kmsg.FetchRequest {
	req := fetchOf(12, session, epoch, "")
	for _, name := range topics {
		one := fetchOf(12, session, epoch, name, offsets[name])
		req.Topics = append(req.Topics, one.Topics...)
	}
	return req
}

func recordsOf(resp *kmsg.FetchResponse, topic string) (got kmsg.FetchResponseTopicPartition, ok bool) {
	for _, rt := range resp.Topics {
		if rt.Topic == topic {
			return rt.Partitions[0], true
		}
	}
	return got, false
}

// TestAColdPartitionIsNotStarvedByHotOnesThatAlwaysFillTheAnswer reads a cold partition beside a hot one
// that always has more than an answer holds, without and with a session, in answers of many batches and of
// one.
func TestAColdPartitionIsNotStarvedByHotOnesThatAlwaysFillTheAnswer(t *testing.T) {
	b := protoBroker(t, func(c *Config) { c.LogRetentionCheck = 100 * time.Millisecond })
	c := dialProto(t, b)
	coldTopic(t, b, c, "cold")
	c.makeTopic("hot", 1, nil)
	for range 20 {
		c.mustProduce("hot", 0, batchOf(t, 1, 100_000))
	}
	for _, x := range []struct {
		session  int32
		maxBytes int32
	}{{-1, 500_000}, {-1, 1}, {0, 500_000}, {0, 1}} {
		at := map[string]int64{"hot": 0, "cold": 0}
		hot := 0
		session, epoch := int32(0), x.session
		eventually(t, "the cold partition goes on", func() bool {
			topics := []string{"hot", "cold"}
			if epoch > 0 {
				topics = []string{"hot"} // the hot one is named anew each time: it always has more
			}
			req := fetchBoth(session, epoch, topics, at)
			if epoch > 0 && at["cold"] > 0 {
				req.Topics = append(req.Topics, fetchOf(12, session, epoch, "cold", at["cold"]).Topics...)
			}
			req.MaxBytes = x.maxBytes
			resp := ask[*kmsg.FetchResponse](c, req)
			if resp.ErrorCode != 0 {
				t.Fatalf("session %d epoch %d: code %d", session, epoch, resp.ErrorCode)
			}
			if x.session == 0 {
				session, epoch = resp.SessionID, epoch+1
			}
			if got, ok := recordsOf(resp, "hot"); ok && len(got.RecordBatches) > 0 {
				hot++
			}
			got, _ := recordsOf(resp, "cold")
			for raw := got.RecordBatches; len(raw) > 0; {
				batch, err := record.Parse(raw)
				if err != nil || batch.BaseOffset() != at["cold"] {
					t.Fatalf("cold at %d: %v", at["cold"], err)
				}
				at["cold"], raw = batch.NextOffset(), raw[batch.Len():]
			}
			return at["cold"] >= 20 && hot > 0
		})
	}
}

// TestAFailedColdReadIsToldAfterAPauseAndHotPartitionsAtOnce takes the objects of a cold partition away. An
// answer at once would have its client ask again at once, for as long as the store is broken.
func TestAFailedColdReadIsToldAfterAPauseAndHotPartitionsAtOnce(t *testing.T) {
	b := protoBroker(t, func(c *Config) {
		c.LogRetentionCheck = 100 * time.Millisecond
		c.RemoteFetchMaxWait, c.TierCacheBytes = time.Minute, 0
	})
	c, p := dialProto(t, b), dialProto(t, b)
	coldTopic(t, b, c, "cold")
	c.makeTopic("hot", 1, nil)
	rep := replicaOf(t, b, "cold", 0)
	err := filepath.Walk(strings.TrimPrefix(b.cfg.Store, "dir://"), func(name string, info os.FileInfo, err error) error {
		if err == nil && strings.HasSuffix(name, ".seg.lz4") {
			return os.Remove(name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	offsets := map[string]int64{"cold": 0, "hot": 0}
	for i, session := range []int32{-1, 0} { // without and with
		offsets["cold"], offsets["hot"] = int64(i), int64(i)
		req := fetchBoth(0, session, []string{"cold", "hot"}, offsets)
		req.MaxWaitMillis = int32(protoTimeout.Milliseconds()) * 2
		c.send(req)
		eventually(t, "the cold read fails", func() bool {
			_, err := rep.ColdFault(int64(i))
			return err != nil
		})
		p.mustProduce("hot", 0, batchOf(t, 1, 10))
		resp := answer[*kmsg.FetchResponse](c, req)
		if got, _ := recordsOf(resp, "hot"); len(got.RecordBatches) == 0 {
			t.Errorf("session %d: the error was told before the hot partition had records: %+v", session, resp.Topics)
		}
		if got, _ := recordsOf(resp, "cold"); got.ErrorCode != kerr.KafkaStorageError.Code {
			t.Errorf("session %d: code %d for the failed read", session, got.ErrorCode)
		}
	}
	// With nothing else to tell the pause is the wait of the request.
	offsets["cold"], offsets["hot"] = 3, 2
	req := fetchBoth(0, -1, []string{"cold", "hot"}, offsets)
	req.MaxWaitMillis = 50
	if got, _ := recordsOf(ask[*kmsg.FetchResponse](c, req), "cold"); got.ErrorCode != kerr.KafkaStorageError.Code {
		t.Errorf("after the wait: code %d", got.ErrorCode)
	}
}
