package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"varve/integration/harness"
)

// TestMinIOHoldsTheColdTier tiers to a real S3 server: what clients wrote is read back from there,
// also after a restart that lost the disk cache, and goes with its topic.
func TestMinIOHoldsTheColdTier(t *testing.T) {
	m := harness.StartMinIO(t)
	b := harness.Start(t, harness.Options{Store: m.Store("varve", "prefix/of/mine"), Env: harness.Credentials})
	const topic = "minio"
	b.CreateTopic(t, topic, int32(len(codecs)), harness.Cold)
	want := harness.Expected{}
	for p, codec := range codecs {
		want[int32(p)] = harness.Set(codec)
		kgoProduce(t, b, topic, int32(p), codec, want[int32(p)])
	}
	b.GoCold(t, topic, 0)
	bucket := filepath.Join(m.Dir, "varve", "prefix", "of", "mine")
	if n := countFiles(t, bucket); n < 2*len(codecs) { // an object and a manifest a partition at least
		t.Errorf("%d files in the bucket", n)
	}
	read := func(c client) {
		t.Helper()
		if err := harness.Diff(c.view(want), c.consume(t, b, topic, counts(want))); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	read(kgoClient)
	b.Stop(t)
	if err := os.RemoveAll(filepath.Join(b.Data, "cache")); err != nil {
		t.Fatal(err)
	}
	b.Restart(t)
	read(confluentClient)
	b.Kill(t)
	b.Restart(t)
	read(saramaClient)
	if err := deleteTopic(t, b, topic); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, harness.Late, "the topic's objects go", func() error {
		segments, err := filepath.Glob(filepath.Join(bucket, "*", "topics", topic+".*", "*", "*.seg.lz4"))
		if err == nil && len(segments) > 0 {
			err = fmt.Errorf("%d objects", len(segments))
		}
		return err
	})
}

// TestDeadStoreHurtsNothingButTheColdTier stops the S3 server. Producers and readers of hot data
// go on, the broker is ready but degraded, cold reads get nothing or a retriable error; when the
// server is back, everything is uploaded and readable again.
func TestDeadStoreHurtsNothingButTheColdTier(t *testing.T) {
	m := harness.StartMinIO(t)
	b := harness.Start(t, harness.Options{
		Store: m.Store("varve", "p"), Env: harness.Credentials, Settings: map[string]string{"varve.tier.cache.bytes": "0"},
	})
	const topic = "dead-store"
	b.CreateTopic(t, topic, 1, harness.Cold)
	payload := func(i int) []byte { return harness.Payload(uint64(i), 400<<10) }
	for i := range 4 {
		b.Produce(t, topic, 0, payload(i))
	}
	b.GoCold(t, topic, 0)
	m.Stop()
	b.Stop(t)
	b.Restart(t) // also without a store
	for i := range 8 {
		b.Produce(t, topic, 0, payload(4+i))
	}
	expect := func(from, end int64) {
		t.Helper()
		for i, r := range b.Consume(t, topic, 0, from, end) {
			if string(r.Value) != string(payload(int(from)+i)) {
				t.Errorf("offset %d holds something else", r.Offset)
			}
		}
	}
	expect(4, 12)
	if got := harness.Fetch(t, b.Dial(t), topic, 0, 0); len(got.RecordBatches) > 0 {
		t.Errorf("%d bytes of cold data without a store", len(got.RecordBatches))
	}
	harness.Eventually(t, harness.Late, "the broker is ready but degraded", func() error {
		status, body := page(t, b, "/readyz?verbose")
		if status != http.StatusOK || !strings.Contains(body, "degraded") {
			return fmt.Errorf("status %d: %s", status, body)
		}
		return nil
	})
	if p := b.Tier(t, topic).Partitions[0]; p.LocalStart.Offset != 4 || p.TieredEnd.Offset != 4 {
		t.Errorf("without a store: local start %d, tiered end %d, want both 4", p.LocalStart.Offset, p.TieredEnd.Offset)
	}
	m.Start(t)
	b.GoCold(t, topic, 0)
	expect(0, 12)
}

// TestWrongStoreIsNamedInOneLine points brokers at stores that they cannot use. Each either ends
// with a clear line or is up and says what is wrong with its store, which is what a store that is
// only away for a while needs.
func TestWrongStoreIsNamedInOneLine(t *testing.T) {
	m := harness.StartMinIO(t)
	addrs, err := harness.FreeAddresses(1)
	if err != nil {
		t.Fatal(err)
	}
	good := "&region=us-east-1&path_style=true"
	for _, c := range []struct {
		what  string
		store string
		env   []string
		word  string
	}{
		{"a bucket that is not there", "s3://absent/p?endpoint=" + m.Endpoint + good, harness.Credentials, "bucket"},
		{"a wrong secret", m.Store("varve", "p"), []string{"AWS_ACCESS_KEY_ID=minioadmin", "AWS_SECRET_ACCESS_KEY=wrong-secret"}, "denied"},
		{"an unknown key", m.Store("varve", "p"), []string{"AWS_ACCESS_KEY_ID=nobody", "AWS_SECRET_ACCESS_KEY=wrong-secret"}, "denied"},
		{"nobody at the endpoint", "s3://varve/p?endpoint=http://" + addrs[0] + good, harness.Credentials, "refused"},
		{"another program at the endpoint", "s3://varve/p?endpoint=" + sharedBroker(t).Admin + good, harness.Credentials, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			b, err := harness.Launch(harness.Options{Dir: t.TempDir(), Store: c.store, Env: c.env})
			if err != nil { // it ended
				if !strings.Contains(err.Error(), "\nvarve: ") || !strings.Contains(err.Error(), c.word) {
					t.Errorf("does not say %q in a line of its own: %v", c.word, err)
				}
				return
			}
			defer b.End()
			harness.Eventually(t, harness.Soon, "the store's trouble is told", func() error {
				status, body := page(t, b, "/readyz?verbose")
				if status != http.StatusOK || !strings.Contains(body, "degraded") || !strings.Contains(body, c.word) {
					return fmt.Errorf("status %d: %s", status, body)
				}
				return nil
			})
			b.CreateTopic(t, "hot", 1, nil)
			b.Produce(t, "hot", 0, []byte("x"))
			if secret := strings.TrimPrefix(c.env[1], "AWS_SECRET_ACCESS_KEY="); secret != "minioadmin" && strings.Contains(b.Log(), secret) {
				t.Error("the log shows a secret")
			}
			b.Stop(t)
		})
	}
}
