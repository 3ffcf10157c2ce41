package integration

import (
	"bytes"
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"varve/integration/harness"
)

// TestUnpackedObjectsAreTheSegments compares `lz4 -d` of every cold object with the batches of its
// offsets as they were fetched from local disk, and then with the same fetched from the objects.
func TestUnpackedObjectsAreTheSegments(t *testing.T) {
	harness.Need(t, "lz4", "lz4")
	b := sharedBroker(t)
	const topic = "unpacked"
	b.CreateTopic(t, topic, int32(len(codecs)), harness.Warm)
	end := int64(0)
	for _, set := range [][]harness.Record{harness.Set("first"), harness.Set("second")} { // a batch and a segment each
		for p, codec := range codecs {
			kgoProduce(t, b, topic, int32(p), codec, set)
		}
		end += int64(len(set))
	}
	raw := b.Dial(t)
	hot := map[int32][]byte{}
	for p := range int32(len(codecs)) {
		hot[p] = harness.FetchLog(t, raw, topic, p, 0, end)
	}
	b.Flush(t, topic)
	unpacked := map[int32][]byte{}
	objects := 0
	for _, s := range sortedSegments(b.Segments(t, topic)) {
		if s.Active || s.Next == s.First {
			continue
		}
		object := harness.Output(t, nil, "lz4", "-dc", b.Object(t, topic, s))
		if int64(len(object)) != s.Bytes {
			t.Errorf("%s: %d bytes unpacked, the segment has %d", s.Key, len(object), s.Bytes)
		}
		if next, err := harness.NextOffset(object); err != nil || next != s.Next {
			t.Errorf("%s: offsets %d to %d: %v, unpacked they end at %d", s.Key, s.First, s.Next, err, next)
		}
		unpacked[s.Partition] = append(unpacked[s.Partition], object...)
		objects++
	}
	if objects < 2*len(codecs) {
		t.Errorf("%d objects for %d partitions", objects, len(codecs))
	}
	for p, want := range hot {
		if !bytes.Equal(unpacked[p], want) {
			t.Errorf("partition %d: the objects hold %d bytes that are not the %d bytes of the log", p, len(unpacked[p]), len(want))
		}
	}
	b.AlterTopic(t, topic, harness.Cold)
	b.GoCold(t, topic, 0)
	for p, want := range hot {
		if got := harness.FetchLog(t, raw, topic, p, 0, end); !bytes.Equal(got, want) {
			t.Errorf("partition %d: %d bytes fetched cold differ from %d fetched hot", p, len(got), len(want))
		}
	}
}

func sortedSegments(segments []harness.TierSegment) []harness.TierSegment {
	slices.SortFunc(segments, func(x, y harness.TierSegment) int {
		return cmp.Or(cmp.Compare(x.Partition, y.Partition), cmp.Compare(x.First, y.First))
	})
	return segments
}

// TestReadsCrossTheBorderOfTheTiers reads a partition whose older half is in the store and whose
// newer half is on local disk, with every client, and from every offset.
func TestReadsCrossTheBorderOfTheTiers(t *testing.T) {
	b := sharedBroker(t)
	const topic, n = "border", 24
	b.CreateTopic(t, topic, 1, harness.Edge)
	var values [][]byte
	for i := range n {
		values = append(values, harness.Payload(uint64(i), 200<<10))
	}
	b.Produce(t, topic, 0, values...)
	harness.Eventually(t, harness.Late, "the older half leaves the disk", func() error {
		p := b.Tier(t, topic).Partitions[0]
		if p.LocalStart.Offset == 0 || p.LocalStart.Offset > p.TieredEnd.Offset || p.LocalStart.Offset >= n {
			return fmt.Errorf("local start %d, tiered end %d", p.LocalStart.Offset, p.TieredEnd.Offset)
		}
		return nil
	})
	want := b.Consume(t, topic, 0, 0, n)
	for i, r := range want {
		if !bytes.Equal(r.Value, values[i]) || r.Offset != int64(i) {
			t.Fatalf("record %d at offset %d is not what was produced", i, r.Offset)
		}
	}
	raw := b.Dial(t)
	log := harness.FetchLog(t, raw, topic, 0, 0, n)
	for from := range int64(n) {
		if got := harness.FetchLog(t, raw, topic, 0, from, n); !bytes.HasSuffix(log, got) {
			t.Errorf("from offset %d: %d bytes that are not the end of the log", from, len(got))
		}
	}
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			c.available(t)
			all := harness.Expected{0: want}
			if err := harness.Diff(c.view(all), c.consume(t, b, topic, counts(all))); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestColdcatPrintsWhatAConsumerReads runs scripts/coldcat.py on the bucket's directory and
// compares each line with the record that a consumer got.
func TestColdcatPrintsWhatAConsumerReads(t *testing.T) {
	harness.Need(t, "lz4", "lz4")
	harness.Need(t, "python3", "python3")
	b := sharedBroker(t)
	const topic = "coldcat"
	shown := []string{"none", "gzip", "lz4"} // Python's standard library has no other codec
	b.CreateTopic(t, topic, int32(len(shown)), harness.Cold)
	set := slices.DeleteFunc(harness.Set("coldcat"), func(r harness.Record) bool { return len(r.Value) > 64<<10 }) // Python is slow
	set = append(set, harness.Record{
		Key: []byte("tab\tand\nline"), Value: []byte("back\\slash \u2028 ü \x7f \xff\xfe"), Time: time.Now().UnixMilli(),
	})
	for p, codec := range shown {
		kgoProduce(t, b, topic, int32(p), codec, set)
	}
	b.GoCold(t, topic, 0)
	out := harness.Output(t, nil, "python3", filepath.Join(harness.Root(), "scripts", "coldcat.py"), b.Bucket, topic)
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	for p := range int32(len(shown)) {
		for _, r := range b.Consume(t, topic, p, 0, int64(len(set))) {
			if len(lines) == 0 {
				t.Fatalf("partition %d: coldcat ends before offset %d", p, r.Offset)
			}
			if want := coldcatLine(r); lines[0] != want {
				t.Fatalf("partition %d: coldcat prints\n%.300q, want\n%.300q", p, lines[0], want)
			}
			lines = lines[1:]
		}
	}
	if len(lines) > 0 {
		t.Errorf("coldcat prints %d lines more, the first is %.300q", len(lines), lines[0])
	}
}

func coldcatLine(r harness.Record) string {
	at := time.UnixMilli(r.Time).UTC().Format("2006-01-02T15:04:05.000Z")
	return fmt.Sprintf("%d\t%s\t%s\t%s", r.Offset, at, coldcatText(r.Key), coldcatText(r.Value))
}

// coldcatText escapes as coldcat.py says it does: null is \N; a backslash, control characters, line
// separators and bytes that are not UTF-8 are escaped.
func coldcatText(b []byte) string {
	if b == nil {
		return `\N`
	}
	short := map[rune]string{'\\': `\\`, '\t': `\t`, '\n': `\n`, '\r': `\r`}
	var out strings.Builder
	for len(b) > 0 {
		c, size := utf8.DecodeRune(b)
		esc, isShort := short[c]
		switch {
		case c == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, `\x%02x`, b[0])
		case isShort:
			out.WriteString(esc)
		case c < 0x20 || c >= 0x7f && c <= 0x9f:
			fmt.Fprintf(&out, `\x%02x`, c)
		case c == 0x2028 || c == 0x2029:
			fmt.Fprintf(&out, `\u%04x`, c)
		default:
			out.WriteRune(c)
		}
		b = b[size:]
	}
	return out.String()
}
