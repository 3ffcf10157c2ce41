package commitlog

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"varve/broker/internal/vfs"
	"varve/broker/record"
)

type seqBatch struct {
	id    int64
	epoch int16
	seq   int32
	n     int
	txn   bool
}

func (s seqBatch) build() record.Batch {
	b := record.NewBuilder(record.None)
	b.SetProducer(s.id, s.epoch, s.seq)
	if s.txn {
		b.SetTransactional()
	}
	for range max(s.n, 1) {
		b.Append(record.Record{Timestamp: 5, Value: []byte("v")})
	}
	batch, err := b.Build()
	if err != nil {
		panic(err)
	}
	return append(record.Batch(nil), batch...)
}

func TestSequenceRulesAreKafkas(t *testing.T) {
	const top = math.MaxInt32
	cases := []struct {
		name  string
		have  []seqBatch
		next  seqBatch
		err   error
		dupOf int64 // first offset of the original, -1 for a new append
	}{
		{"unknown producer may begin anywhere", nil, seqBatch{id: 1, seq: 41}, nil, -1},
		{"the next sequence", []seqBatch{{id: 1, n: 3}}, seqBatch{id: 1, seq: 3}, nil, -1},
		{"a gap", []seqBatch{{id: 1, n: 3}}, seqBatch{id: 1, seq: 4}, ErrOutOfOrderSequence, 0},
		{"an old sequence that is not a retry", []seqBatch{{id: 1, n: 3}}, seqBatch{id: 1, seq: 1}, ErrOutOfOrderSequence, 0},
		{"a retry", []seqBatch{{id: 1, n: 3}}, seqBatch{id: 1, n: 3}, nil, 0},
		{"a retry of another size", []seqBatch{{id: 1, n: 3}}, seqBatch{id: 1, n: 2}, ErrOutOfOrderSequence, 0},
		{"a retry of the fifth last", []seqBatch{{id: 1}, {id: 1, seq: 1}, {id: 1, seq: 2}, {id: 1, seq: 3}, {id: 1, seq: 4}}, seqBatch{id: 1}, nil, 0},
		{"a retry of the sixth last", []seqBatch{{id: 1}, {id: 1, seq: 1}, {id: 1, seq: 2}, {id: 1, seq: 3}, {id: 1, seq: 4}, {id: 1, seq: 5}}, seqBatch{id: 1}, ErrOutOfOrderSequence, 0},
		{"wrap to 0", []seqBatch{{id: 1, seq: top - 1, n: 2}}, seqBatch{id: 1, seq: 0}, nil, -1},
		{"wrap inside a batch", []seqBatch{{id: 1, seq: top - 1, n: 4}}, seqBatch{id: 1, seq: 2}, nil, -1},
		{"a retry of the wrapped batch", []seqBatch{{id: 1, seq: top - 1, n: 4}}, seqBatch{id: 1, seq: top - 1, n: 4}, nil, 0},
		{"a wrapped gap", []seqBatch{{id: 1, seq: top, n: 1}}, seqBatch{id: 1, seq: 1}, ErrOutOfOrderSequence, 0},
		{"a new epoch begins with 0", []seqBatch{{id: 1, n: 3}}, seqBatch{id: 1, epoch: 1}, nil, -1},
		{"a new epoch that does not", []seqBatch{{id: 1, n: 3}}, seqBatch{id: 1, epoch: 1, seq: 3}, ErrOutOfOrderSequence, 0},
		{"an old epoch", []seqBatch{{id: 1, epoch: 2}}, seqBatch{id: 1, epoch: 1}, ErrInvalidProducerEpoch, 0},
		{"a retry in an older epoch is fenced", []seqBatch{{id: 1, n: 3}, {id: 1, epoch: 1}}, seqBatch{id: 1, n: 3}, ErrInvalidProducerEpoch, 0},
		{"producers do not mix", []seqBatch{{id: 1, n: 3}, {id: 2, n: 9}}, seqBatch{id: 1, seq: 3}, nil, -1},
		{"a plain batch in an open transaction", []seqBatch{{id: 1, txn: true}}, seqBatch{id: 1, seq: 1}, ErrInvalidTxnState, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			mem := vfs.NewMem()
			e := newTestEnv(t, testEnvConfig(mem))
			l := openTestLog(t, e, Options{})
			for _, h := range c.have {
				l.mustAppend(t, 1, h.build())
			}
			check := func(l *Log) {
				t.Helper()
				end := l.LEO()
				info, err := l.AppendLeader(c.next.build(), 1, 0)
				if !errors.Is(err, c.err) || (c.err == nil) != (err == nil) {
					t.Fatalf("got %v, want %v", err, c.err)
				}
				if c.err != nil {
					if l.LEO() != end {
						t.Fatal("a refused batch was appended")
					}
					return
				}
				if want := c.dupOf >= 0; info.Duplicate != want {
					t.Fatalf("%+v", info)
				}
				if c.dupOf >= 0 && (info.First != c.dupOf || info.Last != c.dupOf+int64(max(c.next.n, 1))-1 || l.LEO() != end) {
					t.Fatalf("%+v", info)
				}
			}
			// The same answers after recovery, with and without checkpoint, and after a clean stop.
			l.w.wait(l.LEO())
			crashed := mem.CrashClone(nil)
			ck, _ := l.Checkpoint()
			mustNot(t, l.Roll("test"))
			mustNot(t, l.Close())
			sealedCK, _ := l.Checkpoint()
			sealed := mem.CrashClone(nil)
			for _, o := range []struct {
				fs *vfs.Mem
				o  Options
			}{
				{crashed.CrashClone(nil), Options{}},
				{crashed.CrashClone(nil), Options{Checkpoint: &ck}},
				{crashed.CrashClone(nil), Options{Checkpoint: &ck, Clean: true}},
				{sealed.CrashClone(nil), Options{}},
				{sealed.CrashClone(nil), Options{Checkpoint: &ck}},
				{sealed.CrashClone(nil), Options{Checkpoint: &sealedCK, Clean: true}},
			} {
				check(openTestLog(t, newTestEnv(t, testEnvConfig(o.fs)), o.o).Log)
			}
		})
	}
}

func TestBatchesOfOneAppendCheckEachOther(t *testing.T) {
	e := newTestEnv(t, testEnvConfig(vfs.NewMem()))
	l := openTestLog(t, e, Options{})
	two := append(seqBatch{id: 1, n: 2}.build(), seqBatch{id: 1, seq: 2}.build()...)
	if info, err := l.AppendLeader(two, 1, 0); err != nil || info.First != 0 || info.Last != 2 {
		t.Fatalf("%+v, %v", info, err)
	}
	bad := append(seqBatch{id: 2, n: 2}.build(), seqBatch{id: 2, seq: 3}.build()...)
	if _, err := l.AppendLeader(bad, 1, 0); !errors.Is(err, ErrOutOfOrderSequence) || l.LEO() != 3 {
		t.Fatalf("%v, end %d", err, l.LEO())
	}
}

func TestTransactionsHoldTheLSOAndLeaveTheirAbortedRanges(t *testing.T) {
	mem := vfs.NewMem()
	e := newTestEnv(t, testEnvConfig(mem))
	l := openTestLog(t, e, Options{})
	lso := func(want int64) {
		t.Helper()
		if got := l.LSO(); got != want {
			t.Fatalf("LSO %d, want %d", got, want)
		}
	}
	l.fill(t, 1, 2)
	l.mustAppend(t, 1, seqBatch{id: 7, txn: true, n: 3}.build()) // 2..4
	l.mustAppend(t, 1, seqBatch{id: 8, txn: true}.build())       // 5
	lso(2)
	l.fill(t, 1, 30) // roll
	l.mustAppend(t, 1, record.NewEndTxnMarker(false, 7, 0, 3, 0))
	lso(5)
	l.mustAppend(t, 1, record.NewEndTxnMarker(true, 8, 0, 3, 0))
	lso(l.LEO())
	if _, err := l.AppendLeader(record.NewEndTxnMarker(true, 8, 0, 2, 0), 1, 0); !errors.Is(err, ErrCoordinatorFenced) {
		t.Fatal(err)
	}
	l.mustAppend(t, 1, seqBatch{id: 9, txn: true}.build())
	open := l.LEO() - 1
	want := []AbortedTxn{{7, 2, 36}}
	check := func(l *Log) {
		t.Helper()
		if l.LSO() != open {
			t.Fatalf("LSO %d, want %d", l.LSO(), open)
		}
		for _, c := range []struct {
			from, end int64
			want      []AbortedTxn
		}{{0, 2, nil}, {0, 3, want}, {36, 37, want}, {10, 20, want}, {37, 40, nil}} {
			got, err := l.Aborted(c.from, c.end)
			mustNot(t, err)
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Fatalf("aborted in [%d, %d): %v, want %v", c.from, c.end, got, c.want)
			}
		}
	}
	check(l.Log)
	l.w.wait(l.LEO())
	ck, _ := l.Checkpoint()
	check(openTestLog(t, newTestEnv(t, testEnvConfig(mem.CrashClone(nil))), Options{}).Log)
	check(openTestLog(t, newTestEnv(t, testEnvConfig(mem.CrashClone(nil))), Options{Checkpoint: &ck}).Log)
	mustNot(t, l.Close())
	ck, _ = l.Checkpoint()
	check(openTestLog(t, newTestEnv(t, testEnvConfig(mem.CrashClone(nil))), Options{Checkpoint: &ck, Clean: true}).Log)
}

func TestProducersExpireAndAreBounded(t *testing.T) {
	c := newClock()
	cfg := testEnvConfig(vfs.NewMem())
	cfg.Now = c.Now
	e := newTestEnv(t, cfg)
	conf := testConfig()
	conf.MaxProducers, conf.ProducerExpiry = 64, time.Hour
	l := openTestLog(t, e, Options{Config: conf})
	l.mustAppend(t, 1, seqBatch{id: 5000, txn: true}.build())
	for id := range int64(200) {
		c.advance(time.Second)
		l.mustAppend(t, 1, seqBatch{id: id}.build())
		if l.Producers() > 64 {
			t.Fatalf("%d producers", l.Producers())
		}
	}
	// The newest are known, the oldest are not.
	if info := l.mustAppend(t, 1, seqBatch{id: 199}.build()); !info.Duplicate {
		t.Fatal("the newest producer is forgotten")
	}
	c.advance(2 * time.Hour)
	l.ExpireProducers(c.Now())
	if l.Producers() != 1 || l.LSO() != 0 {
		t.Fatalf("%d producers: one has a transaction open", l.Producers())
	}
}

func TestSnapshotAheadOfTheLogIsDiscarded(t *testing.T) {
	mem := vfs.NewMem()
	e := newTestEnv(t, testEnvConfig(mem))
	l := openTestLog(t, e, Options{})
	mustNot(t, l.ResetTo(0, nil, nil)) // generation 1
	l.mustAppend(t, 1, seqBatch{id: 1, n: 3}.build())
	l.w.wait(3)
	before := mem.CrashClone(nil)
	l.mustAppend(t, 1, seqBatch{id: 1, seq: 3}.build())
	ck, _ := l.Checkpoint()
	ck.Generation-- // as if a truncation lay between, so that it is no proof of damage
	l2 := openTestLog(t, newTestEnv(t, testEnvConfig(before)), Options{Checkpoint: &ck})
	if info := l2.mustAppend(t, 2, seqBatch{id: 1, seq: 3}.build()); info.Duplicate || info.First != 3 {
		t.Fatalf("a batch that was lost was taken for a duplicate: %+v", info)
	}
}

func TestProducerSnapshotRoundTrips(t *testing.T) {
	var table producerTable
	rng := newRand(3)
	for i := range 500 {
		b := seqBatch{id: rng.Int64N(40), epoch: int16(rng.IntN(3)), seq: rng.Int32N(math.MaxInt32), n: 1 + rng.IntN(4), txn: rng.IntN(3) == 0}.build()
		b.SetBaseOffset(int64(i) * 10)
		table.apply(b, int64(i))
	}
	raw := table.encode(5000)
	got, at, err := decodeProducers(raw)
	mustNot(t, err)
	if at != 5000 || string(got.encode(5000)) != string(raw) || got.firstUnstable() != table.firstUnstable() {
		t.Fatal("not the same")
	}
}
