package tiering

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"testing"
)

// goldenObject builds the object of testdata and FORMAT.md: three batches in two
// chunks, the second batch stored as the producer compressed it.
func goldenObject(tb testing.TB) ([]byte, int64, *Index) {
	tb.Helper()
	s, err := openSpool(tb.TempDir(), 0)
	if err != nil {
		tb.Fatal(err)
	}
	b := newBuilder(200)
	b.reset(s, true)
	rng := rand.New(rand.NewPCG(1, 1))
	batches := []Batch{
		batchSpec{first: 100, records: 2, ts: 1_700_000_000_000, fill: 3, epoch: 4}.make(rng),
		batchSpec{first: 102, records: 1, ts: 1_700_000_000_500, fill: 5, epoch: 4, random: true}.make(rng),
		batchSpec{first: 103, records: 1, ts: 1_700_000_000_100, fill: 9, epoch: 5}.make(rng),
	}
	if err := b.fill(&sliceReader{batches: batches}, 100); err != nil {
		tb.Fatal(err)
	}
	x := &b.index
	x.TopicID, x.Partition, x.LeaderEpoch = testID.TopicID, testID.Partition, 6
	x.Epochs, x.Aborted = []Epoch{{4, 90}, {5, 103}}, []Aborted{{4711, 95, 101}}
	indexLen, err := b.finish([]byte("producers"))
	if err != nil {
		tb.Fatal(err)
	}
	obj := make([]byte, s.pos)
	if _, err := s.f.ReadAt(obj, 0); err != nil {
		tb.Fatal(err)
	}
	if err := s.close(); err != nil {
		tb.Fatal(err)
	}
	return obj, indexLen, x
}

// FuzzColdIndex: any tail either fails or describes an object of that size; then
// its encoding is the input. Valid CRCs are put in, or nothing behind them would
// ever be reached.
func FuzzColdIndex(f *testing.F) {
	obj, n, _ := goldenObject(f)
	f.Add(obj[int64(len(obj))-n:], int64(len(obj)), true)
	f.Add(obj[int64(len(obj))-n:], int64(len(obj)), false)
	f.Add([]byte{}, int64(0), true)
	f.Fuzz(func(t *testing.T, tail []byte, size int64, sign bool) {
		tail = bytes.Clone(tail)
		if sign && len(tail) >= footerBytes+indexHeadBytes {
			n := len(tail) - footerBytes
			foot := tail[n:]
			binary.BigEndian.PutUint64(foot, uint64(size-int64(len(tail))))
			binary.BigEndian.PutUint32(foot[8:], uint32(n))
			binary.BigEndian.PutUint32(foot[12:], crc32.Checksum(tail[:n], castagnoli))
			copy(foot[24:], footerMagic)
			binary.BigEndian.PutUint32(foot[20:], crc32.Checksum(foot[:20], castagnoli))
		}
		x, err := DecodeIndex("k", size, tail)
		if err != nil {
			return
		}
		end := x.Chunks[len(x.Chunks)-1]
		if end.Pos+int64(end.Stored)+skipHead+int64(x.ProducersLen)+int64(len(tail)) != size {
			t.Fatalf("index of an object of another size was accepted: %+v", x)
		}
		again := appendIndex(nil, x)
		y, err := parseIndex(again)
		if err != nil || len(again) != len(tail)-footerBytes || len(y.Chunks) != len(x.Chunks) {
			t.Fatalf("index does not survive its own encoding: %v", err)
		}
	})
}

// FuzzManifest: any bytes either fail or are a manifest that encodes and decodes
// to itself, and whose successor is valid.
func FuzzManifest(f *testing.F) {
	b, err := os.ReadFile("testdata/manifest-v1.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("{}"))
	f.Add([]byte(`{"version":1,"name":"0000000001-0000000000000001-00000000.json","leaderEpoch":1,"seq":1,"logStart":5,"tieredEnd":5}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeManifest("k", b)
		if err != nil {
			return
		}
		enc, _, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeManifest("k", enc)
		if err != nil || again.TieredEnd != m.TieredEnd || len(again.Entries) != len(m.Entries) {
			t.Fatalf("manifest does not survive its own encoding: %v", err)
		}
		newView(m, 1)
	})
}

// FuzzChunk: any frame either fails or fills exactly what the index promised, and
// the two ways to read a stored frame agree. dst is as large as the entry says,
// never larger.
func FuzzChunk(f *testing.F) {
	obj, _, x := goldenObject(f)
	for _, c := range x.Chunks {
		f.Add(obj[c.Pos:c.Pos+int64(c.Stored)], c.Raw)
	}
	f.Add([]byte(frameHead+"\x05\x00\x00\x00\x10a\x00\x00\x00"+frameEnd), uint32(16))
	f.Fuzz(func(t *testing.T, frame []byte, raw uint32) {
		raw %= 1 << 20
		dst := make([]byte, raw)
		err := unpackFrame(frame, dst)
		view, ok := storedView(frame, int(raw))
		if ok && (err != nil || !bytes.Equal(view, dst)) {
			t.Fatalf("stored view of %d bytes, unpacked with %v", len(view), err)
		}
	})
}

// FuzzDocument: any JSON object of a bucket, read with nothing else at hand.
func FuzzDocument(f *testing.F) {
	f.Add([]byte(`{"version":1,"topicId":"x","partition":3,"entries":[{"key":"a","first":0,"last":3,"indexLen":200,"storedBytes":300,"rawBytes":1,"epochs":[{"epoch":1,"start":0}]}]}`))
	f.Add([]byte(`{"version":1,"topicId":"x","deletedMs":3}`))
	f.Add([]byte(`{"version":1,"topicId":"x","partitions":3}`))
	if b, err := os.ReadFile("testdata/manifest-v1.json"); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		doc, err := DecodeDocument("document", b)
		if (doc == nil) == (err == nil) {
			t.Fatalf("%T and %v", doc, err)
		}
	})
}
