package tiering

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files of testdata anew")

func goldenManifest() *Manifest {
	m := (*Manifest)(nil).next(step{
		id: testID, leaderEpoch: 6, nonce: "00c0ffee", nowMS: 1_700_000_001_000, logStart: 100,
		config: map[string]string{"retention.ms": "604800000"},
		add: &Entry{
			Key: segmentName(100, 6, "0badcafe"), First: 100, Last: 103, Epochs: []Epoch{{4, 90}, {5, 103}},
			RawBytes: 254, StoredBytes: 617, BaseTimestamp: 1_700_000_000_000, MaxTimestamp: 1_700_000_000_500,
			MaxTimestampOffset: 102, Records: 4, Aborted: 1, IndexLen: 312, CRC: 0x01020304,
			StorageClass: "STANDARD", CreatedMS: 1_700_000_000_900,
		},
	})
	next := m.next(step{
		id: testID, prevName: m.Name, leaderEpoch: 7, nonce: "00c0ffef", nowMS: 1_700_000_002_000, logStart: 104,
		add: &Entry{
			Key: segmentName(104, 7, "0badcaff"), First: 104, Last: 110, Epochs: []Epoch{{7, 104}},
			RawBytes: 700, StoredBytes: 900, BaseTimestamp: 1_700_000_001_000, MaxTimestamp: 1_700_000_001_500,
			MaxTimestampOffset: 110, Records: 7, IndexLen: 248, CRC: 0x05060708, CreatedMS: 1_700_000_001_900,
		},
		dropped: m.Entries,
	})
	page := refOf(next.Entries)
	page.Key, page.Size, page.CRC = pageName(104, 7, "0badcafd"), 600, 0x0a0b0c0d
	return next.next(step{
		id: testID, prevName: next.Name, leaderEpoch: 7, nonce: "00c0fff0", nowMS: 1_700_000_003_000, spill: &page,
		add: &Entry{
			Key: segmentName(111, 7, "0badcb00"), First: 111, Last: 111, Epochs: []Epoch{{7, 104}},
			RawBytes: 80, StoredBytes: 400, BaseTimestamp: 1_700_000_002_000, MaxTimestamp: 1_700_000_002_000,
			MaxTimestampOffset: 111, Records: 1, IndexLen: 224, CRC: 0x090a0b0c, CreatedMS: 1_700_000_002_900,
		},
	})
}

func golden(t *testing.T, name string, now []byte) []byte {
	t.Helper()
	path := "testdata/" + name
	if *rewrite {
		if err := os.WriteFile(path, now, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoldenObjectIsWrittenAndReadByteForByte(t *testing.T) {
	now, indexLen, want := goldenObject(t)
	b := golden(t, "object-v1.lz4", now)
	if !bytes.Equal(b, now) {
		t.Fatalf("the format changed:\n%s\nwas\n%s", hex.Dump(now), hex.Dump(b))
	}
	x, err := ReadIndex("golden", bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, x); d != "" {
		t.Fatal(d)
	}
	if indexLen != int64(len(b))-x.ProducersPos-int64(x.ProducersLen) {
		t.Fatalf("index length %d", indexLen)
	}
	p, err := ReadProducers("golden", bytes.NewReader(b), x)
	if err != nil || string(p) != "producers" {
		t.Fatalf("%q, %v", p, err)
	}
	var raw []byte
	for chunk, err := range RawChunks("golden", bytes.NewReader(b), x) {
		if err != nil {
			t.Fatal(err)
		}
		raw = append(raw, chunk...)
	}
	if int64(len(raw)) != x.RawBytes {
		t.Fatalf("%d bytes of batches, index says %d", len(raw), x.RawBytes)
	}
	for at := 0; at < len(raw); {
		size, first, _, err := testSplit(raw[at:])
		if err != nil || first < 100 || first > 103 {
			t.Fatalf("batch at %d: offset %d, %v", at, first, err)
		}
		at += size
	}
}

func TestGoldenManifestIsWrittenAndReadByteForByte(t *testing.T) {
	want := goldenManifest()
	now, _, err := want.encode()
	if err != nil {
		t.Fatal(err)
	}
	b := golden(t, "manifest-v1.json", now)
	if !bytes.Equal(b, now) {
		t.Fatalf("the format changed:\n%s\nwas\n%s", now, b)
	}
	m, err := DecodeManifest("golden", b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, m); d != "" {
		t.Fatal(d)
	}
}

// hexBlock returns the bytes of the fenced hex block of FORMAT.md that follows
// the heading; what stands behind a # is for people.
func hexBlock(t *testing.T, heading string) []byte {
	t.Helper()
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), heading)
	_, rest, ok2 := strings.Cut(rest, "```hex\n")
	block, _, ok3 := strings.Cut(rest, "```")
	if !ok || !ok2 || !ok3 {
		t.Fatalf("FORMAT.md has no hex block under %q", heading)
	}
	var digits strings.Builder
	for line := range strings.Lines(block) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFormatPageShowsTheGoldenObject(t *testing.T) {
	want, _, _ := goldenObject(t)
	if got := hexBlock(t, "## Example object"); !bytes.Equal(got, want) {
		t.Fatalf("FORMAT.md has %d bytes:\n%s\nthe object is\n%s", len(got), hex.Dump(got), hex.Dump(want))
	}
}

func TestFormatPageShowsTheGoldenManifest(t *testing.T) {
	want, _, err := goldenManifest().encode()
	if err != nil {
		t.Fatal(err)
	}
	got := hexBlock(t, "## Example manifest")
	if !bytes.Equal(got, want) {
		t.Fatalf("FORMAT.md has\n%s\nthe manifest is\n%s", got, want)
	}
	if _, err := DecodeManifest("FORMAT.md", got); err != nil {
		t.Fatal(err)
	}
}

// A compressed chunk of version 1, kept as bytes because another release of the
// compressor may choose other bytes; it must be readable for ever.
func TestGoldenCompressedChunkIsRead(t *testing.T) {
	frame, err := hex.DecodeString("04224d18607073" + "0b000000" + "1f61010000506262626262" + "00000000")
	if err != nil {
		t.Fatal(err)
	}
	c := &Chunk{Stored: uint32(len(frame)), Raw: 25, CRC: 0xe9af4ea7}
	raw := make([]byte, c.Raw)
	if err := decodeChunk("golden", c, frame, raw); err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat("a", 20) + "bbbbb"; string(raw) != want {
		t.Fatalf("%q", raw)
	}
}
