package commitlog

import (
	"errors"
	"testing"

	"varve/broker/internal/vfs"
)

// rolledLog makes a closed log of several sealed segments and an active one.
func rolledLog(t *testing.T, mem *vfs.Mem) (l testLog, ck Checkpoint) {
	t.Helper()
	e := newTestEnv(t, testEnvConfig(mem))
	l = openTestLog(t, e, Options{})
	for epoch := range int32(10) {
		l.fill(t, epoch, 10)
	}
	ck, ok := l.Checkpoint()
	if !ok || len(l.Segments()) < 4 {
		t.Fatalf("%v, %d segments", ok, len(l.Segments()))
	}
	mustNot(t, l.Close())
	mustNot(t, e.Close())
	return l, ck
}

func flipByte(t *testing.T, mem *vfs.Mem, name string, at int64) {
	t.Helper()
	f, err := mem.OpenReadWrite(name)
	mustNot(t, err)
	defer f.Close()
	size, err := f.Size()
	mustNot(t, err)
	if at < 0 {
		at += size
	}
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	mustNot(t, err)
	b[0] ^= 0x20
	_, err = f.WriteAt(b[:], at)
	mustNot(t, err)
	mustNot(t, f.Sync())
}

func reopen(t *testing.T, mem *vfs.Mem, ck *Checkpoint) (*Log, error) {
	t.Helper()
	e := newTestEnv(t, testEnvConfig(mem))
	return Open(e, Options{Dir: partitionDir(0), Config: testConfig(), Checkpoint: ck})
}

func wantDamaged(t *testing.T, err error) {
	t.Helper()
	var d *DamagedError
	if !errors.As(err, &d) {
		t.Fatalf("got %v, want a DamagedError", err)
	}
}

func TestMissingSealedSegmentIsDamage(t *testing.T) {
	for i := range 3 {
		mem := vfs.NewMem()
		l, _ := rolledLog(t, mem)
		mustNot(t, mem.Remove(segmentPath(l.Log, l.Segments()[i].Base)))
		_, err := reopen(t, mem, nil)
		wantDamaged(t, err)
		// With its index gone too, the hole is still seen.
		mustNot(t, mem.Remove(indexPath(l.Log, l.Segments()[i].Base)))
		_, err = reopen(t, mem, nil)
		wantDamaged(t, err)
	}
}

func TestMissingActiveSegmentIsDamageByTheCheckpoint(t *testing.T) {
	mem := vfs.NewMem()
	l, ck := rolledLog(t, mem)
	s := l.Segments()
	mustNot(t, mem.Remove(segmentPath(l.Log, s[len(s)-1].Base)))
	_, err := reopen(t, mem, &ck)
	wantDamaged(t, err)
}

func TestMissingDirectoryIsDamageByTheCheckpoint(t *testing.T) {
	mem := vfs.NewMem()
	l, ck := rolledLog(t, mem)
	mustNot(t, mem.RemoveAll(l.Dir()))
	_, err := reopen(t, mem, &ck)
	wantDamaged(t, err)
}

func TestDamageBelowTheCheckpointInTheActiveSegmentNeverShortensTheLog(t *testing.T) {
	mem := vfs.NewMem()
	l, ck := rolledLog(t, mem)
	s := l.Segments()
	active := segmentPath(l.Log, s[len(s)-1].Base)
	// The batch that proves the checkpoint itself: the scan from the front ends below it.
	flipByte(t, mem, active, ck.LastPos+70)
	_, err := reopen(t, mem, &ck)
	wantDamaged(t, err)
	size, err := mem.Stat(active)
	mustNot(t, err)
	if size.Size() < ck.Pos {
		t.Fatal("damage was cut away")
	}
}

func TestCutSealedSegmentIsDamage(t *testing.T) {
	mem := vfs.NewMem()
	l, _ := rolledLog(t, mem)
	f, err := mem.OpenReadWrite(segmentPath(l.Log, l.Segments()[1].Base))
	mustNot(t, err)
	mustNot(t, f.Truncate(l.Segments()[1].Bytes-1))
	mustNot(t, f.Close())
	_, err = reopen(t, mem, nil)
	wantDamaged(t, err)
}

func TestLostOrCorruptIndexIsRebuilt(t *testing.T) {
	for _, harm := range []func(t *testing.T, mem *vfs.Mem, name string){
		func(t *testing.T, mem *vfs.Mem, name string) { mustNot(t, mem.Remove(name)) },
		func(t *testing.T, mem *vfs.Mem, name string) { flipByte(t, mem, name, 3) },
		func(t *testing.T, mem *vfs.Mem, name string) { flipByte(t, mem, name, -20) },
		func(t *testing.T, mem *vfs.Mem, name string) { flipByte(t, mem, name, -1) },
		func(t *testing.T, mem *vfs.Mem, name string) {
			f, err := mem.OpenReadWrite(name)
			mustNot(t, err)
			mustNot(t, f.Truncate(50))
			mustNot(t, f.Close())
		},
	} {
		for i := range 3 {
			mem := vfs.NewMem()
			l, ck := rolledLog(t, mem)
			s := l.Segments()
			which := []int{0, 1, len(s) - 2}[i]
			name := indexPath(l.Log, s[which].Base)
			harm(t, mem, name)
			l2, err := reopen(t, mem, &ck)
			mustNot(t, err)
			if l2.LEO() != l.LEO() {
				t.Fatalf("end %d, want %d", l2.LEO(), l.LEO())
			}
			got, err := readAll(l2, 0, l2.LEO())
			mustNot(t, err)
			if len(got) != 100 || len(l2.Epochs()) != 10 {
				t.Fatalf("%d batches, %v", len(got), l2.Epochs())
			}
			mustNot(t, l2.Close())
			if _, err := readIndexFile(mem, name); err != nil {
				t.Fatalf("not written anew: %v", err)
			}
		}
	}
}

func TestLostIndexOfADamagedSegmentIsDamage(t *testing.T) {
	mem := vfs.NewMem()
	l, _ := rolledLog(t, mem)
	mustNot(t, mem.Remove(indexPath(l.Log, l.Segments()[1].Base)))
	flipByte(t, mem, segmentPath(l.Log, l.Segments()[1].Base), 300)
	_, err := reopen(t, mem, nil)
	wantDamaged(t, err)
}

func TestBitRotInASealedSegmentStopsItsUpload(t *testing.T) {
	for _, at := range []int64{5, 13, 18, 22, 70, 500} { // offset, epoch, CRC, attributes, records, a later batch
		mem := vfs.NewMem()
		l, _ := rolledLog(t, mem)
		flipByte(t, mem, segmentPath(l.Log, l.Segments()[1].Base), at)
		l2, err := reopen(t, mem, nil)
		mustNot(t, err)
		r, err := l2.SealedReader(l.Segments()[1].Base)
		if err == nil {
			for err == nil {
				_, _, err = r.Next()
			}
			r.Close()
		}
		wantDamaged(t, err)
		// The neighbours are whole.
		r, err = l2.SealedReader(l.Segments()[0].Base)
		mustNot(t, err)
		var size int64
		for {
			b, _, err := r.Next()
			if err != nil {
				break
			}
			size += int64(len(b))
		}
		if size != r.Size() || size != l.Segments()[0].Bytes {
			t.Fatalf("read %d of %d", size, r.Size())
		}
		r.Close()
	}
}

func TestCorruptStartFileIsDamage(t *testing.T) {
	mem := vfs.NewMem()
	e := newTestEnv(t, testEnvConfig(mem))
	l := openTestLog(t, e, Options{})
	l.fill(t, 1, 50)
	l.w.wait(50)
	n, _, err := l.DropBefore(30)
	if err != nil || n == 0 {
		t.Fatal(n, err)
	}
	mustNot(t, e.Close())
	flipByte(t, mem, l.startName(), -60)
	_, err = reopen(t, mem, nil)
	wantDamaged(t, err)
}

func TestMarkDamagedStopsAppends(t *testing.T) {
	e := newTestEnv(t, testEnvConfig(vfs.NewMem()))
	l := openTestLog(t, e, Options{})
	l.fill(t, 1, 1)
	why := errors.New("bit rot")
	l.MarkDamaged(why)
	if _, err := l.AppendLeader(batchOf("x", 1, 0), 1, 0); !errors.Is(err, why) {
		t.Fatal(err)
	}
	if _, err := readAll(l.Log, 0, 1); err != nil {
		t.Fatal(err)
	}
}
