package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// chunkStream gives its data in pieces of random size, into both buffers as readv does.
type chunkStream struct {
	copyStream
	data []byte
	rng  *rand.Rand
	most int // bytes of one read
}

func (s *chunkStream) read(src source) (int, error) {
	if s.rng.IntN(4) == 0 {
		src.buffers()
		src.blocked()
	}
	a, b := src.buffers()
	if len(a)+len(b) == 0 {
		panic("no room")
	}
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	chunk := s.data[:min(len(s.data), 1+s.rng.IntN(s.most))]
	n := copy(a, chunk)
	n += copy(b, chunk[n:])
	s.data = s.data[n:]
	return n, nil
}

func chunked(data []byte, seed uint64, most, maxFrame int) *frames {
	st := &chunkStream{data: data, rng: rand.New(rand.NewPCG(seed, 0)), most: most}
	return &frames{st: st, p: &progress{}, mem: newRequestMemory(int64(maxFrame), maxFrame), maxFrame: maxFrame}
}

func TestFramesComeBackWholeHoweverTheyArrive(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var data []byte
		var want [][]byte
		for range 1 + rng.IntN(60) {
			n := minFrame + rng.IntN([]int{100, 5000, 70_000, 3 << 20}[rng.IntN(4)])
			b := make([]byte, n)
			for i := 0; i < n; i += 1 + n/64 {
				b[i] = byte(rng.Uint32())
			}
			data = binary.BigEndian.AppendUint32(data, uint32(n))
			data = append(data, b...)
			want = append(want, b)
		}
		f := chunked(data, seed, []int{3 << 20, 40_000, 3000}[seed%3], 8<<20)
		for i, w := range want {
			got, err := f.next(t.Context())
			if err != nil {
				t.Fatalf("seed %d frame %d: %v", seed, i, err)
			}
			if !bytes.Equal(got, w) {
				t.Fatalf("seed %d: frame %d of %d bytes differs", seed, i, len(w))
			}
			f.mem.give(len(got))
			PutBuffer(got)
		}
		if _, err := f.next(t.Context()); !errors.Is(err, io.EOF) {
			t.Fatalf("seed %d: after the last frame: %v", seed, err)
		}
		f.close()
	}
}

func TestAFrameCutOffGivesItsMemoryBack(t *testing.T) {
	data := binary.BigEndian.AppendUint32(nil, 5<<20)
	f := chunked(append(data, make([]byte, 2<<20)...), 1, 100_000, 8<<20)
	if _, err := f.next(t.Context()); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if !f.mem.all.TryAcquire(8 << 20) {
		t.Error("the budget is still charged")
	}
}

func TestAFrameGrowsOnlyAsItsBytesArrive(t *testing.T) {
	for range 64 { // pooled buffers are taken whole: use them up
		getPooled(maxClass)
	}
	f := chunked(nil, 1, 1, 100<<20)
	f.ahead = GetBuffer(readAhead)
	f.frame = nil
	st := &growthStream{t: t, f: f, left: 90 << 20}
	f.st = st
	f.w = copy(f.ahead, binary.BigEndian.AppendUint32(nil, 90<<20))
	if _, err := f.next(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st.reads < 90 {
		t.Errorf("90 MiB came in %d reads: the frame was there at once", st.reads)
	}
	f.close()
}

// growthStream checks before each read what was allocated for what arrived.
type growthStream struct {
	copyStream
	t     *testing.T
	f     *frames
	left  int
	reads int
}

func (s *growthStream) read(src source) (int, error) {
	a, _ := src.buffers()
	if held := cap(s.f.frame); held > max(trustedFrame, 2*s.f.got) && held > maxClass {
		s.t.Fatalf("%d bytes are allocated for %d that arrived", held, s.f.got)
	}
	s.reads++
	n := min(len(a), 1<<20, s.left)
	s.left -= n
	return n, nil
}

func TestLengthWordsOutsideTheLimitsAreRefused(t *testing.T) {
	for _, size := range []int32{0, -1, -1 << 31, 7, 1001, 1<<31 - 1} {
		f := chunked(binary.BigEndian.AppendUint32(nil, uint32(size)), 1, 10, 1000)
		var fe *FrameError
		if _, err := f.next(t.Context()); !errors.As(err, &fe) || fe.Size != size || fe.Max != 1000 {
			t.Errorf("size %d: %v", size, err)
		}
		f.close()
	}
}

func TestReadAheadIsGivenBackWhileIdle(t *testing.T) {
	f := chunked(nil, 1, 1, 1000)
	f.buffers()
	f.blocked()
	if f.ahead != nil {
		t.Error("an idle connection holds a buffer")
	}
	f.buffers()
	f.w = 2 // half a length word
	f.blocked()
	if f.ahead == nil {
		t.Error("received bytes were dropped")
	}
	f.close()
}

func headerSeeds() [][]byte {
	return [][]byte{
		{},
		request(0, 9, 1, "producer", []byte("body"))[4:],
		request(18, 3, 1, "x", nil)[4:],
		request(18, 77, 1, "x", nil)[4:],
		request(7, 0, 1, "", nil)[4:],
		request(-1, -1, -1, "", nil)[4:],
		append(request(3, 3, 9, "", nil)[4:14], 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3),          // 4 G tags
		append(request(3, 3, 9, "", nil)[4:14], 2, 0, 1, 'x', 1, 0xff, 0xff, 0xff, 0xff, 0x0f),  // tag of 4 GiB
		append(request(3, 3, 9, "", nil)[4:14], 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01), // varint too long
		{0, 3, 0, 1, 0, 0, 0, 1, 0x80, 0, 1},                                                    // client id of -32768 bytes
		{0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 1},                                                 // and of 32767
		{0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 'b'},                                               // null client id
	}
}

func checkHeader(t *testing.T, frame []byte) {
	t.Helper()
	before := bytes.Clone(frame)
	h, err := parseHeader(frame, flexibleFrom3)
	if !bytes.Equal(before, frame) {
		t.Fatal("the frame was changed")
	}
	if err != nil {
		return
	}
	if len(h.clientID)+len(h.body) > len(frame)-minFrame {
		t.Fatalf("client id %d and body %d are longer than the frame %d", len(h.clientID), len(h.body), len(frame))
	}
	if !bytes.HasSuffix(frame, h.body) {
		t.Fatal("the body is not the end of the frame")
	}
	if _, ok := flexibleFrom3(h.key, h.version); !ok && h.key != keyAPIVersions {
		t.Fatalf("key %d version %d is not served", h.key, h.version)
	}
}

func FuzzHeader(f *testing.F) {
	for _, s := range headerSeeds() {
		f.Add(s)
	}
	f.Fuzz(checkHeader)
}

// FuzzFrame feeds a connection's bytes in random pieces: no panic, no frame that was not sent, and
// no more memory than the trusted start or twice what arrived.
func FuzzFrame(f *testing.F) {
	for i, s := range headerSeeds() {
		f.Add(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s, uint64(i))
		f.Add(request(0, 0, 1, "a", bytes.Repeat(s, 1000)), s, uint64(i))
	}
	f.Add([]byte("GET / HTTP/1.1\r\n"), []byte{}, uint64(1))
	f.Add([]byte{0x16, 0x03, 0x01, 0x02, 0x00}, []byte{}, uint64(1))
	f.Fuzz(func(t *testing.T, a, b []byte, seed uint64) {
		data := append(bytes.Clone(a), b...)
		fr := chunked(data, seed, 1+int(seed%5000), 1<<20)
		defer fr.close()
		for at := 0; ; {
			frame, err := fr.next(context.Background())
			if err != nil {
				break
			}
			at += 4
			if !bytes.HasPrefix(data[at:], frame) {
				t.Fatal("a frame differs from what was sent")
			}
			at += len(frame)
			checkHeader(t, frame)
			fr.mem.give(len(frame))
			PutBuffer(frame)
		}
		if !fr.mem.all.TryAcquire(1 << 20) {
			t.Fatal("memory is still charged")
		}
	})
}

func TestTenThousandRandomHeadersNeitherPanicNorAllocate(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	seeds := headerSeeds()
	for range 10_000 {
		b := bytes.Clone(seeds[rng.IntN(len(seeds))])
		for range rng.IntN(6) {
			switch {
			case len(b) > 0 && rng.IntN(2) == 0:
				b[rng.IntN(len(b))] = byte(rng.Uint32())
			case len(b) > 0 && rng.IntN(3) == 0:
				b = b[:rng.IntN(len(b))]
			default:
				b = append(b, byte(rng.Uint32()))
			}
		}
		checkHeader(t, b)
	}
	good := request(0, 9, 1, "producer", []byte("body"))[4:]
	if n := testing.AllocsPerRun(100, func() { _, _ = parseHeader(good, flexibleFrom3) }); n != 0 {
		t.Errorf("a header takes %v allocations", n)
	}
}
