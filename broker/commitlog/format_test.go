package commitlog

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"varve/broker/internal/vfs"
	"varve/broker/record"
)

var rewrite = flag.Bool("rewrite", false, "write golden files that do not exist yet")

// The values that FORMAT.md and testdata/golden spell out in bytes.

func sampleStart() *indexFile {
	var table producerTable
	b := seqBatch{id: 9, epoch: 1, seq: 0}.build()
	b.SetBaseOffset(999)
	table.apply(b, 1_700_000_000_000)
	x := &indexFile{history: epochHistory{{3, 0}}, snapshot: table.encode(1000)}
	x.segmentMeta = segmentMeta{base: 1000, next: 1000, baseTime: -1, maxTime: -1, maxTimeBase: 1000, createdMS: 1_700_000_000_000}
	x.kind, x.generation = kindStart, 2
	return x
}

// sampleCleaned is the index of a compacted segment of one empty batch, with a delete horizon.
func sampleCleaned() *indexFile {
	x := &indexFile{index: []indexEntry{{0, 0, noTime}}, history: epochHistory{{3, 0}}}
	x.segmentMeta = segmentMeta{base: 1000, next: 3000, size: 61, baseTime: 50, maxTime: 90, maxTimeBase: 1000, createdMS: 1_700_000_000_000}
	x.kind, x.flags, x.horizon = kindSegment, flagCleaned, 1_700_086_400_000
	return x
}

func sampleSwap() *swapFile { return &swapFile{base: 1000, next: 3000, gone: []int64{1500, 2750}} }

func sampleSegment() []byte {
	var out []byte
	for i := range 2 {
		b := batchOf("varve", 1+i, 1_700_000_000_000)
		b.SetBaseOffset(int64(1000 + i))
		b.SetLeaderEpoch(int32(3 + 2*i))
		out = append(out, b...)
	}
	return out
}

func samples() map[string][]byte {
	return map[string][]byte{
		"segment-v1":  sampleSegment(),
		"index-v1":    sampleIndex().encode(),
		"start-v1":    sampleStart().encode(),
		"snapshot-v1": sampleIndex().snapshot,
		"cleaned-v1":  sampleCleaned().encode(),
		"swap-v1":     sampleSwap().encode(),
	}
}

// hexDump prints 16 bytes a line, as FORMAT.md does.
func hexDump(b []byte) string {
	var s strings.Builder
	for i := 0; i < len(b); i += 16 {
		fmt.Fprintf(&s, "%04x  % x\n", i, b[i:min(i+16, len(b))])
	}
	return s.String()
}

// parseDump reads what hexDump prints; what follows # on a line is a remark.
func parseDump(t *testing.T, s string) []byte {
	t.Helper()
	var out []byte
	for line := range strings.Lines(s) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		b, err := hex.DecodeString(strings.Join(fields[1:], ""))
		if err != nil || fields[0] != fmt.Sprintf("%04x", len(out)) {
			t.Fatalf("line %q at %04x: %v", line, len(out), err)
		}
		out = append(out, b...)
	}
	return out
}

func TestFormatPageShowsTheBytesThatAreWritten(t *testing.T) {
	page, err := os.ReadFile("FORMAT.md")
	mustNot(t, err)
	for name, want := range samples() {
		_, rest, ok := strings.Cut(string(page), "```"+name+"\n")
		block, _, ok2 := strings.Cut(rest, "```")
		if !ok || !ok2 {
			t.Errorf("no block %s; it would be\n%s", name, hexDump(want))
			continue
		}
		if got := parseDump(t, block); !bytes.Equal(got, want) {
			t.Errorf("block %s differs; it would be\n%s", name, hexDump(want))
		}
	}
}

// TestGoldenFilesOfEveryVersionDecode keeps every version that was ever written readable. Golden
// files are added, never changed.
func TestGoldenFilesOfEveryVersionDecode(t *testing.T) {
	for name, want := range samples() {
		file := "testdata/golden/" + name
		if _, err := os.Stat(file); os.IsNotExist(err) && *rewrite {
			mustNot(t, os.MkdirAll("testdata/golden", 0o755))
			mustNot(t, os.WriteFile(file, want, 0o644))
		}
		got, err := os.ReadFile(file)
		mustNot(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: the format has changed:\n%s", name, hexDump(want))
		}
	}
	raw, err := os.ReadFile("testdata/golden/index-v1")
	mustNot(t, err)
	x, err := decodeIndex(raw)
	mustNot(t, err)
	want := sampleIndex()
	if x.base != 1000 || x.next != 1004 || x.size != 8300 || !reflect.DeepEqual(x.index, want.index) ||
		!reflect.DeepEqual(x.history, want.history) || !reflect.DeepEqual(x.abortedBy, want.abortedBy) {
		t.Fatalf("%+v", x)
	}
	raw, err = os.ReadFile("testdata/golden/snapshot-v1")
	mustNot(t, err)
	table, at, err := decodeProducers(raw)
	mustNot(t, err)
	p := table.byID[9]
	if at != 1004 || len(table.byID) != 1 || p.epoch != 1 || p.lastSeq() != 5 || p.batches[0].firstSeq() != 4 || p.txnFirst != 1002 || p.lastSeen != 1_700_000_000_123 {
		t.Fatalf("%d, %+v", at, p)
	}
	raw, err = os.ReadFile("testdata/golden/cleaned-v1")
	mustNot(t, err)
	if x, err = decodeIndex(raw); err != nil || *x.mark() != (cleanMark{1_700_086_400_000}) || x.next != 3000 {
		t.Fatalf("%+v, %v", x, err)
	}
	raw, err = os.ReadFile("testdata/golden/swap-v1")
	mustNot(t, err)
	if s, err := decodeSwap(raw); err != nil || !reflect.DeepEqual(s, sampleSwap()) {
		t.Fatalf("%+v, %v", s, err)
	}
	raw, err = os.ReadFile("testdata/golden/start-v1")
	mustNot(t, err)
	if x, err = decodeIndex(raw); err != nil || x.kind != kindStart || x.base != 1000 || x.generation != 2 || x.flags != 0 {
		t.Fatalf("%+v, %v", x, err)
	}
}

func TestInspectShowsWhatAFileHolds(t *testing.T) {
	mem := vfs.NewMem()
	l, _ := rolledLog(t, mem)
	for _, s := range l.Segments() {
		n := 0
		rep, err := inspectSegment(mem, segmentPath(l.Log, s.Base), func(b BatchReport) bool {
			if b.CRC != nil || b.Problem != "" || b.Batch.BaseOffset() != s.Base+int64(n) {
				t.Fatalf("%+v", b)
			}
			n++
			return true
		})
		mustNot(t, err)
		if rep.Next != s.Next || rep.DataBytes != s.Bytes || rep.Problems != 0 || rep.Batches != n || (rep.Logical == s.Bytes) != s.Sealed {
			t.Fatalf("%+v, segment %+v", rep, s)
		}
		if !s.Sealed {
			continue
		}
		ix, err := inspectIndex(mem, indexPath(l.Log, s.Base))
		mustNot(t, err)
		if ix.Kind != IndexFile || ix.Segment.Next != s.Next || len(ix.Entries) == 0 || ix.Entries[0].Offset != s.Base {
			t.Fatalf("%+v", ix)
		}
	}
	s := l.Segments()[1]
	flipByte(t, mem, segmentPath(l.Log, s.Base), record.HeaderLen+5)
	rep, err := inspectSegment(mem, segmentPath(l.Log, s.Base), nil)
	if err != nil || rep.Problems != 1 || rep.Next != s.Next {
		t.Fatalf("%+v, %v", rep, err)
	}
	for name, want := range map[string]FileKind{
		"a/00000000000000000007.log": SegmentFile, "00000000000000000007.index": IndexFile, "x/start": StartFile,
		"7.log": UnknownFile, "00000000000000000007.log.tmp": UnknownFile, "0000000000000000000x.log": UnknownFile,
	} {
		if KindOf(name) != want {
			t.Errorf("%s is %v", name, KindOf(name))
		}
	}
}
