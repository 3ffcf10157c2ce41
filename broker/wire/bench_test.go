package wire

import (
	"encoding/binary"
	"io"
	"testing"
)

// exchange returns a function that sends one request and reads its reply without allocating.
func exchange(t testing.TB, h handlerFunc, cfg Config, body, reply int) func() {
	c := dial(t, startServer(t, cfg, h))
	req := request(0, 9, 1, "bench", make([]byte, body))
	in := make([]byte, reply+9)
	return func() {
		if _, err := c.Write(req); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, in); err != nil {
			t.Fatal(err)
		}
		if n := int(binary.BigEndian.Uint32(in)); n != len(in)-4 {
			t.Fatalf("reply of %d bytes", n)
		}
	}
}

func inPlace(reply int) handlerFunc {
	return func(q *Request) { q.Reply(Response{Body: GetBuffer(reply)}) }
}

// handOff answers from another goroutine, as the flusher does.
func handOff(t testing.TB, reply int) handlerFunc {
	work := make(chan *Request, DefaultMaxInFlight)
	t.Cleanup(func() { close(work) })
	go func() {
		for q := range work {
			q.Reply(Response{Body: GetBuffer(reply)})
		}
	}()
	return func(q *Request) { work <- q }
}

func benchExchange(b *testing.B, h handlerFunc, cfg Config, body, reply int) {
	once := exchange(b, h, cfg, body, reply)
	once()
	b.SetBytes(int64(body + reply))
	b.ReportAllocs()
	for b.Loop() {
		once()
	}
}

func BenchmarkEchoInPlace(b *testing.B)  { benchExchange(b, inPlace(80), Config{}, 1100, 80) }
func BenchmarkEchoHandOff(b *testing.B)  { benchExchange(b, handOff(b, 80), Config{}, 1100, 80) }
func BenchmarkProduce1MiB(b *testing.B)  { benchExchange(b, inPlace(80), Config{}, 1<<20, 80) }
func BenchmarkProduce64KiB(b *testing.B) { benchExchange(b, inPlace(80), Config{}, 64<<10, 80) }

func benchFile(b *testing.B, cfg Config, size int) {
	file, _ := testFile(b, size)
	parts := []Part{{File: file, Len: int64(size)}}
	benchExchange(b, func(q *Request) { q.Reply(Response{Body: GetBuffer(80), Parts: parts}) }, cfg, 100, 80+size)
}

func BenchmarkFetchSendfile1MiB(b *testing.B)  { benchFile(b, Config{}, 1<<20) }
func BenchmarkFetchCopy1MiB(b *testing.B)      { benchFile(b, Config{DisableSendfile: true}, 1<<20) }
func BenchmarkFetchSendfile64KiB(b *testing.B) { benchFile(b, Config{}, 64<<10) }
func BenchmarkFetchCopy64KiB(b *testing.B)     { benchFile(b, Config{DisableSendfile: true}, 64<<10) }

// BenchmarkPipelined4KiB is five produce requests of 4 KiB in flight.
func BenchmarkPipelined4KiB(b *testing.B) {
	const deep = 5
	for name, h := range map[string]handlerFunc{"in place": inPlace(80), "hand-off": handOff(b, 80)} {
		b.Run(name, func(b *testing.B) {
			c := dial(b, startServer(b, Config{}, h))
			req := request(0, 9, 1, "bench", make([]byte, 4200))
			in := make([]byte, 89)
			for range deep {
				c.send(req)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := io.ReadFull(c, in); err != nil {
					b.Fatal(err)
				}
				c.send(req)
			}
		})
	}
}
