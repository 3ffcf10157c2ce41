package integration

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Records of the crash test all have one size, so that every batch of one kind has: a stale batch
// in a recycled file then lies exactly where the next one is looked for.
const (
	crashValue   = 1000
	crashPerPage = 16 // records of a batch
)

// place is one partition.
type place struct {
	topic     string
	partition int32
}

func (p place) String() string { return fmt.Sprintf("%s/%d", p.topic, p.partition) }

// crashRecord is the value of a record: who wrote it, as which of its records and where to, and a
// filler that all of this decides.
func crashRecord(at place, producer uint8, seq uint64) []byte {
	v := make([]byte, crashValue)
	fillCrashRecord(v, at, recordID(producer, seq))
	return v
}

// recordID is never 0.
func recordID(producer uint8, seq uint64) uint64 { return uint64(producer)<<48 | (seq + 1) }

func producerOf(id uint64) uint8 { return uint8(id >> 48) }

func fillCrashRecord(v []byte, at place, id uint64) {
	binary.BigEndian.PutUint64(v, id)
	n := copy(v[8:], at.String())
	x := id*0x9e3779b97f4a7c15 | 1
	for i := 8 + n; i < len(v); i++ {
		if i%8 == 0 {
			x ^= x << 13 // xorshift64
			x ^= x >> 7
			x ^= x << 17
		}
		v[i] = byte(x >> (i % 8 * 8))
	}
}

// history is everything that producers and consumers were ever told, and what of it cannot be.
type history struct {
	mu     sync.Mutex
	places map[place]*placeHistory
	faults []string
	acks   int
	reads  int
}

type placeHistory struct {
	at    []uint64         // by offset: the record that an ack or a read put there, 0 for none
	acked []bool           // by offset
	of    map[uint64]int64 // where each record is
	last  map[uint8]int64  // by producer: its last acknowledged offset
	end   int64            // after the last offset that a consumer read
	gaps  int64            // end of the furthest jump of a consumer over what retention took
}

func newHistory() *history { return &history{places: map[place]*placeHistory{}} }

// maxFaults is how many faults are kept: one is enough to fail, twenty show the pattern.
const maxFaults = 20

func (h *history) faultLocked(format string, args ...any) {
	if len(h.faults) < maxFaults {
		h.faults = append(h.faults, fmt.Sprintf(format, args...))
	}
}

func (h *history) fault(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faultLocked(format, args...)
}

// firstFaults empties the list.
func (h *history) firstFaults() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.faults
	h.faults = nil
	return out
}

func (h *history) ofLocked(at place) *placeHistory {
	p := h.places[at]
	if p == nil {
		p = &placeHistory{of: map[uint64]int64{}, last: map[uint8]int64{}}
		h.places[at] = p
	}
	return p
}

// sawLocked notes that record id is at offset: one record an offset, one offset a record.
func (h *history) sawLocked(at place, offset int64, id uint64, how string) *placeHistory {
	p := h.ofLocked(at)
	for int64(len(p.at)) <= offset {
		p.at, p.acked = append(p.at, 0), append(p.acked, false)
	}
	switch was := p.at[offset]; {
	case was == 0:
		p.at[offset] = id
	case was != id:
		h.faultLocked("%s@%d: %s record %x, it was %x before", at, offset, how, id, was)
	}
	if was, ok := p.of[id]; ok && was != offset {
		h.faultLocked("%s@%d: %s record %x, which is at %d too", at, offset, how, id, was)
	}
	p.of[id] = offset
	return p
}

// acked notes that a producer was told that its record is at offset.
func (h *history) acked(at place, offset int64, id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.sawLocked(at, offset, id, "acknowledged")
	p.acked[offset] = true
	who := producerOf(id)
	if last, ok := p.last[who]; ok && last >= offset {
		h.faultLocked("%s@%d: producer %d was told this offset after %d", at, offset, who, last)
	}
	p.last[who] = offset
	h.acks++
}

// read notes what a consumer got.
func (h *history) read(r *kgo.Record, scratch []byte) {
	at := place{r.Topic, r.Partition}
	if len(r.Value) != crashValue {
		h.fault("%s@%d: a value of %d bytes was read, all have %d", at, r.Offset, len(r.Value), crashValue)
		return
	}
	id := binary.BigEndian.Uint64(r.Value)
	fillCrashRecord(scratch, at, id)
	same := string(scratch) == string(r.Value)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !same {
		h.faultLocked("%s@%d: the value that was read says record %x and is not what was written", at, r.Offset, id)
		return
	}
	p := h.sawLocked(at, r.Offset, id, "read")
	p.end = max(p.end, r.Offset+1)
	h.reads++
}

// jumped notes that a consumer had to go on at offset to: retention must have taken what is below.
func (h *history) jumped(at place, to int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.ofLocked(at)
	p.gaps = max(p.gaps, to)
}

// count is how many records were acknowledged and read so far.
func (h *history) count() (acks, reads int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.acks, h.reads
}

// ackedBy is how many records of one producer were acknowledged last: its offsets added up, which
// grow with each.
func (h *history) ackedBy(producer uint8) (sum int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.places {
		if last, ok := p.last[producer]; ok {
			sum += last + 1
		}
	}
	return sum
}

// ackedEnd is the offset after the last one that an ack or a read named.
func (h *history) ackedEnd(at place) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return int64(len(h.ofLocked(at).at))
}

// readEnd is the offset after the last one that a consumer read.
func (h *history) readEnd(at place) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ofLocked(at).end
}

// finish compares a partition's final content, the records of [start, end) as ids in order, with
// all that was ever told.
func (h *history) finish(at place, start, end int64, final []uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.ofLocked(at)
	if int64(len(final)) != end-start {
		h.faultLocked("%s: %d records in [%d, %d)", at, len(final), start, end)
		return
	}
	if p.gaps > start {
		h.faultLocked("%s: a consumer was sent on to %d, but the log starts at %d", at, p.gaps, start)
	}
	for offset := end; offset < int64(len(p.at)); offset++ {
		if p.at[offset] != 0 {
			h.faultLocked("%s@%d: record %x is gone (acknowledged: %t); the log ends at %d", at, offset, p.at[offset], p.acked[offset], end)
			break
		}
	}
	order := map[uint8]uint64{}
	for i, id := range final {
		offset := start + int64(i)
		if offset < int64(len(p.at)) && p.at[offset] != 0 && p.at[offset] != id {
			h.faultLocked("%s@%d: record %x at the end, it was %x before (acknowledged: %t)", at, offset, id, p.at[offset], p.acked[offset])
		}
		if who := producerOf(id); order[who] >= id {
			h.faultLocked("%s@%d: record %x of producer %d comes after its %x", at, offset, id, who, order[who])
		}
		order[producerOf(id)] = id
	}
}
