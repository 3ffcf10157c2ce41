package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/integration/harness"
)

// manifestOf is what the test needs of GET .../manifest.
type manifestOf struct {
	Name     string `json:"name"`
	CRC      uint32 `json:"crc32c"`
	Manifest struct {
		LogStart  int64       `json:"logStart"`
		TieredEnd int64       `json:"tieredEnd"`
		Pages     []bucketRef `json:"pages"`
		Entries   []bucketRef `json:"entries"`
	} `json:"manifest"`
}

type bucketRef struct {
	Key   string `json:"key"`
	First int64  `json:"first"`
	Last  int64  `json:"last"`
	Size  int64  `json:"storedBytes"`
	CRC   uint32 `json:"crc32c"`
}

// bucket looks whether everything that the committed manifests name is in the bucket, whole, and
// covers [logStart, tieredEnd) without a hole; deep compares every checksum too.
func (c *crash) bucket(deep bool) {
	c.t.Helper()
	for _, at := range crashPlaces() {
		if at.topic == "ring" {
			continue
		}
		// A manifest that is replaced while its objects are looked at may lose some: what counts is
		// one that was current before and after.
		harness.Eventually(c.t, harness.Soon, "manifest of "+at.String(), func() error {
			m, err := manifest(c.t.Context(), c.b, at)
			if err != nil || m.Name == "" {
				return err
			}
			bad := checkManifest(c.b.Bucket, at, m, deep)
			if bad == nil {
				return nil
			}
			now, err := manifest(c.t.Context(), c.b, at)
			if err == nil && now.Name == m.Name {
				c.h.fault("%s: committed manifest %s: %v", at, m.Name, bad)
				return nil
			}
			return bad
		})
	}
}

func manifest(ctx context.Context, b *harness.Broker, at place) (m manifestOf, err error) {
	path := fmt.Sprintf("/api/v1/tier/topics/%s/partitions/%d/manifest", at.topic, at.partition)
	err = b.CallAdmin(ctx, http.MethodGet, path, &m)
	var told *harness.AdminError
	if errors.As(err, &told) && told.Code == "not_tiered" {
		return manifestOf{}, nil // nothing is tiered yet
	}
	return m, err
}

func checkManifest(bucket string, at place, m manifestOf, deep bool) error {
	dirs, err := filepath.Glob(filepath.Join(bucket, "*", "topics", at.topic+".*", fmt.Sprint(at.partition)))
	if err != nil || len(dirs) != 1 {
		return fmt.Errorf("directories of the partition: %v %v", dirs, err)
	}
	raw, err := os.ReadFile(filepath.Join(dirs[0], "manifest", m.Name))
	if err != nil {
		return err
	}
	if got := harness.CRC32C(raw); got != m.CRC {
		return fmt.Errorf("CRC32C %08x, committed %08x", got, m.CRC)
	}
	next := int64(-1)
	for _, e := range m.Manifest.Entries {
		if next >= 0 && e.First != next || next < 0 && e.First > m.Manifest.LogStart {
			return fmt.Errorf("hole before %s, which starts at %d: log start %d, covered to %d", e.Key, e.First, m.Manifest.LogStart, next)
		}
		next = e.Last + 1
		if e.Last < m.Manifest.LogStart {
			continue
		}
		if err := checkObject(filepath.Join(dirs[0], e.Key), e, deep); err != nil {
			return err
		}
	}
	if next >= 0 && next != m.Manifest.TieredEnd {
		return fmt.Errorf("entries end at %d, tiered end is %d", next, m.Manifest.TieredEnd)
	}
	return nil
}

func checkObject(path string, e bucketRef, deep bool) error {
	if !deep {
		info, err := os.Stat(path)
		if err == nil && info.Size() != e.Size {
			err = fmt.Errorf("%s has %d bytes, committed %d", e.Key, info.Size(), e.Size)
		}
		return err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if int64(len(raw)) != e.Size || harness.CRC32C(raw) != e.CRC {
		return fmt.Errorf("%s has %d bytes of CRC32C %08x, committed %d of %08x", e.Key, len(raw), harness.CRC32C(raw), e.Size, e.CRC)
	}
	return nil
}

// bounds asks for log start and high watermark of a partition.
func bounds(t testing.TB, b *harness.Broker, at place) (start, end int64) {
	t.Helper()
	cl := b.Client(t)
	defer cl.Close()
	var out [2]int64
	for i, when := range []int64{-2, -1} {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = at.partition, when
		topic := kmsg.NewListOffsetsRequestTopic()
		topic.Topic, topic.Partitions = at.topic, append(topic.Partitions, p)
		req := kmsg.NewPtrListOffsetsRequest()
		req.Topics = append(req.Topics, topic)
		shards := cl.RequestSharded(t.Context(), req)
		if shards[0].Err != nil {
			t.Fatalf("ListOffsets %s: %v", at, shards[0].Err)
		}
		got := shards[0].Resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
		if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
			t.Fatalf("ListOffsets %s: %v", at, err)
		}
		out[i] = got.Offset
	}
	return out[0], out[1]
}

// readAllOf reads a partition from its start to its end; again if retention took something
// meanwhile.
func readAllOf(t testing.TB, b *harness.Broker, at place) (start, end int64, ids []uint64) {
	t.Helper()
	for range 5 {
		var err error
		start, end = bounds(t, b, at)
		if ids, err = readRange(t, b, at, start, end); err == nil {
			return start, end, ids
		}
		if !errors.Is(err, kerr.OffsetOutOfRange) || !losesOld(at.topic) {
			t.Fatalf("read %s from %d to %d: %v after %d records", at, start, end, err, len(ids))
		}
	}
	t.Fatalf("%s: the log start does not come to rest", at)
	return 0, 0, nil
}

func readRange(t testing.TB, b *harness.Broker, at place, start, end int64) (ids []uint64, err error) {
	t.Helper()
	cl := b.Client(t, kgo.FetchMaxPartitionBytes(8<<20), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{at.topic: {at.partition: kgo.NewOffset().At(start)}}))
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Late)
	defer cancel()
	scratch := make([]byte, crashValue)
	for int64(len(ids)) < end-start && err == nil {
		fetches := cl.PollFetches(ctx)
		err = fetches.Err()
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset != start+int64(len(ids)) {
				t.Fatalf("%s: offset %d where %d was to come", at, r.Offset, start+int64(len(ids)))
			}
			if len(r.Value) != crashValue {
				t.Fatalf("%s@%d: value of %d bytes", at, r.Offset, len(r.Value))
			}
			id := binary.BigEndian.Uint64(r.Value)
			fillCrashRecord(scratch, at, id)
			if string(scratch) != string(r.Value) {
				t.Fatalf("%s@%d: the value says record %x and is not what was written", at, r.Offset, id)
			}
			ids = append(ids, id)
		})
	}
	return ids, err
}
