package gossip

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var fullNode = Node{ID: 7, Epoch: 1 << 40, Rack: "rack-b", Kafka: "10.0.0.7:9092", Admin: "10.0.0.7:9644", Internal: "10.0.0.7:9093"}

// golden reads testdata/name: the bytes of one record, in hex. A file is never changed, because
// brokers that wrote it may be running.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNodeRecordKeepsItsBytes(t *testing.T) {
	got, err := fullNode.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(hex.EncodeToString(golden(t, "node_v1.hex")), hex.EncodeToString(got)); diff != "" {
		t.Errorf("encoded record (-golden +now):\n%s", diff)
	}
	back, err := DecodeNode(golden(t, "node_v1.hex"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fullNode, back); diff != "" {
		t.Errorf("decoded golden record (-want +got):\n%s", diff)
	}
}

func TestFieldsOfLaterReleasesAreSkipped(t *testing.T) {
	b := append(golden(t, "node_v1.hex"), 3, 'n', 'e', 'w')
	got, err := DecodeNode(b)
	if err != nil || got != fullNode {
		t.Errorf("DecodeNode = %+v, %v; want %+v", got, err, fullNode)
	}
}

func TestBadNodeRecordsAreRefused(t *testing.T) {
	good := golden(t, "node_v1.hex")
	version := append([]byte{2}, good[1:]...)
	noID := append([]byte{1, 0, 0, 0, 0}, good[5:]...)
	negative := append([]byte{1, 0xff, 0xff, 0xff, 0xff}, good[5:]...)
	for name, c := range map[string]struct {
		record []byte
		want   error
	}{
		"empty":             {nil, ErrRecordCorrupt},
		"unknown version":   {version, ErrRecordVersion},
		"id 0":              {noID, ErrRecordCorrupt},
		"negative id":       {negative, ErrRecordCorrupt},
		"513 bytes":         {append(good, make([]byte, MaxNodeRecord+1-len(good))...), ErrRecordTooLarge},
		"header cut":        {good[:12], ErrRecordCorrupt},
		"text cut":          {good[:len(good)-1], ErrRecordCorrupt},
		"last text missing": {good[:len(good)-1-len(fullNode.Internal)], ErrRecordCorrupt},
	} {
		if _, err := DecodeNode(c.record); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := DecodeNode(append(good, make([]byte, MaxNodeRecord-len(good))...)); err != nil {
		t.Errorf("a record of exactly %d bytes: %v", MaxNodeRecord, err)
	}
}

func TestRecordsOverTheLimitAreNotWritten(t *testing.T) {
	for name, n := range map[string]Node{
		"one long text":  {ID: 1, Rack: strings.Repeat("r", 256)},
		"together":       {ID: 1, Rack: strings.Repeat("r", 255), Kafka: strings.Repeat("k", 255)},
		"one byte above": {ID: 1, Rack: strings.Repeat("r", 255), Kafka: strings.Repeat("k", 512-13-4-255+1)},
	} {
		if b, err := n.Encode(); !errors.Is(err, ErrRecordTooLarge) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	last := Node{ID: 1, Rack: strings.Repeat("r", 255), Kafka: strings.Repeat("k", 512-13-4-255)}
	if b, err := last.Encode(); err != nil || len(b) != MaxNodeRecord {
		t.Errorf("the largest record: %d bytes, %v", len(b), err)
	}
	if _, err := (Node{}).Encode(); err == nil {
		t.Error("a node without an id was encoded")
	}
}

func FuzzNodeRecord(f *testing.F) {
	f.Add(golden(f, "node_v1.hex"))
	f.Add([]byte{})
	f.Add([]byte{1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255})
	f.Add([]byte{2, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := DecodeNode(b)
		if err != nil {
			return
		}
		again, err := n.Encode()
		if err != nil {
			t.Fatalf("%+v was decoded and cannot be encoded: %v", n, err)
		}
		if len(again) > len(b) || string(again) != string(b[:len(again)]) {
			t.Fatalf("record %x came back as %x", b, again)
		}
	})
}
