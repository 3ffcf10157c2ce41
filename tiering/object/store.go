// Package object is the seam between Varve and an object store: a flat space
// of immutable objects with whole-object PUT, ranged GET, HEAD, LIST and
// DELETE. It owns the three stores (S3, a local directory, memory), the
// decorators that count, retry and break calls, the typed errors, and the
// start-up probe of a bucket.
//
// It refuses to know what is in an object: topics and purposes are labels that
// travel in the context and end in the meter, nothing else. It starts no
// goroutine of its own outside a call; every method of every Store may be
// called by any number of goroutines at once.
package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Store is an object store rooted at one prefix. Keys are relative to it.
//
// Errors are *Error values that match one of the sentinels of this package with
// errors.Is, except that a call whose context ended returns an error matching
// the context's. IsRetriable decides whether the same call may succeed later.
type Store interface {
	// Put stores body under key. Afterwards the whole object is durable and
	// visible, or after an error the object is either whole or absent: nobody
	// ever sees part of it. An error does not prove that nothing was stored.
	// A key that exists is replaced unless opt.IfAbsent is set; callers use
	// fresh keys. When Put has returned, body is not read any more.
	Put(ctx context.Context, key string, body Body, opt PutOptions) (Info, error)

	// GetRange fills dst with the bytes of key from off on and returns how many
	// it wrote. n < len(dst) only with an error; if the object ends inside the
	// range, the error matches io.ErrUnexpectedEOF and dst[:n] holds the bytes up
	// to its end. A range that starts at or past the end is ErrBadRange. An empty
	// dst asks nothing of the store. After any other error the content of dst is
	// undefined.
	GetRange(ctx context.Context, key string, off int64, dst []byte) (n int, err error)

	// Head describes key, ErrNotFound if there is no such object.
	Head(ctx context.Context, key string) (Info, error)

	// Delete removes key. A key that does not exist is no error.
	Delete(ctx context.Context, key string) error

	// List returns the objects whose keys start with prefix and sort after the
	// key `after` (exclusive), in byte order of their keys, at most limit of them
	// (0 or less: MaxListPage). prefix is empty, a key,
	// a key's beginning within its last element, or one that ends in a slash; what
	// no key can begin with is ErrInvalidKey.
	List(ctx context.Context, prefix, after string, limit int) (Page, error)

	// Name is the store's address for people: "s3://bucket/prefix". It carries no
	// secrets.
	Name() string

	// Close ends the use of the store; calls under way may fail.
	Close() error
}

// MaxListPage is how many keys a List call returns when the caller names no
// limit. S3 gives 1000 keys a request, so a larger page would be several.
const MaxListPage = 1000

// Body is what Put stores: Size bytes from the start of Reader. It is read from
// the start again when a request is repeated, and in parts at once by a
// multipart upload, hence a ReaderAt of known length and not a stream.
type Body struct {
	Reader io.ReaderAt
	Size   int64
}

// Bytes is a Body over b, which must not change until Put returns.
func Bytes(b []byte) Body { return Body{Reader: bytes.NewReader(b), Size: int64(len(b))} }

// PutOptions are the choices of one Put. The zero value is a plain PUT.
type PutOptions struct {
	// ContentType is kept by stores that keep it; empty means binary.
	ContentType string
	// StorageClass as the store names it; empty means the bucket's default.
	StorageClass string
	// CRC32C, if known, is checked against the bytes that arrive, by the store
	// where it can and by this package otherwise. It also spares a pass over the
	// body.
	CRC32C Checksum
	// IfAbsent makes Put fail with ErrExists instead of replacing an object. It
	// implies Once: after a lost answer a second try cannot tell its own object
	// from another's.
	IfAbsent bool
	// Once forbids the retry decorator to repeat this Put.
	Once bool
}

// Checksum is a CRC32C (Castagnoli) over a whole object. The zero value means
// that it is not known.
type Checksum struct {
	Value uint32
	Known bool
}

// CRC is a known Checksum.
func CRC(v uint32) Checksum { return Checksum{Value: v, Known: true} }

// Info describes one object.
type Info struct {
	Key          string
	Size         int64
	CRC32C       Checksum // as the store computed it from what it received
	ModTime      time.Time
	StorageClass string // empty: the store has none or did not say
}

// Page is one answer of List.
type Page struct {
	Objects []Info
	// Next is what to pass as `after` for the following page; empty when the list
	// has ended. A following page may turn out to be empty.
	Next string
}

// ListAll calls visit for every object under prefix, in key order, page by page,
// until visit returns an error, which it returns.
func ListAll(ctx context.Context, s Store, prefix string, visit func(Info) error) error {
	after := ""
	for {
		page, err := s.List(ctx, prefix, after, MaxListPage)
		if err != nil {
			return err
		}
		for _, info := range page.Objects {
			if err := visit(info); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		after = page.Next
	}
}

// firstReadBytes is what ReadAll asks for first: manifests and markers fit, so that
// they cost one GET and no HEAD.
const firstReadBytes = 256 << 10

// ReadAll returns a whole object of at most limit bytes; a larger one is
// ErrTooLarge. Memory grows with what arrives, not with limit.
func ReadAll(ctx context.Context, s Store, key string, limit int64) ([]byte, error) {
	buf := make([]byte, min(limit+1, firstReadBytes))
	n := 0
	for {
		m, err := s.GetRange(ctx, key, int64(n), buf[n:])
		n += m
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, ErrBadRange): // the end, or nothing beyond it
			return buf[:n], nil
		case err != nil:
			return nil, err
		case int64(n) > limit:
			return nil, &Error{
				Op: OpGet, Store: s.Name(), Key: key, Kind: ErrTooLarge,
				Detail: fmt.Sprintf("more than %d bytes", limit),
			}
		}
		more := make([]byte, min(limit+1, 4*int64(n)))
		copy(more, buf)
		buf = more
	}
}
