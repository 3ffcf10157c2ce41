package partition

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"varve/broker/record"
)

// txnHistory writes interleaved transactions of several producers, and plain batches, through a
// replica, and remembers what read_committed consumers must see.
type txnHistory struct {
	w    *world
	rng  *rand.Rand
	seq  map[int64]int32
	open map[int64][]int64 // producer -> offsets of its open transaction
	// committed holds every offset with a record that consumers may see.
	committed []int64
}

func newTxnHistory(w *world, seed uint64) *txnHistory {
	return &txnHistory{w: w, rng: rand.New(rand.NewPCG(seed, seed)), seq: map[int64]int32{}, open: map[int64][]int64{}}
}

func (h *txnHistory) step() {
	id := h.rng.Int64N(5)
	switch what := h.rng.IntN(10); {
	case what < 6:
		h.produce(id)
	case what < 9 && len(h.open[id]) > 0:
		h.end(id, h.rng.IntN(2) == 0)
	default:
		l, _ := h.w.r.Log()
		at := l.LEO()
		h.w.append(1, 1, 200)
		h.committed = append(h.committed, at)
	}
}

func (h *txnHistory) produce(id int64) {
	h.w.t.Helper()
	guard, _, err := h.w.r.BeginVerification(id, 0, h.seq[id])
	if err != nil {
		h.w.t.Fatal(err)
	}
	b := record.NewBuilder(record.None)
	b.SetProducer(id, 0, h.seq[id])
	b.SetTransactional()
	b.Append(record.Record{Timestamp: h.w.now.UnixMilli(), Value: make([]byte, 200)})
	batch, err := b.Build()
	if err != nil {
		h.w.t.Fatal(err)
	}
	c := newCollector()
	info, parked, err := h.w.r.AppendClient(batch, guard, &Ack{Owner: c})
	if err != nil {
		h.w.t.Fatal(err)
	}
	if parked {
		<-c.got
	}
	h.seq[id]++
	h.open[id] = append(h.open[id], info.First)
	h.w.r.check()
}

func (h *txnHistory) end(id int64, commit bool) {
	h.w.t.Helper()
	c := newCollector()
	parked, err := h.w.r.AppendMarker(Marker{ProducerID: id, Commit: commit}, &Ack{Owner: c})
	if err != nil {
		h.w.t.Fatal(err)
	}
	if parked {
		<-c.got
	}
	if commit {
		h.committed = append(h.committed, h.open[id]...)
	}
	delete(h.open, id)
	h.w.r.check()
}

// readCommitted reads [from, end) as a consumer does, from local disk or from the tier.
func (h *txnHistory) readCommitted(from, end int64, cold bool) (offsets []int64) {
	h.w.t.Helper()
	for from < end {
		b, aborted, err := h.answer(from, cold)
		if err != nil {
			h.w.t.Fatal(err)
		}
		skip := map[int64]bool{}
		for len(b) > 0 {
			batch, err := record.Parse(b)
			if err != nil {
				h.w.t.Fatal(err)
			}
			b = b[batch.Len():]
			id := batch.ProducerID()
			for _, a := range aborted {
				if a.ProducerID == id && a.First <= batch.LastOffset() && batch.LastOffset() < a.Last {
					skip[id] = true
				}
			}
			at := batch.BaseOffset()
			switch {
			case batch.Attributes().Control():
				delete(skip, id)
			case at >= from && at < end && (!batch.Attributes().Transactional() || !skip[id]):
				offsets = append(offsets, at)
			}
			from = max(from, batch.NextOffset())
		}
	}
	return offsets
}

func (h *txnHistory) answer(from int64, cold bool) (b []byte, aborted []AbortedTxn, err error) {
	size := 300 + h.rng.IntN(5000)
	if !cold {
		hot, err := h.w.r.ReadHot(from, size, true, true)
		if err != nil || hot.Span == nil {
			return nil, nil, errors.Join(err, fmt.Errorf("nothing to read at %d, bounds %+v", from, hot.Bounds))
		}
		defer hot.Span.Release()
		b, err = hot.Span.ReadAll(nil)
		return b, hot.Aborted, err
	}
	d, err := h.w.r.ReadCold(h.w.t.Context(), from, size, true)
	if err != nil {
		return nil, nil, err
	}
	defer d.Release()
	for _, part := range d.Buffers {
		b = append(b, part...)
	}
	aborted, err = h.w.r.ColdAborted(h.w.t.Context(), from, d.Next)
	return b, aborted, err
}

// TestReadCommittedIsTheSameHotAndCold runs random transactions over many segments while they go to
// the tier, with some open for long. From every offset a read_committed consumer must see the committed
// records and nothing else, from local disk and from the tier; and nothing is tiered above LSO.
func TestReadCommittedIsTheSameHotAndCold(t *testing.T) {
	for seed := range uint64(4) {
		w := newWorld(t, nil)
		h := newTxnHistory(w, seed)
		for range 15 {
			for range 20 {
				h.step()
			}
			w.mustWork()
			if end, lso := w.r.TieredEnd(), w.r.Bounds().LSO; end > lso {
				t.Fatalf("seed %d: tiered to %d, LSO %d", seed, end, lso)
			}
		}
		slices.Sort(h.committed)
		lso, tiered := w.r.Bounds().LSO, w.r.TieredEnd()
		if tiered < 20 {
			t.Fatalf("seed %d: only %d offsets are tiered", seed, tiered)
		}
		for from := int64(0); from < lso; from++ {
			check := func(end int64, cold bool) {
				want := between(h.committed, from, end)
				if got := h.readCommitted(from, end, cold); !slices.Equal(got, want) {
					t.Fatalf("seed %d, from %d to %d, cold %v: read %v, want %v", seed, from, end, cold, got, want)
				}
			}
			check(min(lso, from+40), false)
			if from < tiered {
				check(min(tiered, from+40), true)
			}
		}
	}
}

func between(sorted []int64, from, end int64) []int64 {
	i, _ := slices.BinarySearch(sorted, from)
	j, _ := slices.BinarySearch(sorted, end)
	return sorted[i:j]
}

// TestOpenTransactionHoldsUploadsAndReaders has one transaction open below everything else.
func TestOpenTransactionHoldsUploadsAndReaders(t *testing.T) {
	w := newWorld(t, nil)
	h := newTxnHistory(w, 1)
	h.produce(3)
	w.append(60, 1, 200) // several segments, sealed
	w.mustWork()
	if b := w.r.Bounds(); b.LSO != 0 || b.HW != 61 || w.r.TieredEnd() != 0 {
		t.Fatalf("%+v, tiered to %d", b, w.r.TieredEnd())
	}
	if got, err := w.r.ReadHot(0, 1<<20, true, true); err != nil || got.Span != nil {
		t.Fatalf("a reader got something of an open transaction, %v", err)
	}
	w.restart()
	if _, err := w.r.Log(); err != nil {
		t.Fatal(err)
	}
	if b := w.r.Bounds(); b.LSO != 0 {
		t.Fatalf("after a restart: %+v", b)
	}
	open := w.r.OpenTransactions(w.now.Add(time.Second))
	if len(open) != 1 || open[0].ID != 3 || open[0].TxnFirst != 0 {
		t.Fatalf("open transactions: %+v", open)
	}
	h.end(3, false)
	w.mustWork()
	if b := w.r.Bounds(); b.LSO != 62 || w.r.TieredEnd() == 0 {
		t.Fatalf("after the end: %+v, tiered to %d", b, w.r.TieredEnd())
	}
}
