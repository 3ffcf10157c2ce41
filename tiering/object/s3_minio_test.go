package object_test

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/lifecycle"

	"varve/tiering/object"
	"varve/tiering/object/storetest"
)

// minioStore opens and probes a store in a running MinIO.
func minioStore(t *testing.T, m *storetest.MinIO, bucket string) object.Store {
	t.Helper()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, "")
	}
	s, err := object.Open(t.Context(), m.URL(bucket), m.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := object.Probe(t.Context(), s, "cluster-1"); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMinIO(t *testing.T) {
	m := storetest.StartMinIO(t)
	for _, c := range []struct {
		name string
		test func(*testing.T, *storetest.MinIO)
	}{
		{"LargeObjectsGoInParts", largeObjectsGoInParts},
		{"FailedPartsLeaveNothing", failedPartsLeaveNothing},
		{"EveryRequestIsCounted", everyRequestIsCounted},
		{"ProbeRefusesAnotherClustersPrefix", probeRefusesAnotherClustersPrefix},
		{"ProbeRefusesExpiringBuckets", probeRefusesExpiringBuckets},
		{"ProbeLeavesOnlyTheMarker", probeLeavesOnlyTheMarker},
		{"WrongCredentialsAreNamed", wrongCredentialsAreNamed},
		{"MissingBucketIsNamed", missingBucketIsNamed},
		{"RestartIsRiddenOut", restartIsRiddenOut}, // last: it ends the server
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, m) })
	}
}

func largeObjectsGoInParts(t *testing.T, m *storetest.MinIO) {
	s := minioStore(t, m, "parts")
	object.SetPartSizes(s, 6<<20, 5<<20)
	meter := object.NewMeter(s)
	body := storetest.Random(9, 12<<20+77)
	sum := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
	info, err := meter.Put(t.Context(), "big", object.Bytes(body), object.PutOptions{CRC32C: object.CRC(sum)})
	if err != nil || info.CRC32C != object.CRC(sum) || info.Size != int64(len(body)) {
		t.Fatalf("%+v, %v; crc32c %08x", info, err, sum)
	}
	got, err := object.ReadAll(t.Context(), s, "big", 1<<30)
	if err != nil || !bytes.Equal(got, body) {
		t.Fatalf("equal %t, %v", bytes.Equal(got, body), err)
	}
	want := map[object.Op]int64{object.OpCreateMultipart: 1, object.OpPutPart: 3, object.OpCompleteMultipart: 1}
	for op, n := range want {
		if c := meter.Total(func(k object.CountKey) bool { return k.Op == op }); c.Requests != n {
			t.Errorf("%s: %d requests, want %d", op, c.Requests, n)
		}
	}
	_, err = s.Put(t.Context(), "big2", object.Bytes(body), object.PutOptions{CRC32C: object.CRC(sum ^ 1)})
	if !errors.Is(err, object.ErrChecksum) {
		t.Errorf("wrong checksum: %v", err)
	}
	_, err = s.Put(t.Context(), "big", object.Bytes(body), object.PutOptions{IfAbsent: true})
	if !errors.Is(err, object.ErrExists) {
		t.Errorf("if absent: %v", err)
	}
	if n, err := object.UnfinishedUploads(t.Context(), s, "big2"); n != 0 || err != nil {
		t.Errorf("%d unfinished uploads, %v", n, err)
	}
}

// failingFrom is a body whose bytes from some offset on cannot be read.
type failingFrom struct {
	io.ReaderAt
	off int64
	err error
}

func (f failingFrom) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.off {
		return 0, f.err
	}
	return f.ReaderAt.ReadAt(p, off)
}

func failedPartsLeaveNothing(t *testing.T, m *storetest.MinIO) {
	s := minioStore(t, m, "parts")
	object.SetPartSizes(s, 6<<20, 5<<20)
	rotten := errors.New("disk is rotten")
	data := storetest.Random(3, 17<<20)
	body := object.Body{Reader: failingFrom{bytes.NewReader(data), 11 << 20, rotten}, Size: int64(len(data))}
	if _, err := s.Put(t.Context(), "big", body, object.PutOptions{}); !errors.Is(err, rotten) {
		t.Fatal(err)
	}
	if n, err := object.UnfinishedUploads(t.Context(), s, "big"); n != 0 || err != nil {
		t.Errorf("%d unfinished uploads, %v", n, err)
	}
	if _, err := s.Head(t.Context(), "big"); !errors.Is(err, object.ErrNotFound) {
		t.Error(err)
	}
}

func everyRequestIsCounted(t *testing.T, m *storetest.MinIO) {
	meter := object.NewMeter(minioStore(t, m, "meter"))
	ctx := object.WithTopic(object.WithPurpose(t.Context(), object.PurposeUpload), "orders")
	body := storetest.Random(1, 5<<20)
	if _, err := meter.Put(ctx, "k", object.Bytes(body), object.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	cold := object.WithTopic(object.WithPurpose(t.Context(), object.PurposeColdRead), "orders")
	if _, err := meter.GetRange(cold, "k", 100, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if _, err := meter.GetRange(cold, "missing", 0, make([]byte, 1)); !errors.Is(err, object.ErrNotFound) {
		t.Fatal(err)
	}
	rows := map[object.CountKey]object.Count{}
	for _, c := range meter.Snapshot() {
		rows[c.CountKey] = c
	}
	put := rows[object.CountKey{Op: object.OpPut, Topic: "orders", Purpose: object.PurposeUpload, Outcome: object.OutcomeOK}]
	if put.Requests != 1 || put.BytesSent < 5<<20 || put.BytesSent > 5<<20+1000 {
		t.Errorf("put: %+v", put)
	}
	get := rows[object.CountKey{Op: object.OpGet, Topic: "orders", Purpose: object.PurposeColdRead, Outcome: object.OutcomeOK}]
	if get.Requests != 1 || get.BytesReceived != 1<<20 {
		t.Errorf("get: %+v", get)
	}
	missing := rows[object.CountKey{Op: object.OpGet, Topic: "orders", Purpose: object.PurposeColdRead, Outcome: object.OutcomeNotFound}]
	if missing.Requests != 1 || len(rows) != 3 {
		t.Errorf("missing: %+v, %d rows: %+v", missing, len(rows), rows)
	}
}

func probeRefusesAnotherClustersPrefix(t *testing.T, m *storetest.MinIO) {
	s := minioStore(t, m, "foreign")
	if r, err := object.Probe(t.Context(), s, "cluster-1"); err != nil || r.FirstUse {
		t.Errorf("the same cluster again: %+v, %v", r, err)
	}
	_, err := object.Probe(t.Context(), s, "cluster-2")
	if !errors.Is(err, object.ErrForeign) || object.IsRetriable(err) || !strings.Contains(err.Error(), "cluster-1") {
		t.Error(err)
	}
}

func probeRefusesExpiringBuckets(t *testing.T, m *storetest.MinIO) {
	s := minioStore(t, m, "expiring")
	rule := func(prefix string) lifecycle.Rule {
		return lifecycle.Rule{
			ID: "old-stuff", Status: "Enabled", RuleFilter: lifecycle.Filter{Prefix: prefix},
			Expiration: lifecycle.Expiration{Days: 30},
		}
	}
	other := rule("somewhere/else/")
	off := rule("")
	off.Status = "Disabled"
	old := lifecycle.Rule{
		ID: "versions", Status: "Enabled",
		NoncurrentVersionExpiration: lifecycle.NoncurrentVersionExpiration{NoncurrentDays: 3},
	}
	for _, c := range []struct {
		name   string
		rule   lifecycle.Rule
		refuse bool
	}{
		{"whole bucket", rule(""), true},
		{"our prefix", rule(object.Prefix(s)), true},
		{"below our prefix", rule(object.Prefix(s) + "cluster-1/topics/"), true},
		{"another prefix", other, false},
		{"disabled", off, false},
		{"old versions only", old, false},
	} {
		if err := object.SetLifecycle(t.Context(), s, &lifecycle.Configuration{Rules: []lifecycle.Rule{c.rule}}); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		_, err := object.Probe(t.Context(), s, "cluster-1")
		switch {
		case c.refuse && (!errors.Is(err, object.ErrExpires) || !strings.Contains(err.Error(), "old-stuff")):
			t.Errorf("%s: %v", c.name, err)
		case !c.refuse && err != nil:
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func probeLeavesOnlyTheMarker(t *testing.T, m *storetest.MinIO) {
	s := minioStore(t, m, "tidy")
	page, err := s.List(t.Context(), "", "", 0)
	if err != nil || len(page.Objects) != 1 || page.Objects[0].Key != object.MarkerKey {
		t.Errorf("%+v, %v", page, err)
	}
	owner, err := object.ReadMarker(t.Context(), s)
	if owner != "cluster-1" || err != nil {
		t.Errorf("%q, %v", owner, err)
	}
}

func wrongCredentialsAreNamed(t *testing.T, m *storetest.MinIO) {
	minioStore(t, m, "denied")
	for _, c := range []struct{ user, password, says string }{
		{"nobody", "wrongwrong", "does not know this access key"},
		{storetest.MinIOUser, "wrongwrong", "secret key"},
	} {
		cfg := object.Config{CredentialsFile: storetest.WriteCredentials(t, c.user, c.password)}
		s, err := object.Open(t.Context(), m.URL("denied"), cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, err = object.Probe(t.Context(), s, "c")
		if !errors.Is(err, object.ErrDenied) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "wrongwrong") {
			t.Errorf("%s: %v", c.user, err)
		}
		_ = s.Close()
	}
}

func missingBucketIsNamed(t *testing.T, m *storetest.MinIO) {
	address := strings.Replace(m.URL("nowhere-to-be-seen"), "create_bucket=true", "create_bucket=false", 1)
	s, err := object.Open(t.Context(), address, m.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := object.Probe(t.Context(), s, "c"); !errors.Is(err, object.ErrNoBucket) || object.IsRetriable(err) {
		t.Error(err)
	}
	_, err = s.Put(t.Context(), "k", object.Bytes([]byte("x")), object.PutOptions{})
	if !errors.Is(err, object.ErrNoBucket) {
		t.Error(err)
	}
}

func restartIsRiddenOut(t *testing.T, m *storetest.MinIO) {
	inner := minioStore(t, m, "restart")
	if _, err := inner.Put(t.Context(), "k", object.Bytes([]byte("kept")), object.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	m.Stop()
	_, err := inner.Head(t.Context(), "k")
	if !errors.Is(err, object.ErrUnavailable) || !object.IsRetriable(err) {
		t.Fatal(err)
	}
	restarted := false
	s := object.NewRetry(inner, object.RetryPolicy{Wait: func(context.Context, time.Duration) bool {
		if !restarted {
			m.Restart(t)
			restarted = true
		}
		return true
	}})
	got, err := object.ReadAll(t.Context(), s, "k", 100)
	if err != nil || string(got) != "kept" {
		t.Errorf("%q, %v", got, err)
	}
}
