package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"varve/broker/record"
	"varve/tiering"
	"varve/tiering/object"
)

// testBatches are three batches of two records, from offset 0.
func testBatches(t *testing.T) []record.Batch {
	t.Helper()
	var out []record.Batch
	for i := range 3 {
		b := record.NewBuilder(record.Codec(i)) // none, gzip, snappy
		b.SetBaseOffset(int64(2 * i))
		b.SetLeaderEpoch(4)
		for j := range 2 {
			b.Append(record.Record{Timestamp: int64(1767312000000 + i), Key: fmt.Appendf(nil, "k%d", 2*i+j), Value: []byte("v")})
		}
		batch, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, batch)
	}
	return out
}

func testSegment(t *testing.T, batches []record.Batch, after []byte) string {
	t.Helper()
	var text []byte
	for _, b := range batches {
		text = append(text, b...)
	}
	name := filepath.Join(t.TempDir(), "00000000000000000000.log")
	if err := os.WriteFile(name, append(text, after...), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestInspectReadsASegmentToItsLogicalEnd(t *testing.T) {
	batches := testBatches(t)
	stale := testBatches(t)[0]
	for name, tc := range map[string]struct {
		after []byte
		want  string
	}{
		"whole":    {nil, "the end of the file"},
		"zeros":    {make([]byte, 4096), "zeros"},
		"torn":     {batches[0][:30], "bytes that are no batch: a torn write, or an earlier use of the file"},
		"recycled": {stale, "a batch that does not follow: an earlier use of the file"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := invocation(t, nil, "", "inspect", testSegment(t, batches, tc.after))
			if code != 0 || errs != "" {
				t.Fatalf("code %d: %s", code, errs)
			}
			for _, want := range []string{"next        6\n", "records     6\n", "ends with   " + tc.want + "\n", "gzip"} {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in\n%s", want, out)
				}
			}
		})
	}
}

func TestInspectPrintsRecords(t *testing.T) {
	code, out, errs := invocation(t, nil, "", "inspect", "-f", `%o %k=%v;`, testSegment(t, testBatches(t), nil))
	if want := "0 k0=v;1 k1=v;2 k2=v;3 k3=v;4 k4=v;5 k5=v;"; code != 0 || out != want {
		t.Fatalf("code %d: %q %s", code, out, errs)
	}
}

func TestInspectFailsOnDamage(t *testing.T) {
	batches := testBatches(t)
	batches[1][len(batches[1])-1] ^= 1
	code, out, errs := invocation(t, nil, "", "inspect", testSegment(t, batches, nil))
	if code != 1 || !strings.Contains(errs, "corrupt") || !strings.Contains(out, "records     2\n") {
		t.Fatalf("code %d: %s\n%s", code, errs, out)
	}
	for text, want := range map[string]string{"": "zeros", "hello, this is text": "is no segment", "{}": "manifest"} {
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, _, errs := invocation(t, nil, "", "inspect", name)
		if code != 1 || !strings.Contains(errs, want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%q: code %d: %q", text, code, errs)
		}
	}
}

// batchSource gives batches to an upload.
type batchSource struct{ batches []record.Batch }

func (s *batchSource) Next() (tiering.Batch, error) {
	if len(s.batches) == 0 {
		return tiering.Batch{}, io.EOF
	}
	b := s.batches[0]
	s.batches = s.batches[1:]
	return tiering.Batch{
		Bytes: b, First: b.BaseOffset(), Last: b.LastOffset(), BaseTimestamp: b.BaseTimestamp(), MaxTimestamp: b.MaxTimestamp(),
		MaxTimestampOffset: b.BaseOffset(), Records: b.Count(), Epoch: b.LeaderEpoch(), Compressed: b.Attributes().Codec() != record.None,
	}, nil
}

// testBucket uploads the batches and returns the files of the bucket.
func testBucket(t *testing.T) (coldObject, manifest string) {
	t.Helper()
	dir := t.TempDir()
	store, err := object.Open(context.Background(), "dir://"+dir, object.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	tier, err := tiering.New(tiering.Config{Store: store, Cluster: "c1", SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer tier.Close()
	p := tier.Partition(tiering.PartitionID{Cluster: "c1", Topic: "clicks", TopicIDText: "AAAAAAAAAAAAAAAAAAAAAA"})
	_, err = p.Upload(context.Background(), tiering.Range{
		First: 0, Next: 6, LeaderEpoch: 4, Epochs: []tiering.Epoch{{Epoch: 4, Start: 0}},
	}, &batchSource{testBatches(t)})
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		switch {
		case strings.HasSuffix(path, ".seg.lz4"):
			coldObject = path
		case strings.Contains(path, "/manifest/") && strings.HasSuffix(path, ".json"):
			manifest = path
		}
		return err
	})
	if err != nil || coldObject == "" || manifest == "" {
		t.Fatalf("bucket: %q %q %v", coldObject, manifest, err)
	}
	return coldObject, manifest
}

func TestInspectReadsAColdObjectAndItsManifest(t *testing.T) {
	coldObject, manifest := testBucket(t)
	code, out, errs := invocation(t, nil, "", "inspect", coldObject)
	if code != 0 || !strings.Contains(out, "cold object") || !strings.Contains(out, "gzip") {
		t.Fatalf("code %d: %s\n%s", code, errs, out)
	}
	code, out, errs = invocation(t, nil, "", "inspect", "-f", `%o %k=%v;`, coldObject)
	if want := "0 k0=v;1 k1=v;2 k2=v;3 k3=v;4 k4=v;5 k5=v;"; code != 0 || out != want {
		t.Fatalf("code %d: %q %s", code, out, errs)
	}
	code, out, errs = invocation(t, nil, "", "inspect", manifest)
	if code != 0 || !strings.Contains(out, "tiered end            6\n") || !strings.Contains(out, filepath.Base(coldObject)) {
		t.Fatalf("code %d: %s\n%s", code, errs, out)
	}
	code, out, errs = invocation(t, nil, "", "--format", "json", "inspect", manifest)
	if code != 0 || !strings.Contains(out, `"kind": "manifest"`) {
		t.Fatalf("code %d: %s\n%s", code, errs, out)
	}
}

func TestInspectFindsEveryFlippedBitOfAColdObject(t *testing.T) {
	coldObject, _ := testBucket(t)
	text, err := os.ReadFile(coldObject)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "object")
	missed := 0
	for i := range text {
		text[i] ^= 1 << (i % 8)
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _, _ := invocation(t, nil, "", "inspect", name); code != 1 {
			missed++
			t.Logf("byte %d of %d", i, len(text))
		}
		text[i] ^= 1 << (i % 8)
	}
	// The skippable frame's head is only for LZ4 tools, and the producer snapshot is empty here.
	if missed > 8 {
		t.Fatalf("%d flipped bits were not noticed", missed)
	}
}

func FuzzLocalIndex(f *testing.F) {
	f.Add([]byte("VARVEidx"))
	f.Add(make([]byte, indexFooterBytes))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = decodeLocalIndex(b) })
}
