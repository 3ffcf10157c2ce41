package object

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
)

// bodyReader hands a section of a body to net/http until detach. It seeks because
// minio-go rewinds before its one attempt.
type bodyReader struct {
	body Body
	end  int64

	mu       sync.Mutex
	at       int64
	detached bool
	err      error // of the body's own reader
}

func newBodyReader(body Body, size int64) *bodyReader {
	return &bodyReader{body: body, end: size}
}

// errDetached is seen by net/http only.
var errDetached = errors.New("body is not available any more")

func (r *bodyReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.detached {
		return 0, errDetached
	}
	left := r.end - r.at
	if left <= 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), left)]
	n, err := r.body.Reader.ReadAt(p, r.at)
	r.at += int64(n)
	if n == len(p) {
		return n, nil
	}
	if err == nil || err == io.EOF { // ReaderAt promises the bare value
		err = io.ErrUnexpectedEOF
	}
	r.err = err
	return n, err
}

// Seek knows the start only.
func (r *bodyReader) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence != io.SeekStart {
		return 0, fmt.Errorf("seek to %d from %d: not supported", offset, whence)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = 0
	return 0, nil
}

// detach waits for a Read under way, lets no other touch the body, and returns
// the error that the body's own reader gave.
func (r *bodyReader) detach() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.detached = true
	return r.err
}

// crcBuffers are the buffers of crcOf.
var crcBuffers = sync.Pool{New: func() any { b := make([]byte, copyBytes); return &b }}

// crcOf passes once over body.
func crcOf(ctx context.Context, store, key string, body Body) (Checksum, error) {
	bufp := crcBuffers.Get().(*[]byte)
	defer crcBuffers.Put(bufp)
	var crc uint32
	for off := int64(0); off < body.Size; {
		if ctx.Err() != nil {
			return Checksum{}, canceled(ctx, OpPut, store, key)
		}
		buf := (*bufp)[:min(int64(copyBytes), body.Size-off)]
		if n, err := body.Reader.ReadAt(buf, off); n < len(buf) {
			return Checksum{}, bodyError(store, key, off+int64(n), body.Size, err)
		}
		crc = crc32.Update(crc, castagnoli, buf)
		off += int64(len(buf))
	}
	return CRC(crc), nil
}
