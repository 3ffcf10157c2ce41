package main

import (
	"context"
	"encoding/json"
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
	stale, ahead := testBatches(t)[0], testBatches(t)[1]
	ahead.SetBaseOffset(1000)
	for name, tc := range map[string]struct {
		after []byte
		want  string
	}{
		"whole":                      {nil, "the end of the file"},
		"zeros":                      {make([]byte, 4096), "zeros"},
		"torn":                       {batches[0][:30], "bytes that are not the next batch: a torn write, or an earlier use of the file"},
		"recycled":                   {stale, "bytes that are not the next batch: a torn write, or an earlier use of the file"},
		"recycled from a longer log": {ahead, "a batch that does not follow: an earlier use of the file"},
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
	for text, want := range map[string]string{"": "zeros", "hello, this is text": "is no segment", "{}": "is no manifest"} {
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

// testBucket uploads each batch as an object, all of them in one page but the last, describes and
// deletes topics, and returns the files of the bucket by the last directory of their key.
func testBucket(t *testing.T) map[string]string {
	t.Helper()
	dir, ctx := t.TempDir(), context.Background()
	store, err := object.Open(ctx, "dir://"+dir, object.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	tier, err := tiering.New(tiering.Config{Store: store, Cluster: "c1", SpoolDir: t.TempDir(), PageEntries: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer tier.Close()
	const id = "AAAAAAAAAAAAAAAAAAAAAA"
	p := tier.Partition(tiering.PartitionID{Cluster: "c1", Topic: "clicks", TopicIDText: id})
	for i, batch := range testBatches(t) {
		c, err := p.Upload(ctx, tiering.Range{
			First: int64(2 * i), Next: int64(2*i + 2), LeaderEpoch: 4, Epochs: []tiering.Epoch{{Epoch: 4, Start: 0}},
		}, &batchSource{[]record.Batch{batch}})
		if err != nil {
			t.Fatal(err)
		}
		p.SetPointer(c.Pointer())
	}
	topic := tiering.TopicDescriptor{Cluster: "c1", Topic: "clicks", TopicID: id, Partitions: 1, Config: map[string]string{"retention.ms": "5"}}
	if err := tier.WriteTopicDescriptor(ctx, topic); err != nil {
		t.Fatal(err)
	}
	if _, err := tier.PurgeTopic(ctx, "c1", "gone", "BBBBBBBBBBBBBBBBBBBBBB", nil); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files[filepath.Base(filepath.Dir(path))] = path // of several, the newest
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestInspectReadsEveryKindOfObjectOfABucket(t *testing.T) {
	files := testBucket(t)
	for kind, want := range map[string][]string{
		"0":                             {"cold object", "first                 4\n", "next                  6\n", "snappy", "producers             0\n"},
		"manifest":                      {"tiered end            6\n", "pages                 1\n", filepath.Base(files["0"])},
		"pages":                         {"page of a manifest", "first         0\n", "next          4\n", "objects       2\n", ".seg.lz4"},
		"clicks.AAAAAAAAAAAAAAAAAAAAAA": {"topic.json", "clicks", "retention.ms=5"},
		"deleted":                       {"tombstone of a deleted topic", "gone", "listed once more"},
	} {
		code, out, errs := invocation(t, nil, "", "inspect", files[kind])
		if code != 0 || errs != "" {
			t.Errorf("%s: code %d: %s", kind, code, errs)
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: %q is not in\n%s", kind, w, out)
			}
		}
		code, out, errs = invocation(t, nil, "", "--format", "json", "inspect", files[kind])
		if code != 0 || !json.Valid([]byte(out)) || !strings.Contains(out, `"kind": "`) {
			t.Errorf("%s as JSON: code %d: %s\n%s", kind, code, errs, out)
		}
	}
	code, out, errs := invocation(t, nil, "", "inspect", "-f", `%o %k=%v;`, files["0"])
	if want := "4 k4=v;5 k5=v;"; code != 0 || out != want {
		t.Fatalf("code %d: %q %s", code, out, errs)
	}
}

func TestInspectSaysInOneLineWhatItCannotRead(t *testing.T) {
	dir := t.TempDir()
	for _, x := range []struct{ name, text, want string }{
		{"00000000000000000000.index", "not an index", "cut off or overwritten"},
		{"00000000000000000000.index", strings.Repeat("x", 200) + magicIndex, "index"},
		{"a.seg.lz4", "\x04\x22\x4d\x18" + strings.Repeat("x", 100), "is cut off"},
		{"a.seg.lz4", strings.Repeat("x", 400) + magicCold, "cold object"},
		{"a.json", `{"version":1}`, "is no manifest, page, topic.json or tombstone"},
		{"a.json", `{"version":7,"topicId":"x","deletedMs":1}`, "version 7 is unknown"},
		{"a.json", `{"version":1,"topicId":"x","entries":[]}`, "page without entries"},
		{"a.json", `{"version":1,"topicId":"x","entries":[` + strings.Repeat("{},", 100) + `{}]}`, "objects in"},
		{"a.json", `{"version":`, "end of JSON"},
	} {
		name := filepath.Join(dir, x.name)
		if err := os.WriteFile(name, []byte(x.text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, _, errs := invocation(t, nil, "", "inspect", name)
		if code != 1 || !strings.Contains(errs, x.want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%.40q as %s: code %d: %q does not say %q in one line", x.text, x.name, code, errs, x.want)
		}
	}
	for name, want := range map[string]string{dir: "is not a file", filepath.Join(dir, "none"): "no such file"} {
		if code, _, errs := invocation(t, nil, "", "inspect", name); code != 1 || !strings.Contains(errs, want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: code %d: %q", name, code, errs)
		}
	}
}

func TestInspectFindsEveryFlippedBitOfAColdObject(t *testing.T) {
	coldObject := testBucket(t)["0"]
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

// FuzzInspect: whatever a file holds and is called, inspect ends, with an exit code of 0 or 1.
func FuzzInspect(f *testing.F) {
	batch := record.NewBuilder(record.None)
	batch.Append(record.Record{Value: []byte("v")})
	segment, err := batch.Build()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(segment), uint8(0))
	f.Add(append(make([]byte, 112), magicIndex...), uint8(1))
	f.Add([]byte(strings.Repeat("x", 160)+magicCold), uint8(2))
	f.Add([]byte(`{"name":"0000000007-0000000000000003-00c0fff0.json","leaderEpoch":7,"logStart":0}`), uint8(3))
	f.Add([]byte(`{"version":1,"topicId":"x","entries":[{"first":0,"last":3}]}`), uint8(3))
	f.Add([]byte(`{"version":1,"topicId":"x","partitions":3}`), uint8(3))
	names := []string{"00000000000000000000.log", "00000000000000000000.index", "x.seg.lz4", "x.json", "start"}
	f.Fuzz(func(t *testing.T, b []byte, kind uint8) {
		name := filepath.Join(t.TempDir(), names[int(kind)%len(names)])
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"inspect", name}, {"--format", "json", "inspect", "-r", name}} {
			a := &app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}
			if code := a.run(args); code != 0 && code != 1 {
				t.Fatalf("exit code %d", code)
			}
		}
	})
}
