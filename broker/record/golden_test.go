package record

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestGoldenBatchesStayReadable reads what franz-go, this package and the gzip, lz4 and zstd
// programs once wrote.
func TestGoldenBatchesStayReadable(t *testing.T) {
	text, err := os.ReadFile("testdata/batches.hex")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		seen++
		t.Run(f[0], func(t *testing.T) {
			raw := unhex(t, f[2])
			b, err := Parse(raw)
			if err != nil || len(b) != len(raw) {
				t.Fatal(b, err)
			}
			if err := ValidateProduce(b, anyTime); err != nil {
				t.Error(err)
			}
			if got := b.Attributes().Codec().String(); got != f[1] {
				t.Errorf("codec %s, want %s", got, f[1])
			}
			got, err := collect(b, testLimit)
			if diff := cmp.Diff(sample(), got); diff != "" || err != nil {
				t.Error(err, diff)
			}
		})
	}
	if seen < 14 {
		t.Errorf("%d golden batches, 14 were written", seen)
	}
}
