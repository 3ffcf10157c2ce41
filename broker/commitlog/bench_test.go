package commitlog

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"varve/broker/internal/vfs"
	"varve/broker/record"
)

func osEnv(b testing.TB, dir string, change func(*EnvConfig)) *Env {
	b.Helper()
	cfg := EnvConfig{FS: vfs.NewOS(), Dir: filepath.ToSlash(dir), Log: discardLog, PoolFiles: 8, PoolBytes: 4 << 30}
	if change != nil {
		change(&cfg)
	}
	return newTestEnv(b, cfg)
}

func osDir(p int, dir string) string {
	return fmt.Sprintf("%s/topics/AAAAAAAAAAAAAAAAAAAAAA/%d", filepath.ToSlash(dir), p)
}

// sizedBatch is one batch of about n bytes.
func sizedBatch(n int) record.Batch {
	b := record.NewBuilder(record.None)
	value := make([]byte, 1000)
	for b.Len() < n {
		b.Append(record.Record{Timestamp: 1, Value: value})
	}
	batch, err := b.Build()
	if err != nil {
		panic(err)
	}
	return append(record.Batch(nil), batch...)
}

// BenchmarkAppend measures the append path into growing and into recycled files, the flusher beside
// it (cached: without fdatasync in the way of anything).
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		for _, kind := range []string{"growing", "recycled"} {
			b.Run(fmt.Sprintf("%dKiB/%s", size>>10, kind), func(b *testing.B) { benchAppend(b, size, kind == "recycled") })
		}
	}
}

func benchAppend(b *testing.B, size int, recycled bool) {
	dir := b.TempDir()
	e := osEnv(b, dir, nil)
	cfg := Config{SegmentBytes: 64 << 20, RecycleOwn: true}
	if recycled {
		cfg.RecycleWindow = time.Hour
	}
	l := openTestLog(b, e, Options{Dir: osDir(0, dir), Config: cfg})
	batch := sizedBatch(size)
	put := func(n int) {
		for range n {
			l.mustAppend(b, 1, batch)
			if l.LEO()-l.Durable() > int64(16<<20/size)*int64(batch.Count()) {
				l.w.wait(l.LEO()) // as a producer with acks=all would
			}
			if len(l.list()) > 3 {
				if _, _, err := l.DropBefore(l.LEO()); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	put(512 << 20 / size)
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	b.ResetTimer()
	put(b.N)
	l.w.wait(l.LEO())
}

// BenchmarkDurableAppend is one small append at a time, each waited for.
func BenchmarkDurableAppend(b *testing.B) {
	dir := b.TempDir()
	e := osEnv(b, dir, nil)
	l := openTestLog(b, e, Options{Dir: osDir(0, dir), Config: Config{SegmentBytes: 64 << 20}})
	batch := sizedBatch(100)
	b.ReportAllocs()
	for b.Loop() {
		l.mustAppend(b, 1, batch)
		l.w.wait(l.LEO())
	}
}

// BenchmarkRead finds 1 MiB in a sealed and in the active segment.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{1 << 10, 4 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("batches of %dKiB", size>>10), func(b *testing.B) {
			dir := b.TempDir()
			e := osEnv(b, dir, nil)
			l := openTestLog(b, e, Options{Dir: osDir(0, dir), Config: Config{SegmentBytes: 16 << 20}})
			batch := sizedBatch(size)
			for l.SizeBytes() < 64<<20 {
				l.mustAppend(b, 1, batch)
			}
			l.w.wait(l.LEO())
			at := int64(0)
			b.ReportAllocs()
			for b.Loop() {
				s, err := l.Read(at, l.LEO(), 1<<20, true)
				if err != nil {
					b.Fatal(err)
				}
				if at = s.Next; at == l.LEO() {
					at = 0
				}
				s.Release()
			}
		})
	}
}

// BenchmarkOpen opens 10,000 partitions of one record each, after a clean stop and after kill -9.
func BenchmarkOpen(b *testing.B) {
	const partitions = 10_000
	dir := b.TempDir()
	cks := make([]*Checkpoint, partitions)
	func() {
		e := osEnv(b, dir, nil)
		logs := make([]testLog, partitions)
		for p := range logs {
			logs[p] = openTestLog(b, e, Options{Dir: osDir(p, dir)})
			logs[p].fill(b, 1, 1)
		}
		for p, l := range logs {
			mustNot(b, l.Close())
			ck, _ := l.Checkpoint()
			cks[p] = &ck
		}
		mustNot(b, e.Close())
	}()
	var disk int64
	mustNot(b, filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		disk += diskBytes(info)
		return err
	}))
	b.ReportMetric(float64(disk)/(1<<20), "MiB-on-disk")
	for _, clean := range []bool{true, false} {
		b.Run(fmt.Sprintf("clean=%v", clean), func(b *testing.B) {
			for b.Loop() {
				e := osEnv(b, dir, nil)
				before := heap()
				logs := make([]*Log, partitions)
				for p := range logs {
					l, err := Open(e, Options{Dir: osDir(p, dir), Config: testConfig(), Checkpoint: cks[p], Clean: clean})
					mustNot(b, err)
					logs[p] = l
				}
				b.ReportMetric(float64(heap()-before)/partitions, "B/partition")
				b.ReportMetric(float64(e.files.count()), "open-files")
				runtime.KeepAlive(logs)
				mustNot(b, e.Close())
			}
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestIdleLogIsSmall(t *testing.T) {
	mem := vfs.NewMem()
	e := newTestEnv(t, testEnvConfig(mem))
	l := openTestLog(t, e, Options{})
	l.fill(t, 1, 1)
	mustNot(t, l.Close())
	ck, _ := l.Checkpoint()
	const n = 2000
	logs := make([]*Log, n)
	before := heap()
	for i := range logs {
		var err error
		logs[i], err = Open(e, Options{Dir: partitionDir(0), Config: testConfig(), Checkpoint: &ck, Clean: true})
		mustNot(t, err)
	}
	if each := (heap() - before) / n; each > 1024 {
		t.Errorf("an idle log takes %d bytes", each)
	}
	runtime.KeepAlive(logs)
}

func TestAppendAllocatesNothing(t *testing.T) {
	e := newTestEnv(t, testEnvConfig(vfs.NewMem()))
	l := openTestLog(t, e, Options{Config: Config{SegmentBytes: 1 << 30, IndexInterval: 1 << 20}})
	batch := batchOf("value", 1, 1)
	l.mustAppend(t, 1, batch)
	l.w.wait(1)
	next := seqBatch{id: 3}
	first := next.build()
	l.mustAppend(t, 1, first)
	// The memory file system allocates pages: few, far apart. Batches are appended in place.
	if n := testing.AllocsPerRun(400, func() { l.mustAppend(t, 1, batch) }); n >= 1 {
		t.Fatalf("%v allocations an append", n)
	}
}
