package commitlog

import (
	"errors"
	"testing"

	"varve/broker/internal/vfs"
)

func txnLog(t *testing.T) testLog {
	t.Helper()
	return openTestLog(t, newTestEnv(t, testEnvConfig(vfs.NewMem())), Options{})
}

func (l testLog) wantStable(t *testing.T, hw, want int64) {
	t.Helper()
	if got := l.StableEnd(hw); got != want {
		t.Fatalf("HW %d: stable end %d, want %d", hw, got, want)
	}
}

func (l testLog) mustMark(t *testing.T, m Marker) AppendInfo {
	t.Helper()
	info, err := l.AppendMarker(m, 1, 5)
	mustNot(t, err)
	return info
}

func TestMarkerAtOrAboveHWHoldsTheStableEnd(t *testing.T) {
	l := txnLog(t)
	l.wantStable(t, 0, 0)
	l.fill(t, 1, 2)
	l.wantStable(t, 2, 2)
	l.mustAppend(t, 1, seqBatch{id: 7, txn: true, n: 3}.build()) // 2..4
	l.wantStable(t, 1, 1)
	l.wantStable(t, 5, 2)
	l.mustMark(t, Marker{ProducerID: 7, Commit: true}) // 5
	l.mustAppend(t, 1, seqBatch{id: 8, txn: true}.build())
	l.wantStable(t, 5, 2) // the marker is in the log, but a crash could take it
	l.wantStable(t, 6, 6)
	l.mustMark(t, Marker{ProducerID: 8}) // 7
	l.wantStable(t, 7, 6)
	l.wantStable(t, 8, 8)
	if n := l.unstable.Load(); n != 0 || l.mu.ended != nil {
		t.Fatalf("%d transactions are remembered, %v", n, l.mu.ended)
	}
}

func TestEndedTransactionsAreForgottenWithoutReaders(t *testing.T) {
	l := txnLog(t)
	for i := range 100 {
		l.mustAppend(t, 1, seqBatch{id: 7, txn: true, seq: int32(i)}.build())
		l.mustMark(t, Marker{ProducerID: 7, Commit: i%2 == 0})
		l.SetHW(l.LEO())
		if len(l.mu.ended) != 0 {
			t.Fatalf("%d are kept", len(l.mu.ended))
		}
	}
}

func TestTruncationBringsAnEndedTransactionBack(t *testing.T) {
	l := txnLog(t)
	l.mustAppend(t, 1, seqBatch{id: 7, txn: true}.build())
	l.mustMark(t, Marker{ProducerID: 7, Commit: true})
	l.wantStable(t, 1, 0)
	mustNot(t, l.TruncateTo(1))
	l.wantStable(t, 1, 0)
	if len(l.OpenTransactions(1<<60)) != 1 {
		t.Fatal("the transaction is not open again")
	}
}

func TestMarkerOfABumpedEpochEndsOneTransactionOnly(t *testing.T) {
	l := txnLog(t)
	l.mustAppend(t, 1, seqBatch{id: 7, epoch: 3, txn: true}.build())
	m := Marker{ProducerID: 7, ProducerEpoch: 4, Commit: true, Bumped: true}
	if info := l.mustMark(t, m); info.Duplicate || info.First != 1 {
		t.Fatalf("%+v", info)
	}
	// Sent again, because its answer got lost: nothing is written.
	if info := l.mustMark(t, m); !info.Duplicate || info.Last != 1 || l.LEO() != 2 {
		t.Fatalf("%+v, log end %d", info, l.LEO())
	}
	// Late: the next transaction has begun in the epoch that the marker carries.
	l.mustAppend(t, 1, seqBatch{id: 7, epoch: 4, txn: true}.build())
	if _, err := l.AppendMarker(m, 1, 0); !errors.Is(err, ErrInvalidProducerEpoch) {
		t.Fatalf("a late marker: %v", err)
	}
	// What comes late of the transaction before is fenced.
	if _, err := l.AppendLeader(seqBatch{id: 7, epoch: 3, seq: 1, txn: true}.build(), 1, 0); !errors.Is(err, ErrInvalidProducerEpoch) {
		t.Fatalf("a late batch: %v", err)
	}
	l.wantStable(t, 3, 2)
}

func TestHangingMarkerEndsOnlyTheTransactionThatWasSeen(t *testing.T) {
	l := txnLog(t)
	l.mustAppend(t, 1, seqBatch{id: 7, txn: true}.build())
	seen := l.OpenTransactions(1 << 60)
	if len(seen) != 1 || seen[0].ID != 7 || seen[0].TxnFirst != 0 || l.OpenTransactions(0) != nil {
		t.Fatalf("%+v", seen)
	}
	l.mustMark(t, Marker{ProducerID: 7, Commit: true})
	l.mustAppend(t, 1, seqBatch{id: 7, seq: 1, txn: true}.build()) // the next one
	if info := l.mustMark(t, Marker{ProducerID: 7, Hanging: true, First: seen[0].TxnFirst}); !info.Duplicate {
		t.Fatalf("%+v", info)
	}
	l.wantStable(t, 3, 2)
	if info := l.mustMark(t, Marker{ProducerID: 7, Hanging: true, First: 2}); info.Duplicate {
		t.Fatalf("%+v", info)
	}
	l.wantStable(t, 4, 4)
}

func TestTransactionBeginsOnlyUnderItsGuard(t *testing.T) {
	l := txnLog(t)
	client := func(b seqBatch, guard uint64) error {
		b.txn = true
		_, err := l.AppendClient(b.build(), 1, 0, guard)
		return err
	}
	want := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
	}
	want(client(seqBatch{id: 7}, 0), ErrInvalidTxnState)
	guard, needed := l.BeginVerification(7, 0, 0, 0)
	if !needed || guard == 0 {
		t.Fatal("an unknown producer needs no verification")
	}
	if again, _ := l.BeginVerification(7, 0, 0, 0); again != guard {
		t.Fatal("two guards for one transaction")
	}
	want(client(seqBatch{id: 7}, guard+1), ErrInvalidTxnState)
	want(client(seqBatch{id: 8}, guard), ErrInvalidTxnState) // somebody else's
	want(client(seqBatch{id: 7}, guard), nil)
	// Once it has begun, nothing more is asked.
	if _, needed := l.BeginVerification(7, 0, 1, 0); needed {
		t.Fatal("an open transaction needs verification")
	}
	want(client(seqBatch{id: 7, seq: 1}, 0), nil)

	// The transaction ends between the question and the append: the guard is gone.
	l.mustMark(t, Marker{ProducerID: 7, Commit: true})
	guard, _ = l.BeginVerification(7, 0, 2, 0)
	if !l.Verified(7, guard) {
		t.Fatal("a guard does not stand")
	}
	l.mustMark(t, Marker{ProducerID: 7})
	if l.Verified(7, guard) {
		t.Fatal("a guard survives a marker")
	}
	want(client(seqBatch{id: 7, seq: 2}, guard), ErrInvalidTxnState)
	l.wantStable(t, l.LEO(), l.LEO())
}

func TestLowestSequenceBeginsTheTransaction(t *testing.T) {
	l := txnLog(t)
	guard, _ := l.BeginVerification(7, 0, 0, 0)
	l.BeginVerification(7, 0, 5, 0)
	if _, err := l.AppendClient(seqBatch{id: 7, seq: 5, txn: true}.build(), 1, 0, guard); !errors.Is(err, ErrOutOfOrderSequence) {
		t.Fatalf("sequence 5 got in before 0: %v", err)
	}
	if _, err := l.AppendClient(seqBatch{id: 7, n: 5, txn: true}.build(), 1, 0, guard); err != nil {
		t.Fatal(err)
	}
	if _, err := l.AppendClient(seqBatch{id: 7, seq: 5, txn: true}.build(), 1, 0, guard); err != nil {
		t.Fatal(err)
	}
}

func TestVerificationsAreBounded(t *testing.T) {
	conf := testConfig()
	conf.MaxProducers = 50
	l := openTestLog(t, newTestEnv(t, testEnvConfig(vfs.NewMem())), Options{Config: conf})
	for id := range int64(1000) {
		guard, _ := l.BeginVerification(id, 0, 0, id)
		if n := len(l.mu.producers.verifying); n > 50 || !l.Verified(id, guard) {
			t.Fatalf("%d kept, the newest stands: %v", n, l.Verified(id, guard))
		}
	}
	c := newClock()
	c.advance(25 * 3600 * 1e9)
	l.ExpireProducers(c.Now())
	if n := len(l.mu.producers.verifying); n != 0 {
		t.Fatalf("%d never expire", n)
	}
}

// TestResetAtTheTierBorderHasNoOpenTransaction begins a log with the snapshot of a tiered segment whose
// last transaction ended in the segment after it, which is lost.
func TestResetAtTheTierBorderHasNoOpenTransaction(t *testing.T) {
	l := txnLog(t)
	l.mustAppend(t, 1, seqBatch{id: 7, txn: true, n: 3}.build())
	snapshot := l.mu.producers.encode(3)
	mem := vfs.NewMem()
	reset := openTestLog(t, newTestEnv(t, testEnvConfig(mem)), Options{})
	mustNot(t, reset.ResetTo(3, nil, snapshot))
	reset.wantStable(t, 3, 3)
	again := openTestLog(t, newTestEnv(t, testEnvConfig(mem.CrashClone(nil))), Options{})
	again.wantStable(t, 3, 3)
	if got := again.ProducerStates(); len(got) != 1 || got[0].ID != 7 || got[0].LastSequence != 2 {
		t.Fatalf("producers %+v", got)
	}
}
