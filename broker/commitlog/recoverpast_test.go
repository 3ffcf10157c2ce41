package commitlog

import (
	"errors"
	"fmt"
	"testing"

	"varve/broker/internal/vfs"
	"varve/broker/record"
)

// passed opens the log of rolledLog with everything below tiered in the tier.
func passed(t *testing.T, mem *vfs.Mem, ck *Checkpoint, tiered int64, border func() (Border, error)) (*Log, error) {
	t.Helper()
	e := newTestEnv(t, testEnvConfig(mem))
	return Open(e, Options{Dir: partitionDir(0), Config: testConfig(), Checkpoint: ck, TieredEnd: tiered, Border: border})
}

// TestAStartAboveDamageSurvivesEveryCrashOnTheWay cuts the power at each sync of an open that passes damage.
func TestAStartAboveDamageSurvivesEveryCrashOnTheWay(t *testing.T) {
	mem := vfs.NewMem()
	l, ck := rolledLog(t, mem)
	s := l.Segments()
	f, err := mem.OpenReadWrite(segmentPath(l.Log, s[1].Base))
	mustNot(t, err)
	mustNot(t, errors.Join(f.Truncate(100), f.Sync(), f.Close()))
	tiered := s[2].Next
	var clones []*vfs.Mem
	mem.OnSync(func(string, string) {
		clones = append(clones, mem.CrashClone(nil), mem.CrashClone(newRand(uint64(len(clones)))), mem.KillClone())
	})
	got, err := passed(t, mem, &ck, tiered, nil)
	mustNot(t, err)
	mem.OnSync(nil)
	check := func(l *Log) error {
		if l.LocalStart() != s[1].Next || l.LEO() != ck.Offset || len(l.Epochs()) != 10 {
			return fmt.Errorf("local [%d, %d), epochs %v; want from %d to %d", l.LocalStart(), l.LEO(), l.Epochs(), s[1].Next, ck.Offset)
		}
		_, err := readAll(l, l.LocalStart(), l.LEO())
		return err
	}
	mustNot(t, check(got))
	if len(clones) < 9 {
		t.Fatalf("%d crash points", len(clones))
	}
	for i, c := range clones {
		l, err := passed(t, c, &ck, tiered, nil)
		if err != nil {
			t.Fatalf("crash %d: %v", i, err)
		}
		if err := check(l); err != nil {
			t.Fatalf("crash %d: %v", i, err)
		}
		mustNot(t, l.env.Close())
	}
}

// TestNoRecordAboveTheTiersEndIsLeftBehind gives damage below a tier border that lies within a segment, or
// above which nothing is left: only the files below tell that there was more.
func TestNoRecordAboveTheTiersEndIsLeftBehind(t *testing.T) {
	for name, harm := range map[string]func(mem *vfs.Mem, l testLog, s []SegmentInfo) (tiered int64){
		"the border lies within the damaged segment": func(mem *vfs.Mem, l testLog, s []SegmentInfo) int64 {
			mustNot(t, mem.Remove(segmentPath(l.Log, s[len(s)-2].Base)))
			mustNot(t, mem.Remove(segmentPath(l.Log, s[len(s)-1].Base)))
			return s[len(s)-2].Next - 1
		},
		"and its length is not known": func(mem *vfs.Mem, l testLog, s []SegmentInfo) int64 {
			last := s[len(s)-1]
			for _, x := range s[:len(s)-1] {
				mustNot(t, mem.Remove(indexPath(l.Log, x.Base)))
			}
			mustNot(t, mem.Remove(segmentPath(l.Log, s[0].Base)))
			return last.Next - 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem()
			l, _ := rolledLog(t, mem)
			tiered := harm(mem, l, l.Segments())
			_, err := passed(t, mem, nil, tiered, func() (Border, error) { return Border{Offset: tiered}, nil })
			wantDamaged(t, err)
		})
	}
}

func TestACorruptStartFileIsPassedByTheTier(t *testing.T) {
	mem := vfs.NewMem()
	e := newTestEnv(t, testEnvConfig(mem))
	l := openTestLog(t, e, Options{})
	l.fill(t, 1, 80)
	l.w.wait(80)
	if n, _, err := l.DropBefore(30); err != nil || n == 0 {
		t.Fatal(n, err)
	}
	ck, ok := l.Checkpoint()
	s := l.Segments()
	mustNot(t, l.Close())
	mustNot(t, e.Close())
	flipByte(t, mem, l.startName(), -60)
	got, err := passed(t, mem, &ck, s[1].Next, nil)
	if err != nil || !ok || got.LocalStart() > s[1].Next || got.LEO() != 80 {
		t.Fatalf("%v, local [%d, %d)", err, got.LocalStart(), got.LEO())
	}
	_, err = readAll(got, got.LocalStart(), 80)
	mustNot(t, err)
}

// resend finds the last batch of a producer a duplicate at the offset that it has.
func resend(t *testing.T, l *Log, b record.Batch, at int64) {
	t.Helper()
	info, err := l.AppendLeader(b, 9, 0)
	if err != nil || !info.Duplicate || info.First != at {
		t.Errorf("sent again: %+v, %v; it is at offset %d", info, err, at)
	}
}

// TestAProducerIsKnownAfterTwoIndexesInARowAreCorrupt has the index of a segment rebuilt while that of the
// one before it, which alone knows the producer, cannot be read either, and then a power cut.
func TestAProducerIsKnownAfterTwoIndexesInARowAreCorrupt(t *testing.T) {
	mem := vfs.NewMem()
	e := newTestEnv(t, testEnvConfig(mem))
	l := openTestLog(t, e, Options{})
	l.mustAppend(t, 1, producedBatch("once", 1, 7, 0, 0))
	var bases []int64
	for range 3 {
		l.fill(t, 1, 3)
		l.w.wait(l.LEO())
		mustNot(t, l.Roll("test"))
	}
	for _, s := range l.list() {
		bases = append(bases, s.base)
	}
	mustNot(t, l.Close())
	c, _ := l.Checkpoint() // when all indexes are written
	mustNot(t, e.Close())
	for _, b := range bases[:3] {
		flipByte(t, mem, indexPath(l.Log, b), 3)
	}
	e = newTestEnv(t, testEnvConfig(mem))
	l = openTestLog(t, e, Options{Checkpoint: &c, Clean: true}) // reads no index
	if _, err := l.indexOf(l.list()[2]); err != nil {           // as a read does
		t.Fatal(err)
	}
	mustNot(t, l.Close())
	mustNot(t, e.Close())
	if _, err := readIndexFile(mem, indexPath(l.Log, bases[2])); err != nil {
		t.Fatalf("the newest index was not written anew: %v", err)
	}
	for _, b := range bases[:2] { // what was written anew on the way is not what must be relied on
		mustNot(t, mem.Remove(indexPath(l.Log, b)))
	}
	l = openTestLog(t, newTestEnv(t, testEnvConfig(mem)), Options{})
	resend(t, l.Log, producedBatch("once", 1, 7, 0, 0), 0)
}

// TestAProducerIsKnownAfterItsSegmentWasDroppedWithACorruptIndex is the same for the start file.
func TestAProducerIsKnownAfterItsSegmentWasDroppedWithACorruptIndex(t *testing.T) {
	mem := vfs.NewMem()
	e := newTestEnv(t, testEnvConfig(mem))
	l := openTestLog(t, e, Options{})
	l.mustAppend(t, 1, producedBatch("once", 1, 7, 0, 0))
	l.w.wait(1)
	mustNot(t, l.Roll("test"))
	l.fill(t, 1, 3)
	l.w.wait(4)
	l.filesMu.Lock()
	mustNot(t, l.persistSealed())
	l.filesMu.Unlock()
	flipByte(t, mem, indexPath(l.Log, 0), 3)
	if n, _, err := l.DropBefore(1); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	mustNot(t, l.Close())
	mustNot(t, e.Close())
	l = openTestLog(t, newTestEnv(t, testEnvConfig(mem)), Options{})
	resend(t, l.Log, producedBatch("once", 1, 7, 0, 0), 0)
}

// TestASegmentIsReadThoughTheOneBeforeItIsDamaged rebuilds an index whose producers nobody can tell: it is
// read by and never written.
func TestASegmentIsReadThoughTheOneBeforeItIsDamaged(t *testing.T) {
	mem := vfs.NewMem()
	l, ck := rolledLog(t, mem)
	s := l.Segments()
	e := newTestEnv(t, testEnvConfig(mem))
	got := openTestLog(t, e, Options{Checkpoint: &ck, Clean: true})
	flipByte(t, mem, indexPath(l.Log, s[0].Base), 3)
	flipByte(t, mem, indexPath(l.Log, s[1].Base), 3)
	flipByte(t, mem, segmentPath(l.Log, s[0].Base), 300)
	if _, err := readAll(got.Log, s[1].Base, s[1].Next); err != nil {
		t.Fatal(err)
	}
	r, err := got.SealedReader(s[1].Base)
	mustNot(t, err)
	_, err = r.Producers()
	r.Close()
	wantDamaged(t, err)
	mustNot(t, got.Close())
	if _, err := readIndexFile(mem, indexPath(l.Log, s[1].Base)); !errors.Is(err, errIndex) {
		t.Errorf("an index without its producers was written: %v", err)
	}
}
