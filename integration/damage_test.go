package integration

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"varve/integration/harness"
)

// TestDamagedObjectHarmsItsOwnPartitionOnly damages one cold object in each of several partitions.
// A reader of it gets a retriable error, never wrong, missing or skipped records, and a metric
// counts it; the other partitions go on; once the object is back, so is the partition.
func TestDamagedObjectHarmsItsOwnPartitionOnly(t *testing.T) {
	b := harness.Start(t, harness.Options{Settings: map[string]string{"varve.tier.cache.bytes": "0"}})
	const topic, records = "damaged", 6
	damages := []func(path string) error{
		0: func(string) error { return nil },
		1: os.Remove,
		2: func(path string) error { return os.Truncate(path, 100_000) },
		3: func(path string) error { return os.Truncate(path, 0) },
		4: func(path string) error { return flipBit(path, 5_000) }, // in the data
		5: func(path string) error { return flipBit(path, -40) },   // in the index
		6: func(path string) error { return flipBit(path, -3) },    // in the footer
		7: func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("x", 500_000)), 0o600) },
	}
	b.CreateTopic(t, topic, int32(len(damages)), harness.Cold)
	for p := range damages {
		for i := range records {
			b.Produce(t, topic, int32(p), harness.Payload(uint64(i+1), 400<<10)) // two a segment
		}
	}
	b.GoCold(t, topic, 0)
	whole := map[int][]byte{}
	raw := b.Dial(t)
	for p := range damages {
		whole[p] = harness.FetchLog(t, raw, topic, int32(p), 0, records)
	}
	b.Stop(t) // memory forgets what it has read
	saved, middle := t.TempDir(), map[int]string{}
	b.Restart(t)
	for _, s := range b.Segments(t, topic) {
		if s.First == 2 {
			middle[int(s.Partition)] = b.Object(t, topic, s)
		}
	}
	for p, path := range middle {
		copyFile(t, path, filepath.Join(saved, fmt.Sprint(p)))
		if err := damages[p](path); err != nil {
			t.Fatal(err)
		}
	}
	raw = b.Dial(t)
	for p := range damages {
		if p > 0 {
			expectDamaged(t, b, raw, topic, int32(p))
		}
		// What is not in the damaged object is read as ever.
		log := harness.FetchLog(t, raw, topic, int32(p), 4, records)
		if !strings.HasSuffix(string(whole[p]), string(log)) || len(log) == 0 {
			t.Errorf("partition %d: %d bytes after the damaged object are not the end of the log", p, len(log))
		}
	}
	if got := harness.FetchLog(t, raw, topic, 0, 0, records); string(got) != string(whole[0]) {
		t.Error("the partition without damage is not what it was")
	}
	errs := b.TierStatus(t).Errors
	if errs["missing"] == 0 || errs["corrupt"] == 0 {
		t.Errorf("errors counted: %v, want missing and corrupt objects", errs)
	}
	for p, path := range middle {
		copyFile(t, filepath.Join(saved, fmt.Sprint(p)), path)
		if got := harness.FetchLog(t, raw, topic, int32(p), 0, records); string(got) != string(whole[p]) {
			t.Errorf("partition %d: %d bytes after the object came back, want %d", p, len(got), len(whole[p]))
		}
	}
}

// expectDamaged reads up to the damaged object, whose first offset is 2, and no further.
func expectDamaged(t *testing.T, b *harness.Broker, raw *harness.Raw, topic string, partition int32) {
	t.Helper()
	harness.FetchLog(t, raw, topic, partition, 0, 2)
	harness.Eventually(t, harness.Soon, fmt.Sprintf("an error for partition %d", partition), func() error {
		got := harness.Fetch(t, raw, topic, partition, 2)
		if len(got.RecordBatches) > 0 {
			t.Fatalf("partition %d: %d bytes from a damaged object", partition, len(got.RecordBatches))
		}
		err := kerr.ErrorForCode(got.ErrorCode)
		switch {
		case err == nil:
			return errors.New("an empty answer so far") // the read goes on
		case !errors.Is(err, kerr.KafkaStorageError):
			t.Errorf("partition %d: %v", partition, err)
		}
		return nil
	})
}

func flipBit(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if at < 0 {
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		at += size
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0] ^= 0x10
	_, err = f.WriteAt(b[:], at)
	return err
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// page reads a path of the admin listener.
func page(t testing.TB, b *harness.Broker, path string) (status int, body string) {
	t.Helper()
	resp, err := http.Get(b.Admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestAdminListenerShowsHealthMetricsAndProfiles reads every page that operators rely on.
func TestAdminListenerShowsHealthMetricsAndProfiles(t *testing.T) {
	b := sharedBroker(t)
	b.CreateTopic(t, "admin", 1, harness.Cold)
	b.Produce(t, "admin", 0, []byte("x"))
	b.GoCold(t, "admin", 0)
	b.Consume(t, "admin", 0, 0, 1)
	for path, words := range map[string][]string{
		"/livez":                    {""},
		"/readyz":                   {"ready"},
		"/readyz?verbose":           {"[+] ", "ready"},
		"/metrics":                  {"varve_object_requests_total", "go_goroutines"},
		"/debug/pprof/cmdline":      {"serve"},
		"/api/v1/tier/status":       {`"tier.status"`},
		"/debug/pprof/heap?debug=1": {"heap profile"},
	} {
		status, body := page(t, b, path)
		if status != http.StatusOK {
			t.Errorf("%s: status %d: %.200s", path, status, body)
		}
		for _, w := range words {
			if !strings.Contains(body, w) {
				t.Errorf("%s does not say %q:\n%.500s", path, w, body)
			}
		}
	}
	for path, want := range map[string]int{
		"/no-such-page": 404, "/api/v1/tier/topics/no-such-topic": 404, "/api/v1/tier/topics/admin/segments?partition=9": 404,
		"/api/v1/tier/topics/admin/segments?partition=x": 400, "/api/v1/tier/topics/admin/partitions/9/explain": 404,
	} {
		if status, body := page(t, b, path); status != want {
			t.Errorf("%s: status %d, want %d: %.200s", path, status, want, body)
		}
	}
}
