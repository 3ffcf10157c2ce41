package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"
)

// GetRange reads straight into dst; one request.
func (s *S3) GetRange(ctx context.Context, key string, off int64, dst []byte) (int, error) {
	if err := checkGet(s.name, key, off); err != nil {
		return 0, err
	}
	if err := s.begin(ctx, OpGet, key); err != nil {
		return 0, err
	}
	if len(dst) == 0 {
		return 0, nil
	}
	rctx, cancel := s.request(ctx, int64(len(dst)))
	defer cancel()
	var opts minio.GetObjectOptions
	if err := opts.SetRange(off, off+int64(len(dst))-1); err != nil {
		return 0, s.fail(ctx, OpGet, key, err)
	}
	body, _, header, err := s.plain.GetObject(rctx, s.cfg.Bucket, s.full(key), opts)
	if err != nil {
		return 0, s.fail(rctx, OpGet, key, err)
	}
	defer body.Close()
	first, total, ranged := parseContentRange(header.Get("Content-Range"))
	if !ranged {
		// A store that ignores ranges sends the object from its start.
		if off != 0 {
			return 0, s.unexpected(OpGet, key, "the store ignores the Range header",
				"Varve needs ranged GETs; ask the store's operator")
		}
		total, err = strconv.ParseInt(header.Get("Content-Length"), 10, 64)
		if err != nil {
			return 0, s.unexpected(OpGet, key, "the answer has neither a range nor a length", "")
		}
	}
	if first != off && ranged {
		return 0, s.unexpected(OpGet, key, fmt.Sprintf("asked for offset %d, got %d", off, first), "")
	}
	if off >= total {
		return 0, badRange(s.name, key, off, total)
	}
	want := dst[:min(int64(len(dst)), total-off)]
	n, err := io.ReadFull(body, want)
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			// The connection ended, not the object: its length is known.
			err = &brokenBodyError{got: n, want: len(want)}
		}
		return n, s.fail(rctx, OpGet, key, err)
	}
	if len(want) == len(dst) {
		return n, nil
	}
	return n, shortRead(s.name, key, off, n, len(dst))
}

// brokenBodyError is an answer that ended early. It must not match
// io.ErrUnexpectedEOF, which says that the object itself ends.
type brokenBodyError struct{ got, want int }

func (e *brokenBodyError) Error() string {
	return fmt.Sprintf("connection ended after %d of %d bytes", e.got, e.want)
}

// parseContentRange reads "bytes 0-99/1234".
func parseContentRange(v string) (first, total int64, ok bool) {
	v, ok = strings.CutPrefix(v, "bytes ")
	if !ok {
		return 0, 0, false
	}
	span, size, ok := strings.Cut(v, "/")
	if !ok {
		return 0, 0, false
	}
	from, _, ok := strings.Cut(span, "-")
	if !ok {
		return 0, 0, false
	}
	first, err1 := strconv.ParseInt(from, 10, 64)
	total, err2 := strconv.ParseInt(size, 10, 64)
	return first, total, err1 == nil && err2 == nil && first >= 0 && total > first
}

// Head describes an object.
func (s *S3) Head(ctx context.Context, key string) (Info, error) {
	if err := checkKey(OpHead, s.name, key); err != nil {
		return Info{}, err
	}
	if err := s.begin(ctx, OpHead, key); err != nil {
		return Info{}, err
	}
	rctx, cancel := s.request(ctx, 0)
	defer cancel()
	st, err := s.plain.StatObject(rctx, s.cfg.Bucket, s.full(key), minio.StatObjectOptions{Checksum: true})
	if err != nil {
		return Info{}, s.fail(rctx, OpHead, key, err)
	}
	return Info{
		Key: key, Size: st.Size, ModTime: st.LastModified, StorageClass: st.StorageClass,
		CRC32C: decodeCRC(st.ChecksumCRC32C),
	}, nil
}

// Delete removes an object. S3 itself does not tell whether there was one.
func (s *S3) Delete(ctx context.Context, key string) error {
	if err := checkKey(OpDelete, s.name, key); err != nil {
		return err
	}
	if err := s.begin(ctx, OpDelete, key); err != nil {
		return err
	}
	rctx, cancel := s.request(ctx, 0)
	defer cancel()
	err := s.plain.RemoveObject(rctx, s.cfg.Bucket, s.full(key), minio.RemoveObjectOptions{})
	if err != nil {
		err = s.fail(rctx, OpDelete, key, err)
	}
	if errors.Is(err, ErrNotFound) { // some stores do tell
		return nil
	}
	return err
}

// List asks for one page; more requests only if limit is over MaxListPage.
func (s *S3) List(ctx context.Context, prefix, after string, limit int) (Page, error) {
	if err := s.begin(ctx, OpList, prefix); err != nil {
		return Page{}, err
	}
	if err := checkPrefix(s.name, prefix); err != nil {
		return Page{}, err
	}
	if limit <= 0 {
		limit = MaxListPage
	}
	rctx, cancel := s.request(ctx, int64(limit)*listEntryBytes)
	defer cancel()
	noOwner := false
	opts := minio.ListObjectsOptions{
		Prefix: s.full(prefix), Recursive: true, MaxKeys: min(limit, MaxListPage), FetchOwner: &noOwner,
	}
	if after != "" {
		opts.StartAfter = s.full(after)
	}
	var page Page
	last, seen := after, 0
	for obj := range s.plain.ListObjectsIter(rctx, s.cfg.Bucket, opts) {
		if obj.Err != nil {
			return Page{}, s.fail(rctx, OpList, prefix, obj.Err)
		}
		key, ok := s.relative(obj.Key)
		if !ok || key <= last && last != "" {
			return Page{}, s.unexpected(OpList, prefix, fmt.Sprintf("key %q after %q: not in order", obj.Key, last),
				"Varve needs LIST in key order; directory buckets (S3 Express) do not give it")
		}
		last = key
		if CheckKey(key) == nil { // consoles leave "directory" objects whose keys end in a slash
			page.Objects = append(page.Objects, Info{
				Key: key, Size: obj.Size, ModTime: obj.LastModified, StorageClass: obj.StorageClass,
			})
		}
		if seen++; seen == limit {
			page.Next = last
			break
		}
	}
	if rctx.Err() != nil && page.Next == "" { // the iterator ends silently then
		return Page{}, s.fail(rctx, OpList, prefix, context.Cause(rctx))
	}
	return page, nil
}

// listEntryBytes is what one key costs in a LIST answer, for the deadline.
const listEntryBytes = 1 << 10

func (s *S3) unexpected(op Op, key, detail, hint string) error {
	return &Error{Op: op, Store: s.name, Key: key, Kind: errUnexpected, Detail: detail, Hint: hint}
}
