package commitlog

import (
	"bytes"
	"fmt"
	"testing"

	"varve/broker/internal/vfs"
	"varve/broker/record"
)

// placed is a batch with its offset and epoch, of a size that does not depend on them.
func placed(offset int64, epoch int32, value string) record.Batch {
	b := batchOf(fmt.Sprintf("%-20s", value), 1, 1)
	b.SetBaseOffset(offset)
	b.SetLeaderEpoch(epoch)
	return b
}

// logOf makes a file system whose only segment holds these bytes.
func logOf(t *testing.T, batches ...record.Batch) *vfs.Mem {
	t.Helper()
	mem := vfs.NewMem()
	mustNot(t, makeDataDir(mem, testDir))
	mustNot(t, mem.MkdirAll(partitionDir(0)))
	name := partitionDir(0) + "/" + segmentName(0, logSuffix)
	mustNot(t, writeFileSynced(mem, partitionDir(0), name, bytes.Join(asBytes(batches), nil), nil))
	return mem
}

func asBytes(batches []record.Batch) (out [][]byte) {
	for _, b := range batches {
		out = append(out, b)
	}
	return out
}

func TestRecoveryTakesOnlyTheNextBatch(t *testing.T) {
	torn := placed(1, 3, "torn")
	torn[len(torn)-1] ^= 1
	for name, second := range map[string]record.Batch{
		"a torn batch":          torn,
		"a gap":                 placed(2, 3, "gap"),
		"an old offset":         placed(0, 3, "old"),
		"an older leader epoch": placed(1, 2, "stale"),
		"no epoch":              placed(1, -1, "none"),
	} {
		t.Run(name, func(t *testing.T) {
			mem := logOf(t, placed(0, 3, "first"), second, placed(second.NextOffset(), 3, "after"))
			l := openTestLog(t, newTestEnv(t, testEnvConfig(mem)), Options{})
			if l.LEO() != 1 || l.Durable() != 1 || len(l.Epochs()) != 1 {
				t.Fatalf("end %d, durable %d, epochs %v", l.LEO(), l.Durable(), l.Epochs())
			}
		})
	}
}

func TestABatchBehindATornOneNeverComesBack(t *testing.T) {
	torn := placed(1, 3, "torn")
	torn[len(torn)-1] ^= 1
	behind := placed(2, 3, "behind")
	mem := logOf(t, placed(0, 3, "first"), torn, behind)
	l := openTestLog(t, newTestEnv(t, testEnvConfig(mem)), Options{})
	// A follower gets offset 1 again, in the same epoch and of the same size: where it ends, the
	// batch that was behind the torn one would be the next.
	mustNot(t, l.AppendFollower(placed(1, 3, "again")))
	l.w.wait(2)
	for _, fs := range []*vfs.Mem{mem.CrashClone(nil), mem.KillClone()} {
		if end, _, err := openAndCheck(fs, 0, anything(l, t)); err != nil || end != 2 {
			t.Fatalf("end %d, %v", end, err)
		}
	}
}

func TestTruncationCutsEpochsAndProducers(t *testing.T) {
	mem := vfs.NewMem()
	e := newTestEnv(t, testEnvConfig(mem))
	l := openTestLog(t, e, Options{})
	for seq := range int32(60) {
		l.mustAppend(t, seq/20, producedBatch("value of some length to fill segments", 1, 7, 0, seq))
	}
	mustNot(t, l.TruncateTo(30))
	check := func(l *Log) {
		t.Helper()
		if l.LEO() != 30 || l.Durable() != 30 || fmt.Sprint(l.Epochs()) != "[{0 0} {1 20}]" {
			t.Fatalf("end %d, durable %d, epochs %v", l.LEO(), l.Durable(), l.Epochs())
		}
		if info, err := l.AppendLeader(producedBatch("value of some length to fill segments", 1, 7, 0, 29), 1, 0); err != nil || !info.Duplicate {
			t.Fatalf("%+v, %v", info, err)
		}
		if info, err := l.AppendLeader(producedBatch("value of some length to fill segments", 1, 7, 0, 30), 1, 0); err != nil || info.First != 30 {
			t.Fatalf("%+v, %v", info, err)
		}
	}
	crashed := mem.CrashClone(nil)
	check(l.Log)
	check(openTestLog(t, newTestEnv(t, testEnvConfig(crashed)), Options{}).Log)
}

func TestTruncationFindsTheBatchBorder(t *testing.T) {
	for to := int64(0); to <= 30; to++ {
		e := newTestEnv(t, testEnvConfig(vfs.NewMem()))
		l := openTestLog(t, e, Options{})
		for range 10 {
			l.mustAppend(t, 1, batchOf("three records", 3, 1))
		}
		mustNot(t, l.TruncateTo(to))
		if l.LEO() != to/3*3 {
			t.Fatalf("cut to %d: end %d", to, l.LEO())
		}
		if got, err := readAll(l.Log, 0, l.LEO()); err != nil || int64(len(got)) != to/3 {
			t.Fatalf("cut to %d: %d batches, %v", to, len(got), err)
		}
	}
}

func TestZeroedFileIsDurablyZero(t *testing.T) {
	mem := vfs.NewMem()
	e := newTestEnv(t, testEnvConfig(mem))
	mustNot(t, mem.SyncDir(testDir))
	name := testDir + "/pool/x.pool"
	mustNot(t, writeFileSynced(mem, testDir+"/pool", name, bytes.Repeat([]byte("old batches"), 20_000), nil))
	mustNot(t, e.pool.zero(pooledFile{name: name, size: 220_000}))
	for _, fs := range []*vfs.Mem{mem, mem.CrashClone(nil)} {
		f, err := fs.Open(name)
		mustNot(t, err)
		if zero, err := isZero(f, 0, 220_000); err != nil || !zero {
			t.Fatalf("not zero, %v", err)
		}
		mustNot(t, f.Close())
	}
}

func TestZerosAheadOfTheDataAreNoData(t *testing.T) {
	mem := vfs.NewMem()
	e := newTestEnv(t, testEnvConfig(mem))
	conf := testConfig()
	conf.SegmentBytes = 1 << 20
	l := openTestLog(t, e, Options{Config: conf})
	for range 3 * zeroAfter {
		l.fill(t, 1, 1)
		l.w.wait(l.LEO())
	}
	// The zeros are written by the worker after it has told; the next flush finds them there.
	l.flushMu.Lock()
	l.zeroAhead()
	l.flushMu.Unlock()
	info, err := mem.Stat(segmentPath(l.Log, 0))
	mustNot(t, err)
	if info.Size() < zeroStep {
		t.Fatalf("file of %d bytes is not zeroed ahead", info.Size())
	}
	for _, fs := range []*vfs.Mem{mem.KillClone(), mem.CrashClone(newRand(1)), mem.CrashClone(nil)} {
		if end, _, err := openAndCheck(fs, 0, anything(l, t)); err != nil || end != l.LEO() {
			t.Fatalf("end %d, %v", end, err)
		}
	}
	mustNot(t, l.Roll("test"))
	mustNot(t, l.Close())
	if info, err = mem.Stat(segmentPath(l.Log, 0)); err != nil || info.Size() != l.SizeBytes() {
		t.Fatalf("sealed file of %d bytes for %d, %v", info.Size(), l.SizeBytes(), err)
	}
}
