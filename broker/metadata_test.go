package broker

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/internal/vfs"
	"varve/broker/meta"
	"varve/broker/partition"
)

func TestACommitTouchesItsPartitionAlone(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	const partitions = 300
	id := meta.TopicID(c.makeTopic("t", partitions, nil))
	c.makeTopic("other", 1, nil)
	im := b.node.Image()
	for _, x := range []struct {
		what string
		d    meta.Delta
		want int // partitions asked for
	}{
		{"one commit", meta.Delta{Partitions: []meta.PartitionKey{{TopicID: id, Partition: 17}}}, 1},
		{"three", meta.Delta{Partitions: []meta.PartitionKey{{TopicID: id, Partition: 1}, {TopicID: id, Partition: 7}, {TopicID: id, Partition: 299}}}, 3},
		{"a commit and the topic's configs", meta.Delta{TopicsChanged: []meta.TopicID{id}, Partitions: []meta.PartitionKey{{TopicID: id, Partition: 1}}}, partitions},
		{"a snapshot", meta.Delta{Reset: true}, partitions + 1},
	} {
		asked := map[int32]int{}
		updates := b.updates(im, &x.d)
		for i := range updates {
			assign := updates[i].Assign
			updates[i].Assign = func(p int32) (partition.Assignment, bool) {
				if updates[i].Name == "t" {
					asked[p]++
				} else {
					asked[-1]++
				}
				return assign(p)
			}
		}
		b.set.Apply(updates, nil)
		if len(asked) != x.want {
			t.Errorf("%s: %d partitions looked at, want %d", x.what, len(asked), x.want)
		}
		for _, p := range x.d.Partitions {
			if asked[p.Partition] == 0 {
				t.Errorf("%s: partition %d was not applied", x.what, p.Partition)
			}
		}
	}
}

func TestLimitsOfABrokerChangeWhileItRuns(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	broker, set := kmsg.ConfigResourceTypeBroker, kmsg.IncrementalAlterConfigOpSet
	change := func(key string, op kmsg.IncrementalAlterConfigOp, value string) {
		t.Helper()
		if out := ask[*kmsg.IncrementalAlterConfigsResponse](c, alterOf(broker, "1", key, op, &value)).Resources[0]; out.ErrorCode != 0 {
			t.Fatalf("%s=%s: code %d %v", key, value, out.ErrorCode, *out.ErrorMessage)
		}
	}
	change("remote.log.manager.copy.max.bytes.per.second", set, "1000000")
	change("remote.log.manager.fetch.max.bytes.per.second", set, "2000000")
	if up, read := b.tier.Rates(); up != 1_000_000 || read != 2_000_000 {
		t.Errorf("rates %d and %d", up, read)
	}
	change("remote.log.manager.copy.max.bytes.per.second", kmsg.IncrementalAlterConfigOpDelete, "")
	if up, read := b.tier.Rates(); up != 0 || read != 2_000_000 {
		t.Errorf("rates %d and %d after one is back at its default", up, read)
	}
	change("max.connections.per.ip", set, "1")
	refused := dialProto(t, b)
	req := kmsg.NewPtrApiVersionsRequest()
	refused.send(req)
	if _, err := refused.tryReceive(req); err == nil {
		t.Error("a second connection was served, one is allowed")
	}
	change("max.connections.per.ip", set, "2")
	ask[*kmsg.ApiVersionsResponse](dialProto(t, b), kmsg.NewPtrApiVersionsRequest())
}

func TestATopicsReadRateFollowsItsConfig(t *testing.T) {
	const key = "varve.tier.fetch.max.bytes.per.second"
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	rate := func(want int64) {
		t.Helper()
		if got := b.tier.TopicReadRate("t"); got != want {
			t.Errorf("rate %d, want %d", got, want)
		}
	}
	c.makeTopic("t", 1, map[string]string{key: "5000000"})
	rate(5_000_000)
	for _, x := range []struct {
		op    kmsg.IncrementalAlterConfigOp
		value string
		want  int64
	}{
		{kmsg.IncrementalAlterConfigOpSet, "7000000", 7_000_000},
		{kmsg.IncrementalAlterConfigOpDelete, "", 0},
		{kmsg.IncrementalAlterConfigOpSet, "8000000", 8_000_000},
	} {
		ask[*kmsg.IncrementalAlterConfigsResponse](c, alterOf(kmsg.ConfigResourceTypeTopic, "t", key, x.op, &x.value))
		rate(x.want)
	}
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version, req.TopicNames, req.TimeoutMillis = 4, []string{"t"}, 10_000
	ask[*kmsg.DeleteTopicsResponse](c, req)
	rate(0)
}

// adminGet asks the HTTP API and decodes the answer.
func adminGet(t *testing.T, b *Broker, path string, out any) int {
	t.Helper()
	resp, err := http.Get("http://" + b.Addresses().Admin + "/api/v1/" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(text, out)
	}
	if err != nil {
		t.Fatalf("%s: %v: %s", path, err, text)
	}
	return resp.StatusCode
}

func TestAPartitionThatIsNoNumberIsABadRequest(t *testing.T) {
	b := protoBroker(t, nil)
	dialProto(t, b).makeTopic("t", 1, nil)
	for _, x := range []struct {
		path, code string
		status     int
	}{
		{"tier/topics/t/segments?partition=x", "bad_request", http.StatusBadRequest},
		{"tier/topics/t/segments?partition=99999999999", "bad_request", http.StatusBadRequest},
		{"tier/topics/t/partitions/1e3/explain", "bad_request", http.StatusBadRequest},
		{"tier/topics/t/segments?partition=7", "unknown_partition", http.StatusNotFound},
		{"tier/topics/t/segments?partition=-1", "unknown_partition", http.StatusNotFound},
	} {
		var got AdminError
		if status := adminGet(t, b, x.path, &got); status != x.status || got.Code != x.code || strings.Contains(got.Message, "\n") || got.Message == "" {
			t.Errorf("%s: status %d %+v", x.path, status, got)
		}
	}
}

func TestSegmentsNameTheFullKeyOfTheirObjects(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	c.makeTopic("t", 1, map[string]string{"remote.storage.enable": "true"})
	c.mustProduce("t", 0, batchOf(t, 3, 100))
	resp, err := http.Post("http://"+b.Addresses().Admin+"/api/v1/tier/topics/t/flush", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	var list TierSegments
	adminGet(t, b, "tier/topics/t/segments", &list)
	i := slices.IndexFunc(list.Segments, func(s TierSegment) bool { return s.Key != "" })
	if i < 0 {
		t.Fatalf("no uploaded segment: %+v", list)
	}
	info, err := b.store.store.Head(t.Context(), list.Segments[i].Key)
	if err != nil || info.Size != list.Segments[i].Stored {
		t.Errorf("the store has under %s: %+v, %v", list.Segments[i].Key, info, err)
	}
}

func TestWhatIsSpareOfTheDiskLiesAboveTheReserve(t *testing.T) {
	disk := vfs.NewMem()
	disk.SetFree(1000)
	b := &Broker{fs: disk, cfg: Config{DataDir: "data", DiskReserveBytes: 300}}
	spare := b.diskSpare()
	if got := spare(); got != 700 {
		t.Errorf("spare %d of 1000 free bytes above a reserve of 300", got)
	}
	disk.SetFree(100)
	if got := spare(); got != -200 {
		t.Errorf("spare %d of 100 free bytes", got)
	}
	// The disk cannot be asked: what it said last stands.
	broken := vfs.NewFault(disk, vfs.Rule{Op: vfs.OpUsage, Err: io.ErrUnexpectedEOF})
	b.fs = broken
	if got := spare(); got != -200 {
		t.Errorf("spare %d when the disk does not answer", got)
	}
}
