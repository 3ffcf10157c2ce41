package commitlog

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"runtime"
	"testing"

	"varve/broker/internal/vfs"
	"varve/broker/record"
)

// allocated tells the bytes that f allocates, on this goroutine's behalf or another's.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func sampleIndex() *indexFile {
	var table producerTable
	b := seqBatch{id: 9, epoch: 1, seq: 4, n: 2, txn: true}.build()
	b.SetBaseOffset(1002)
	table.apply(b, 1_700_000_000_123)
	return &indexFile{
		indexFooter: indexFooter{
			segmentMeta: segmentMeta{base: 1000, next: 1004, size: 8300, baseTime: 50, maxTime: 90, maxTimeBase: 1002, createdMS: 1_700_000_000_000},
			kind:        kindSegment,
		},
		index:     []indexEntry{{0, 0, noTime}, {2, 4150, 70}},
		history:   epochHistory{{3, 0}, {5, 1002}},
		abortedBy: []AbortedTxn{{7, 990, 1003}},
		snapshot:  table.encode(1004),
	}
}

// FuzzIndex feeds the decoders of index files, start files and producer snapshots: no panic, no
// allocation beyond a multiple of the input, and what decodes encodes to the same bytes.
func FuzzIndex(f *testing.F) {
	f.Add(sampleIndex().encode())
	start := &indexFile{history: epochHistory{{1, 0}}}
	start.segmentMeta = segmentMeta{base: 7, next: 7, baseTime: -1, maxTime: -1, maxTimeBase: 7}
	start.kind, start.flags = kindStart, flagVoid
	f.Add(start.encode())
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, indexFooterLen))
	f.Add(sampleIndex().snapshot)
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzIndexBytes(t, b)
		fuzzIndexBytes(t, resealIndex(b))
	})
}

// resealIndex makes the checksums right, so that mutations reach what lies behind them.
func resealIndex(b []byte) []byte {
	if len(b) < indexFooterLen {
		return b
	}
	be := binary.BigEndian
	b = bytes.Clone(b)
	foot := b[len(b)-indexFooterLen:]
	be.PutUint32(foot[80:], crc32.Checksum(b[:len(b)-indexFooterLen], castagnoli))
	be.PutUint32(foot[100:], crc32.Checksum(foot[:100], castagnoli))
	copy(foot[104:], indexMagic)
	return b
}

// resealBatches makes the checksum of every batch right that can be walked to.
func resealBatches(b []byte) []byte {
	b = bytes.Clone(b)
	for rest := b; ; {
		size, err := record.PeekSize(rest)
		if err != nil || size > len(rest) {
			return b
		}
		rest[magicAt] = 2
		batch := record.Batch(rest[:size])
		binary.BigEndian.PutUint32(rest[17:], batch.ComputeCRC())
		rest = rest[size:]
	}
}

func fuzzIndexBytes(t *testing.T, b []byte) {
	t.Helper()
	var x *indexFile
	var err error
	if n := allocated(func() { x, err = decodeIndex(b) }); n > 16*uint64(len(b))+64<<10 {
		t.Fatalf("%d bytes allocated for %d", n, len(b))
	}
	if err == nil {
		if !bytes.Equal(x.encode(), b) {
			t.Fatalf("%s encodes to %s", hex.EncodeToString(b), hex.EncodeToString(x.encode()))
		}
		for o := int64(-1); o < 6; o++ {
			floorOffset(x.index, o)
			floorPos(x.index, o)
			floorTime(x.index, o)
		}
	} else if !errors.Is(err, errIndex) {
		t.Fatalf("unexpected error %v", err)
	}
	table, at, err := decodeProducers(b)
	if err == nil && len(b) > 0 && len(table.byID) > 0 {
		if again, at2, err := decodeProducers(table.encode(at)); err != nil || at2 != at || len(again.byID) != len(table.byID) {
			t.Fatalf("snapshot does not round trip: %v", err)
		}
	}
}

// FuzzRecover opens a log whose one segment, and whose second segment, hold any bytes. It must
// answer with damage or with a log that reads back whole, end where it says, and take appends.
func FuzzRecover(f *testing.F) {
	var one []byte
	for i := range 3 {
		b := batchOf("seed", 1+i, int64(i))
		b.SetBaseOffset([]int64{0, 1, 3}[i])
		b.SetLeaderEpoch(int32(i))
		one = append(one, b...)
	}
	two := batchOf("second", 1, 0)
	two.SetBaseOffset(6)
	two.SetLeaderEpoch(2)
	f.Add(one, []byte(two), []byte{}, false)
	f.Add(append(bytes.Clone(one), make([]byte, 400)...), []byte{}, sampleIndex().encode(), true)
	f.Add(one[:len(one)-5], []byte(two), []byte("start"), false)
	f.Add([]byte{}, []byte{}, []byte{}, true)
	huge := bytes.Clone(one)
	huge[8] = 0x06 // a batch of 100 MB in a file of 300 bytes
	f.Add(huge, []byte{}, []byte{}, false)
	f.Fuzz(func(t *testing.T, first, second, index []byte, isStart bool) {
		fuzzRecoverBytes(t, first, second, index, isStart)
		fuzzRecoverBytes(t, resealBatches(first), resealBatches(second), resealIndex(index), isStart)
	})
}

func fuzzRecoverBytes(t *testing.T, first, second, index []byte, isStart bool) {
	t.Helper()
	mem := vfs.NewMem()
	dir := partitionDir(0)
	mustNot(t, makeDataDir(mem, testDir))
	mustNot(t, mem.MkdirAll(dir))
	put := func(name string, b []byte) {
		if len(b) > 0 {
			mustNot(t, writeFileSynced(mem, dir, dir+"/"+name, b, nil))
		}
	}
	put(segmentName(0, logSuffix), first)
	put(segmentName(6, logSuffix), second)
	if isStart {
		put(startName, index)
	} else {
		put(segmentName(0, indexSuffix), index)
	}
	e := newTestEnv(t, testEnvConfig(mem))
	defer e.Close()
	var l *Log
	var err error
	grown := allocated(func() { l, err = Open(e, Options{Dir: dir, Config: testConfig()}) })
	if limit := 64*uint64(len(first)+len(second)+len(index)) + 4<<20; grown > limit {
		t.Fatalf("%d bytes allocated for %d, %d and %d", grown, len(first), len(second), len(index))
	}
	if err != nil {
		var d *DamagedError
		if !errors.As(err, &d) {
			t.Fatalf("neither open nor damaged: %v", err)
		}
		return
	}
	exercise(t, l)
}

func exercise(t *testing.T, l *Log) {
	t.Helper()
	if _, err := readAll(l, l.LocalStart(), l.LEO()); err != nil {
		var d *DamagedError
		if !errors.As(err, &d) {
			return // a sealed segment is trusted by its footer: its batches may fail their CRC when read
		}
		return
	}
	end := l.LEO()
	for range 30 {
		if _, err := l.AppendLeader(batchOf("more", 1, 0), 1<<30, 0); err != nil {
			return // an epoch or offset near its limit
		}
	}
	if got, err := readAll(l, end, l.LEO()); err != nil || len(got) != 30 {
		t.Fatalf("%d of 30 new batches, %v", len(got), err)
	}
}
