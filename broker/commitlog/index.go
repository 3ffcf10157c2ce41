package commitlog

import (
	"math"
	"sort"
)

// indexEntry marks the start of one batch of a segment.
//
//	all batches before pos have max timestamp <= maxBefore; maxBefore never falls
type indexEntry struct {
	rel       uint32 // base offset of the batch minus the base of the segment
	pos       uint32 // byte position of the batch
	maxBefore int64  // largest max timestamp of the batches before it, MinInt64 for none
}

const noTime = math.MinInt64

// indexDensity bounds an index whatever index.interval.bytes says: at position p two entries lie at
// least p/indexDensity apart. So the first 256 Ki entries may lie as dense as the batches do, and
// after that their number grows with the logarithm of the position: at most 1.6 million, 25 MiB, in a
// segment of 2 GiB of the smallest batches (without it 35 million, more than a file may have). A
// lookup then walks 8 KiB of headers at most. Half would walk 16 KiB, double would not fit into the
// memory that all indexes share. The default interval is not touched below 1 GiB.
const indexDensity = 1 << 18

// spacing is the smallest distance from the newest entry at which a batch at pos gets one.
func spacing(pos, interval int64) int64 { return max(interval, pos/indexDensity) }

// DefaultIndexInterval is index.interval.bytes of Kafka. At 16 bytes an entry the index takes
// 0.4 % of the segment; a lookup then walks at most 4 KiB of headers, which is one small read.
// Half would double the index for no fewer reads, double would double the bytes of each walk.
const DefaultIndexInterval = 4096

// maxSegmentBytes bounds positions: they are 32 bits wide, and a batch may lie past the limit of
// a segment that it alone fills.
const maxSegmentBytes = math.MaxInt32

// floorOffset is the last entry whose batch begins at or below rel, -1 if there is none.
func floorOffset(entries []indexEntry, rel int64) int {
	return sort.Search(len(entries), func(i int) bool { return int64(entries[i].rel) > rel }) - 1
}

// floorPos is the last entry at or below pos, -1 if there is none.
func floorPos(entries []indexEntry, pos int64) int {
	return sort.Search(len(entries), func(i int) bool { return int64(entries[i].pos) > pos }) - 1
}

// floorTime is the last entry before which every timestamp is below ts: the first record with
// timestamp >= ts is at or after it. -1 if there is none.
func floorTime(entries []indexEntry, ts int64) int {
	return sort.Search(len(entries), func(i int) bool { return entries[i].maxBefore >= ts }) - 1
}

// validEntries checks what lookups rely on: rising offsets and positions, times that never fall,
// the first entry at the start, and all of it inside the segment.
func validEntries(entries []indexEntry, offsets, size int64) bool {
	for i, e := range entries {
		if int64(e.rel) >= offsets || int64(e.pos) >= size {
			return false
		}
		if i == 0 {
			if e.rel != 0 || e.pos != 0 || e.maxBefore != noTime {
				return false
			}
			continue
		}
		if p := entries[i-1]; e.rel <= p.rel || e.pos <= p.pos || e.maxBefore < p.maxBefore {
			return false
		}
	}
	return len(entries) > 0 || offsets == 0
}
