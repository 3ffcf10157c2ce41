package commitlog

import (
	"math"
	"testing"

	"varve/broker/internal/vfs"
	"varve/broker/record"
)

// TestTheIndexOfTheLargestSegmentIsBoundedWhateverTheInterval fills 2 GiB with the smallest batches there
// are, at index.interval.bytes=1.
func TestTheIndexOfTheLargestSegmentIsBoundedWhateverTheInterval(t *testing.T) {
	const smallest = record.HeaderLen + 7
	mem := vfs.NewMem()
	mustNot(t, makeDataDir(mem, testDir))
	mustNot(t, mem.MkdirAll(partitionDir(0)))
	s := newSegment(&Env{}, partitionDir(0), 0, 1)
	widest, last := int64(0), int64(0)
	for pos, n := int64(0), int64(0); pos+smallest <= maxSegmentBytes; pos, n = pos+smallest, n+1 {
		s.addBatch(batchHead{pos: pos, size: smallest, base: n, next: n + 1, maxTime: n}, 1)
		if s.lastEntry == pos {
			widest, last = max(widest, pos-last), pos
		}
	}
	x := &indexFile{indexFooter: indexFooter{segmentMeta: s.meta, kind: kindSegment}, index: s.entries}
	b := x.encode()
	if len(b) > maxIndexBytes/8 || int64(len(b)) > indexCacheBytes {
		t.Errorf("index of %d bytes for %d entries", len(b), len(s.entries))
	}
	if widest > math.MaxInt32/indexDensity+2*smallest {
		t.Errorf("two entries lie %d bytes apart", widest)
	}
	mustNot(t, writeFileSynced(mem, partitionDir(0), s.indexName(), b, nil))
	back, err := readIndexFile(mem, s.indexName())
	if err != nil || len(back.index) != len(s.entries) || back.next != s.meta.next {
		t.Fatalf("it does not load again: %v", err)
	}
}
