package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"testing"
)

// The parts of the admin API's answers that tests look at, by the JSON names that it promises.

// TierTopic is GET /api/v1/tier/topics/{topic}.
type TierTopic struct {
	Kind       string          `json:"kind"`
	Topic      string          `json:"topic"`
	TopicID    string          `json:"topic_id"`
	Tiered     bool            `json:"tiered"`
	Partitions []TierPartition `json:"partitions"`
}

// TierPoint is an offset and the time of the record there, in milliseconds.
type TierPoint struct {
	Offset int64 `json:"offset"`
	Time   int64 `json:"time"`
}

// TierPartition is one partition over both tiers.
type TierPartition struct {
	Partition     int32     `json:"partition"`
	LeaderEpoch   int32     `json:"leader_epoch"`
	LogStart      TierPoint `json:"log_start"`
	LocalStart    TierPoint `json:"local_start"`
	TieredEnd     TierPoint `json:"tiered_end"`
	HighWatermark TierPoint `json:"high_watermark"`
	LastStable    int64     `json:"last_stable_offset"`
	LogEnd        int64     `json:"log_end"`
	LocalSegments int       `json:"local_segments"`
	Objects       int64     `json:"objects"`
	State         string    `json:"state"`
	Error         string    `json:"error"`
	Bytes         struct {
		HotOnly  int64 `json:"hot_only"`
		Both     int64 `json:"both"`
		ColdOnly int64 `json:"cold_only"`
		Stored   int64 `json:"stored"`
	} `json:"bytes"`
}

// TierSegments is GET /api/v1/tier/topics/{topic}/segments.
type TierSegments struct {
	Kind     string        `json:"kind"`
	Segments []TierSegment `json:"segments"`
}

// TierSegment is one sealed range, or the active segment.
type TierSegment struct {
	Partition int32  `json:"partition"`
	First     int64  `json:"first"`
	Next      int64  `json:"next"`
	Bytes     int64  `json:"bytes"`
	Stored    int64  `json:"stored"`
	Records   int64  `json:"records"`
	Where     string `json:"where"`
	Active    bool   `json:"active"`
	Key       string `json:"key"`
}

// TierStatus is GET /api/v1/tier/status.
type TierStatus struct {
	Kind       string           `json:"kind"`
	Store      string           `json:"store"`
	StoreState string           `json:"store_state"`
	Objects    int64            `json:"objects"`
	Errors     map[string]int64 `json:"errors"`
	Requests   struct {
		Put int64 `json:"put"`
		Get int64 `json:"get"`
	} `json:"requests"`
	Cache struct {
		Bytes  int64 `json:"bytes"`
		Hits   int64 `json:"hits"`
		Misses int64 `json:"misses"`
	} `json:"cache"`
}

// TierFlush is POST /api/v1/tier/topics/{topic}/flush.
type TierFlush struct {
	Kind       string `json:"kind"`
	Partitions []struct {
		Partition int32  `json:"partition"`
		Target    int64  `json:"target"`
		TieredEnd int64  `json:"tiered_end"`
		Done      bool   `json:"done"`
		Reason    string `json:"reason"`
	} `json:"partitions"`
}

// AdminError is the body of every answer that is not 2xx.
type AdminError struct {
	Status  int    `json:"-"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *AdminError) Error() string { return fmt.Sprintf("%d %s: %s", e.Status, e.Code, e.Message) }

// CallAdmin asks the admin API and decodes its answer into out; the error is an *AdminError if the
// broker told one.
func (b *Broker) CallAdmin(ctx context.Context, method, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, b.Admin+path, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		told := &AdminError{Status: resp.StatusCode}
		if err := json.Unmarshal(body, told); err != nil {
			return fmt.Errorf("%s %s: %s: %.200s", method, path, resp.Status, body)
		}
		return told
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("%s %s: %w: %.200s", method, path, err, body)
	}
	return nil
}

func (b *Broker) mustCall(t testing.TB, method, path string, out any) {
	t.Helper()
	if err := b.CallAdmin(t.Context(), method, path, out); err != nil {
		t.Fatalf("admin API: %v", err)
	}
}

// Tier is where the bytes of a topic are.
func (b *Broker) Tier(t testing.TB, topic string) TierTopic {
	t.Helper()
	var out TierTopic
	b.mustCall(t, http.MethodGet, "/api/v1/tier/topics/"+topic, &out)
	return out
}

// Segments are the ranges of a topic.
func (b *Broker) Segments(t testing.TB, topic string) []TierSegment {
	t.Helper()
	var out TierSegments
	b.mustCall(t, http.MethodGet, "/api/v1/tier/topics/"+topic+"/segments", &out)
	return out.Segments
}

// TierStatus is the state of the store as the broker sees it.
func (b *Broker) TierStatus(t testing.TB) TierStatus {
	t.Helper()
	var out TierStatus
	b.mustCall(t, http.MethodGet, "/api/v1/tier/status", &out)
	return out
}

// Flush seals the active segments of a topic and waits until everything is in the store.
func (b *Broker) Flush(t testing.TB, topic string) {
	t.Helper()
	var out TierFlush
	b.mustCall(t, http.MethodPost, fmt.Sprintf("/api/v1/tier/topics/%s/flush?wait_ms=%d", topic, Late.Milliseconds()), &out)
	for _, p := range out.Partitions {
		if !p.Done {
			t.Fatalf("flush %s/%d: tiered to %d of %d: %s", topic, p.Partition, p.TieredEnd, p.Target, p.Reason)
		}
	}
}

// GoCold flushes a topic and waits until local disk holds at most keep bytes of each partition,
// and nothing that the store does not hold. The topic's local.retention.bytes must say so.
func (b *Broker) GoCold(t testing.TB, topic string, keep int64) {
	t.Helper()
	b.Flush(t, topic)
	Eventually(t, Late, topic+" leaves the disk", func() error {
		for _, p := range b.Tier(t, topic).Partitions {
			if local := p.Bytes.HotOnly + p.Bytes.Both; local > keep || p.TieredEnd.Offset < p.HighWatermark.Offset {
				return fmt.Errorf("partition %d has %d bytes on disk, tiered to %d of %d: %s %s",
					p.Partition, local, p.TieredEnd.Offset, p.HighWatermark.Offset, p.State, p.Error)
			}
		}
		return nil
	})
}

// TopicObjects is the directory of a topic in the bucket.
func (b *Broker) TopicObjects(t testing.TB, topic string) string {
	t.Helper()
	return b.one(t, "*", "topics", topic+"."+b.Tier(t, topic).TopicID)
}

// Object is the file of the bucket that holds a tiered range.
func (b *Broker) Object(t testing.TB, topic string, s TierSegment) string {
	t.Helper()
	return filepath.Join(b.TopicObjects(t, topic), strconv.Itoa(int(s.Partition)), filepath.Base(s.Key))
}

func (b *Broker) one(t testing.TB, path ...string) string {
	t.Helper()
	pattern := filepath.Join(append([]string{b.Bucket}, path...)...)
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %d files, %v", pattern, len(found), err)
	}
	return found[0]
}
