package wire

import (
	"context"
	"encoding/binary"
	"fmt"
)

const (
	// readAhead is the small buffer that a length word is read with. 16 KiB takes a few frames of
	// 4 KiB in one call, and copying it out costs under a microsecond of a large frame.
	readAhead = 16 << 10
	// trustedFrame is how much is allocated on the word of a length alone; above, the buffer grows
	// as bytes arrive, unless a pooled one is there.
	trustedFrame = 1 << 20
)

// FrameError is a length word that no request can have.
type FrameError struct {
	Size  int32
	Max   int
	Start [4]byte // the length word as it came
}

func (e *FrameError) Error() string {
	s := fmt.Sprintf("frame of %d bytes is outside %d..%d", e.Size, minFrame, e.Max)
	switch {
	case e.Start[0] == 0x16 && e.Start[1] == 0x03:
		return s + ": this looks like a TLS handshake on a plaintext listener"
	case string(e.Start[:]) == "GET " || string(e.Start[:]) == "POST" || string(e.Start[:]) == "HEAD":
		return s + ": this looks like HTTP on a Kafka listener"
	}
	return s
}

// frames cuts the received bytes into frames. It holds bytes [r, w) of ahead that are received and
// not yet handed out; ahead is nil while the connection waits between two frames.
//
//	0 <= r <= w <= len(ahead)     received bytes of the frame in progress: got <= len(frame) <= size
type frames struct {
	st       stream
	p        *progress
	mem      *requestMemory
	maxFrame int

	ahead []byte
	r, w  int
	frame []byte // the frame in progress, nil while the length word is not complete
	got   int    // bytes of frame that are there
	size  int    // what frame grows to
}

// next returns the next frame in a buffer from GetBuffer, charged to the memory budget with its
// length. The caller must give both back. On an error nothing is held.
func (f *frames) next(ctx context.Context) ([]byte, error) {
	size, err := f.length()
	if err != nil {
		return nil, err
	}
	f.p.phase.Store(phaseBusy)
	if err := f.mem.take(ctx, size); err != nil {
		return nil, err
	}
	f.p.phase.Store(phaseFrame)
	if size > trustedFrame {
		f.p.large.Store(true)
		defer f.p.large.Store(false)
	}
	if err := f.fill(size); err != nil {
		f.mem.give(size)
		PutBuffer(f.frame)
		f.frame = nil
		return nil, err
	}
	frame := f.frame
	f.frame = nil
	f.p.frames.Add(1)
	f.p.phase.Store(phaseBusy)
	return frame, nil
}

// length reads the length word.
func (f *frames) length() (int, error) {
	for f.w-f.r < 4 {
		if f.w == f.r {
			f.p.phase.Store(phaseIdle)
		} else {
			f.p.phase.Store(phaseFrame)
		}
		n, err := f.st.read(f)
		if err != nil {
			return 0, err
		}
		f.w += n
	}
	word := f.ahead[f.r : f.r+4]
	size := int32(binary.BigEndian.Uint32(word))
	if size < minFrame || int(size) > f.maxFrame {
		return 0, &FrameError{Size: size, Max: f.maxFrame, Start: [4]byte(word)}
	}
	f.r += 4
	return int(size), nil
}

// fill reads the body of a frame of the given size into f.frame.
func (f *frames) fill(size int) error {
	f.frame, f.got, f.size = frameBuffer(size), 0, size
	n := copy(f.frame, f.ahead[f.r:f.w])
	f.r, f.got = f.r+n, n
	for f.got < size {
		if f.got == len(f.frame) {
			f.frame = grow(f.frame, size)
		}
		n, err := f.st.read(f)
		if err != nil {
			return err
		}
		own := min(n, len(f.frame)-f.got)
		f.got += own
		f.w += n - own
	}
	return nil
}

// frameBuffer is the first buffer of a frame: all of it where that costs no untrusted memory.
func frameBuffer(size int) []byte {
	if size <= trustedFrame {
		return GetBuffer(size)
	}
	if b := getPooled(size); b != nil {
		return b
	}
	return GetBuffer(trustedFrame)
}

// grow returns a buffer of twice the length, at most size, that starts with b's bytes.
func grow(b []byte, size int) []byte {
	n := min(2*len(b), size)
	bigger := GetBuffer(n)
	copy(bigger, b)
	PutBuffer(b)
	return bigger
}

// buffers implements source: the rest of the frame in progress, and behind it room for what
// follows.
func (f *frames) buffers() (a, b []byte) {
	if f.ahead == nil {
		f.ahead, f.r, f.w = GetBuffer(readAhead), 0, 0
	}
	if f.frame != nil && f.got < len(f.frame) {
		a = f.frame[f.got:]
	}
	if f.r == f.w {
		f.r, f.w = 0, 0
	}
	if f.r > 0 && a == nil {
		f.w = copy(f.ahead, f.ahead[f.r:f.w])
		f.r = 0
	}
	if a != nil && len(f.frame) < f.size {
		return a, nil // what follows belongs to this frame too
	}
	return a, f.ahead[f.w:]
}

// blocked implements source: an idle connection holds no buffer.
func (f *frames) blocked() {
	if f.frame == nil && f.r == f.w {
		f.close()
	}
}

func (f *frames) close() {
	if f.ahead != nil {
		PutBuffer(f.ahead)
		f.ahead, f.r, f.w = nil, 0, 0
	}
}
