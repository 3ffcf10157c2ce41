package commitlog

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"varve/broker/internal/vfs"
)

var discardLog = slog.New(slog.NewTextHandler(io.Discard, nil))

func TestAppendsAreReadBackAcrossSegments(t *testing.T) {
	e := newTestEnv(t, testEnvConfig(vfs.NewMem()))
	l := openTestLog(t, e, Options{})
	var want [][]byte
	for i := range 200 {
		b := batchOf(fmt.Sprintf("value %d", i), 1+i%3, int64(i)*10)
		info := l.mustAppend(t, 3, b)
		if info.First != b.BaseOffset() || info.Last != b.LastOffset() {
			t.Fatalf("info %+v for %v", info, b)
		}
		want = append(want, b)
	}
	l.w.wait(l.LEO())
	if l.Durable() != l.LEO() || len(l.Segments()) < 5 {
		t.Fatalf("durable %d, end %d, %d segments", l.Durable(), l.LEO(), len(l.Segments()))
	}
	got, err := readAll(l.Log, 0, l.LEO())
	mustNot(t, err)
	if len(got) != len(want) {
		t.Fatalf("%d batches, want %d", len(got), len(want))
	}
	for i := range got {
		if string(got[i]) != string(want[i]) {
			t.Fatalf("batch %d differs", i)
		}
	}
}

func TestReadBoundsHold(t *testing.T) {
	e := newTestEnv(t, testEnvConfig(vfs.NewMem()))
	l := openTestLog(t, e, Options{})
	for i := range 60 {
		l.mustAppend(t, 1, batchOf("some value", 3, int64(i)))
	}
	size := len(batchOf("some value", 3, 0))
	for from := range l.LEO() {
		for _, end := range []int64{from, from + 1, from + 7, l.LEO(), l.LEO() + 100} {
			for _, limit := range []int{0, 10, size, 5*size + 3, 1 << 20} {
				for _, minOne := range []bool{true, false} {
					s, err := l.Read(from, end, limit, minOne)
					mustNot(t, err)
					switch {
					case s.Next > min(end, l.LEO()) && s.Bytes > 0:
						t.Fatalf("read %d..%d reaches %d", from, end, s.Next)
					case s.Bytes > limit && (!minOne || s.Bytes != size):
						t.Fatalf("read of %d bytes over the limit %d", s.Bytes, limit)
					case s.Bytes > 0 && (s.First > from || s.Next <= from):
						t.Fatalf("read at %d gives [%d, %d)", from, s.First, s.Next)
					case s.Bytes == 0 && minOne && from-from%3+3 <= min(end, l.LEO()):
						t.Fatalf("read at %d..%d limit %d gives nothing", from, end, limit)
					}
					s.Release()
				}
			}
		}
	}
	for _, from := range []int64{-1, l.LEO() + 1} {
		if _, err := l.Read(from, 1000, 10, true); !errors.Is(err, ErrOutOfRange) {
			t.Fatalf("read at %d: %v", from, err)
		}
	}
}

func TestCleanReopenOpensNoFile(t *testing.T) {
	mem := vfs.NewMem()
	e := newTestEnv(t, testEnvConfig(mem))
	l := openTestLog(t, e, Options{})
	l.fill(t, 1, 100)
	mustNot(t, l.Close())
	ck, ok := l.Checkpoint()
	if !ok {
		t.Fatal("no checkpoint")
	}
	mustNot(t, e.Close())

	fault := vfs.NewFault(mem)
	e2 := newTestEnv(t, testEnvConfig(fault))
	rule := fault.Inject(vfs.Rule{Op: vfs.OpOpen, Glob: "*.log", Err: errors.New("opened")})
	l2 := openTestLog(t, e2, Options{Checkpoint: &ck, Clean: true})
	if rule.Hits() != 0 || e2.files.count() != 0 {
		t.Fatalf("%d opens, %d open files", rule.Hits(), e2.files.count())
	}
	rule.Remove()
	if l2.LEO() != l.LEO() || l2.Durable() != l.LEO() || len(l2.Segments()) != len(l.Segments()) {
		t.Fatalf("end %d, want %d; %v", l2.LEO(), l.LEO(), l2.Segments())
	}
	got, err := readAll(l2.Log, 0, l2.LEO())
	mustNot(t, err)
	if len(got) != 100 {
		t.Fatalf("%d batches", len(got))
	}
	l2.fill(t, 2, 10)
	l2.w.wait(110)
	if epoch, end := l2.EpochEnd(1); epoch != 1 || end != 100 {
		t.Fatalf("epoch %d ends at %d", epoch, end)
	}
}

func TestRollByAgeSealsAnIdleSegment(t *testing.T) {
	c := newClock()
	cfg := testEnvConfig(vfs.NewMem())
	cfg.Now = c.Now
	e := newTestEnv(t, cfg)
	conf := testConfig()
	conf.SegmentAge = time.Minute
	l := openTestLog(t, e, Options{Config: conf})
	l.fill(t, 1, 2)
	if rolled, err := l.MaybeRollByAge(c.Now()); rolled || err != nil {
		t.Fatalf("rolled %v, %v", rolled, err)
	}
	c.advance(2 * time.Minute)
	rolled, err := l.MaybeRollByAge(c.Now())
	if !rolled || err != nil {
		t.Fatalf("rolled %v, %v", rolled, err)
	}
	if s := l.Segments(); len(s) != 1 || !s[0].Sealed {
		t.Fatalf("%+v", s)
	}
	r, err := l.SealedReader(1)
	mustNot(t, err)
	defer r.Close()
	if b, _, err := r.Next(); err != nil || b.BaseOffset() != 1 {
		t.Fatalf("%v, %v", b, err)
	}
	if _, _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Fatalf("%v", err)
	}
}
