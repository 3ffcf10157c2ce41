package commitlog

import (
	"errors"
	"fmt"
	"testing"

	"varve/broker/internal/vfs"
	"varve/broker/record"
)

func TestEpochEndIsTheStartOfTheNextEpoch(t *testing.T) {
	h := epochHistory{{2, 10}, {5, 20}, {7, 30}}
	for _, c := range []struct {
		asked, epoch int32
		end          int64
	}{{1, -1, -1}, {2, 2, 20}, {3, 2, 20}, {4, 2, 20}, {5, 5, 30}, {6, 5, 30}, {7, 7, 40}, {9, 7, 40}} {
		if e, end := h.end(c.asked, 40); e != c.epoch || end != c.end {
			t.Errorf("epoch %d: %d ends at %d, want %d at %d", c.asked, e, end, c.epoch, c.end)
		}
	}
	if e, end := (epochHistory{}).end(3, 9); e != -1 || end != -1 {
		t.Errorf("empty history: %d, %d", e, end)
	}
}

func TestEpochHistoryOperations(t *testing.T) {
	h := epochHistory{{2, 10}, {5, 20}, {7, 30}}
	for _, c := range []struct{ got, want any }{
		{h.truncated(20), "[{2 10}]"},
		{h.truncated(21), "[{2 10} {5 20}]"},
		{h.from(20), "[{5 20} {7 30}]"},
		{h.from(19), "[{2 10} {5 20} {7 30}]"},
		{h.from(99), "[{7 30}]"},
		{h.between(15, 30), "[{2 15} {5 20}]"},
		{h.with(7, 99), "[{2 10} {5 20} {7 30}]"},
		{h.with(9, 30), "[{2 10} {5 20} {9 30}]"},
		{h.joined([]EpochStart{{0, 0}, {2, 8}}), "[{0 0} {2 8} {5 20} {7 30}]"},
		{h.joined([]EpochStart{{0, 0}, {1, 12}}), "[{0 0} {2 10} {5 20} {7 30}]"},
	} {
		if got := fmt.Sprint(c.got); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestFollowerAppendIsGaplessAndItsEpochsDoNotGoBack(t *testing.T) {
	e := newTestEnv(t, testEnvConfig(vfs.NewMem()))
	leader := openTestLog(t, e, Options{})
	follower := openTestLog(t, e, Options{Dir: partitionDir(1)})
	for epoch := range int32(4) {
		leader.fill(t, epoch*2, 25)
	}
	batches, err := readAll(leader.Log, 0, 100)
	mustNot(t, err)
	var run []byte
	for _, b := range batches[:60] {
		run = append(run, b...)
	}
	mustNot(t, follower.AppendFollower(run))
	if follower.LEO() != 60 {
		t.Fatalf("end %d", follower.LEO())
	}
	for _, c := range []struct {
		b    []byte
		want error
	}{{batches[61], ErrOffsetGap}, {batches[59], ErrOffsetGap}, {run[:len(run)-1], ErrOffsetGap}, {batches[60][:70], record.ErrShort}} {
		if err := follower.AppendFollower(c.b); !errors.Is(err, c.want) {
			t.Fatalf("got %v, want %v", err, c.want)
		}
	}
	old := append(record.Batch(nil), batches[60]...)
	old.SetLeaderEpoch(3)
	if err := follower.AppendFollower(old); !errors.Is(err, ErrStaleEpoch) {
		t.Fatal(err)
	}
	for _, b := range batches[60:] {
		mustNot(t, follower.AppendFollower(b))
	}
	got, err := readAll(follower.Log, 0, 100)
	mustNot(t, err)
	for i := range got {
		if string(got[i]) != string(batches[i]) {
			t.Fatalf("batch %d differs", i)
		}
	}
	if fmt.Sprint(follower.Epochs()) != fmt.Sprint(leader.Epochs()) {
		t.Fatalf("%v, leader %v", follower.Epochs(), leader.Epochs())
	}
	if _, err := leader.AppendLeader(batchOf("x", 1, 0), 5, 0); !errors.Is(err, ErrStaleEpoch) {
		t.Fatal(err)
	}
}

func TestNothingIsAppendedBelowTheTieredEnd(t *testing.T) {
	e := newTestEnv(t, testEnvConfig(vfs.NewMem()))
	l := openTestLog(t, e, Options{TieredEnd: 50})
	if _, err := l.AppendLeader(batchOf("x", 1, 0), 1, 0); !errors.Is(err, ErrTieredBelow) {
		t.Fatal(err)
	}
	mustNot(t, l.ResetTo(50, []EpochStart{{0, 0}, {3, 40}}, nil))
	if info := l.mustAppend(t, 4, batchOf("x", 1, 0)); info.First != 50 {
		t.Fatalf("%+v", info)
	}
	if e, end := l.EpochEnd(3); e != 3 || end != 50 {
		t.Fatalf("epoch %d ends at %d", e, end)
	}
}

func TestOlderEpochsCanBeCompleted(t *testing.T) {
	e := newTestEnv(t, testEnvConfig(vfs.NewMem()))
	l := openTestLog(t, e, Options{})
	mustNot(t, l.ResetTo(50, nil, nil))
	l.fill(t, 4, 1)
	mustNot(t, l.AddOlderEpochs([]EpochStart{{0, 0}, {3, 40}}))
	if e, end := l.EpochEnd(2); e != 0 || end != 40 {
		t.Fatalf("epoch %d ends at %d", e, end)
	}
	l.SetLogStart(45)
	if got := fmt.Sprint(l.Epochs()); got != "[{3 40} {4 50}]" {
		t.Fatal(got)
	}
}
