package group

import (
	"fmt"
	"testing"
)

// BenchmarkReplay is what a load does with committed offsets: 200 groups, a million offsets, one Apply
// an operation. A million have to be served in under 5 s after a restart.
func BenchmarkReplay(b *testing.B) {
	w := newWorld(b)
	const groups = 200
	ids := make([]string, groups)
	for i := range ids {
		ids[i] = fmt.Sprint("consumer-group-", i)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		r := offsetRecord(ids[i%groups], int32(i/groups%5000), w.now)
		if err := w.m.Apply(r, infoOf(i)); err != nil {
			b.Fatal(err)
		}
	}
}
