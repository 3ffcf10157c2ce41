// Package storetest is the conformance suite of object.Store, run on memory, a
// directory and a real S3 server, and what tests need to get such a server. It
// knows the seam and nothing of what is stored behind it.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"varve/tiering/object"
)

// Run checks that the stores which open returns do what object.Store promises.
// Each call of open returns an empty store of its own.
func Run(t *testing.T, open func(t *testing.T) object.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s object.Store)
	}{
		{"PutBytesComeBack", putBytesComeBack},
		{"RangesEndWhereTheObjectEnds", rangesEndWhereTheObjectEnds},
		{"MissingKeys", missingKeys},
		{"PutReplacesAndIfAbsentDoesNot", putReplacesAndIfAbsentDoesNot},
		{"WrongChecksumStoresNothing", wrongChecksumStoresNothing},
		{"BrokenBodyStoresNothing", brokenBodyStoresNothing},
		{"ListIsInKeyOrder", listIsInKeyOrder},
		{"ListPages", listPages},
		{"InvalidKeysAreRefused", invalidKeysAreRefused},
		{"ReplacementIsAtomic", replacementIsAtomic},
		{"ConcurrentPutsOfManyKeys", concurrentPutsOfManyKeys},
		{"EndedContextEndsEveryCall", endedContextEndsEveryCall},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			c.test(t, s)
		})
	}
}

// Random returns n bytes that depend on seed only.
func Random(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(n), byte(n >> 8)})
	_, _ = r.Read(b)
	return b
}

func putBytesComeBack(t *testing.T, s object.Store) {
	ctx := t.Context()
	for _, n := range []int{0, 1, 100, 1<<20 + 3, 6 << 20} {
		key, want := fmt.Sprintf("sizes/%d.bin", n), Random(1, n)
		info, err := s.Put(ctx, key, object.Bytes(want), object.PutOptions{})
		must(t, err)
		sum := crc32.Checksum(want, crc32.MakeTable(crc32.Castagnoli))
		if info.Key != key || info.Size != int64(n) || info.CRC32C.Known && info.CRC32C.Value != sum {
			t.Errorf("put of %d bytes: %+v, crc32c %08x", n, info, sum)
		}
		head, err := s.Head(ctx, key)
		must(t, err)
		if head.Key != key || head.Size != int64(n) || head.ModTime.IsZero() ||
			head.CRC32C.Known && head.CRC32C.Value != sum {
			t.Errorf("head of %d bytes: %+v, crc32c %08x", n, head, sum)
		}
		whole, err := object.ReadAll(ctx, s, key, int64(n))
		if err != nil || !bytes.Equal(whole, want) {
			t.Errorf("read all of %d bytes: equal %t, error %v", n, bytes.Equal(whole, want), err)
		}
		if n == 0 {
			continue
		}
		if _, err := object.ReadAll(ctx, s, key, int64(n)-1); !is(err, object.ErrTooLarge) {
			t.Errorf("read all of %d bytes with a lower limit: %v", n, err)
		}
		got := make([]byte, n)
		if _, err := s.GetRange(ctx, key, 0, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("get of %d bytes: equal %t, error %v", n, bytes.Equal(got, want), err)
		}
	}
}

func rangesEndWhereTheObjectEnds(t *testing.T, s object.Store) {
	ctx := t.Context()
	body := Random(2, 1000)
	mustPut(t, s, "r", body)
	mustPut(t, s, "empty", nil)
	for _, c := range []struct {
		key      string
		off      int64
		ask, got int
		want     error
	}{
		{"r", 0, 1000, 1000, nil},
		{"r", 0, 1, 1, nil},
		{"r", 999, 1, 1, nil},
		{"r", 400, 600, 600, nil},
		{"r", 0, 1001, 1000, io.ErrUnexpectedEOF},
		{"r", 999, 2, 1, io.ErrUnexpectedEOF},
		{"r", 500, 10_000, 500, io.ErrUnexpectedEOF},
		{"r", 1000, 1, 0, object.ErrBadRange},
		{"r", 5000, 10, 0, object.ErrBadRange},
		{"r", -1, 10, 0, object.ErrBadRange},
		{"r", 1 << 40, 1, 0, object.ErrBadRange},
		{"r", 0, 0, 0, nil},
		{"empty", 0, 1, 0, object.ErrBadRange},
	} {
		dst := make([]byte, c.ask)
		n, err := s.GetRange(ctx, c.key, c.off, dst)
		if n != c.got || !is(err, c.want) {
			t.Errorf("%s: %d bytes from %d: %d, %v; want %d, %v", c.key, c.ask, c.off, n, err, c.got, c.want)
			continue
		}
		if n > 0 && !bytes.Equal(dst[:n], body[c.off:c.off+int64(n)]) {
			t.Errorf("%s: %d bytes from %d: wrong bytes", c.key, c.ask, c.off)
		}
		if object.IsRetriable(err) {
			t.Errorf("%s: %d bytes from %d: retriable: %v", c.key, c.ask, c.off, err)
		}
	}
}

func missingKeys(t *testing.T, s object.Store) {
	ctx := t.Context()
	mustPut(t, s, "dir/there", []byte("x"))
	for _, key := range []string{"missing", "dir/missing", "dir", "no/such/dir/missing"} {
		if _, err := s.Head(ctx, key); !is(err, object.ErrNotFound) || object.IsRetriable(err) {
			t.Errorf("head %s: %v", key, err)
		}
		if n, err := s.GetRange(ctx, key, 0, make([]byte, 1)); n != 0 || !is(err, object.ErrNotFound) {
			t.Errorf("get %s: %d, %v", key, n, err)
		}
		must(t, s.Delete(ctx, key))
	}
	must(t, s.Delete(ctx, "dir/there"))
	must(t, s.Delete(ctx, "dir/there"))
	if _, err := s.Head(ctx, "dir/there"); !is(err, object.ErrNotFound) {
		t.Errorf("head after delete: %v", err)
	}
	page, err := s.List(ctx, "", "", 0)
	must(t, err)
	if len(page.Objects) != 0 || page.Next != "" {
		t.Errorf("list after delete: %+v", page)
	}
}

func putReplacesAndIfAbsentDoesNot(t *testing.T, s object.Store) {
	ctx := t.Context()
	mustPut(t, s, "a/k", []byte("first, and longer"))
	mustPut(t, s, "a/k", []byte("second"))
	expect := func(want string) {
		t.Helper()
		got, err := object.ReadAll(ctx, s, "a/k", 100)
		if err != nil || string(got) != want {
			t.Errorf("content %q, error %v; want %q", got, err, want)
		}
	}
	expect("second")
	_, err := s.Put(ctx, "a/k", object.Bytes([]byte("third")), object.PutOptions{IfAbsent: true})
	if !is(err, object.ErrExists) || object.IsRetriable(err) {
		t.Errorf("put if absent over an object: %v", err)
	}
	expect("second")
	must(t, s.Delete(ctx, "a/k"))
	_, err = s.Put(ctx, "a/k", object.Bytes([]byte("fourth")), object.PutOptions{IfAbsent: true})
	must(t, err)
	expect("fourth")
	if _, err := object.ReadAll(ctx, s, "a/k", 5); !is(err, object.ErrTooLarge) {
		t.Errorf("read of 6 bytes with limit 5: %v", err)
	}
}

func wrongChecksumStoresNothing(t *testing.T, s object.Store) {
	ctx := t.Context()
	for _, n := range []int{10, 3 << 20} {
		body := Random(3, n)
		sum := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
		key := fmt.Sprintf("sum/%d", n)
		_, err := s.Put(ctx, key, object.Bytes(body), object.PutOptions{CRC32C: object.CRC(sum ^ 1)})
		if !is(err, object.ErrChecksum) || object.IsRetriable(err) {
			t.Errorf("put of %d bytes with a wrong checksum: %v", n, err)
		}
		if _, err := s.Head(ctx, key); !is(err, object.ErrNotFound) {
			t.Errorf("head after it: %v", err)
		}
		_, err = s.Put(ctx, key, object.Bytes(body), object.PutOptions{CRC32C: object.CRC(sum)})
		must(t, err)
	}
}

// brokenReader fails from some offset on.
type brokenReader struct {
	data []byte
	err  error
}

func (r brokenReader) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(r.data)) {
		return 0, r.err
	}
	n := copy(p, r.data[off:])
	if n < len(p) {
		return n, r.err
	}
	return n, nil
}

func brokenBodyStoresNothing(t *testing.T, s object.Store) {
	ctx := t.Context()
	rotten := errors.New("disk is rotten")
	for _, c := range []struct {
		name string
		err  error
		want error
	}{{"fails", rotten, rotten}, {"ends-early", io.EOF, io.ErrUnexpectedEOF}} {
		for _, have := range []int{0, 100, 2 << 20} {
			key := fmt.Sprintf("%s/%d", c.name, have)
			body := object.Body{Reader: brokenReader{Random(4, have), c.err}, Size: int64(have) + 1000}
			_, err := s.Put(ctx, key, body, object.PutOptions{})
			if !is(err, c.want) || object.IsRetriable(err) {
				t.Errorf("put %s: %v, want %v", key, err, c.want)
			}
			if _, err := s.Head(ctx, key); !is(err, object.ErrNotFound) {
				t.Errorf("head %s: %v", key, err)
			}
		}
	}
}

func listIsInKeyOrder(t *testing.T, s object.Store) {
	ctx := t.Context()
	keys := []string{
		"a-b", "a.b", "a/b", "a/b-", "a/c/d", "a/c.d", "a/c-d", "a0", "ab", "b/1/x", "b/1.x", "b/10/x", "b/2/x",
		"z/.hidden", "z/with space", "z/ünï", "z/plus+and%25&?#", "A", "é",
	}
	for _, k := range keys {
		mustPut(t, s, k, []byte(k))
	}
	slices.Sort(keys)
	for _, prefix := range []string{"", "a", "a/", "a/c", "a/c/", "b/1", "b/1/", "b", "z/", "zz", "a-b", "z/.h"} {
		for _, after := range []string{"", "a", "a-b", "a/", "a/b", "a/c", "a/c/zzz", "b/1/", "b/1/x", "zzz", "\U0010ffff"} {
			var want []string
			for _, k := range keys {
				if len(k) >= len(prefix) && k[:len(prefix)] == prefix && k > after {
					want = append(want, k)
				}
			}
			page, err := s.List(ctx, prefix, after, 0)
			must(t, err)
			var got []string
			for _, o := range page.Objects {
				got = append(got, o.Key)
				if o.Size != int64(len(o.Key)) || o.ModTime.IsZero() {
					t.Errorf("list entry %+v", o)
				}
			}
			if !slices.Equal(got, want) || page.Next != "" {
				t.Errorf("list %q after %q: %q next %q, want %q", prefix, after, got, page.Next, want)
			}
		}
	}
}

func listPages(t *testing.T, s object.Store) {
	ctx := t.Context()
	const n = 1050 // more than S3 gives in one answer
	var want []string
	g := errgroup.Group{}
	g.SetLimit(32)
	for i := range n {
		key := fmt.Sprintf("p/%d/%04d", i%3, i)
		want = append(want, key)
		g.Go(func() error {
			_, err := s.Put(ctx, key, object.Bytes([]byte("x")), object.PutOptions{})
			return err
		})
	}
	must(t, g.Wait())
	slices.Sort(want)
	for _, limit := range []int{0, 7 * 50, 1000, 1049, 1050, 2000} {
		var got []string
		after, pages := "", 0
		for {
			page, err := s.List(ctx, "p/", after, limit)
			must(t, err)
			most := limit
			if most == 0 {
				most = object.MaxListPage
			}
			if len(page.Objects) > most {
				t.Errorf("limit %d: a page of %d", limit, len(page.Objects))
			}
			for _, o := range page.Objects {
				got = append(got, o.Key)
			}
			if pages++; pages > n {
				t.Fatalf("limit %d: no end after %d pages", limit, pages)
			}
			if after = page.Next; after == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: %d keys in %d pages, want %d", limit, len(got), pages, n)
		}
	}
	count := 0
	must(t, object.ListAll(ctx, s, "p/1/", func(object.Info) error { count++; return nil }))
	if count != n/3 {
		t.Errorf("ListAll visited %d of %d", count, n/3)
	}
}

func invalidKeysAreRefused(t *testing.T, s object.Store) {
	ctx := t.Context()
	long := string(bytes.Repeat([]byte("x"), 256))
	for _, key := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/./b", "a\x00b", "a\nb", `a\b`, "\xff", long, ".tmp~x", "a/.tmp~x"} {
		_, perr := s.Put(ctx, key, object.Bytes([]byte("x")), object.PutOptions{})
		_, gerr := s.GetRange(ctx, key, 0, make([]byte, 1))
		_, herr := s.Head(ctx, key)
		for _, err := range []error{perr, gerr, herr, s.Delete(ctx, key)} {
			if !is(err, object.ErrInvalidKey) || object.IsRetriable(err) {
				t.Errorf("key %q: %v", key, err)
			}
		}
	}
	for _, prefix := range []string{"/", "a//", ".", "a/.", "..", "../", "a/../", "\xc3", "a\x00"} {
		if _, err := s.List(ctx, prefix, "", 0); !is(err, object.ErrInvalidKey) {
			t.Errorf("prefix %q: %v", prefix, err)
		}
	}
	page, err := s.List(ctx, "", "", 0)
	must(t, err)
	if len(page.Objects) != 0 {
		t.Errorf("something was stored: %+v", page.Objects)
	}
}

func replacementIsAtomic(t *testing.T, s object.Store) {
	ctx := t.Context()
	const size, rounds = 300_000, 20
	put := func(c byte) error {
		_, err := s.Put(ctx, "x/k", object.Bytes(bytes.Repeat([]byte{c}, size)), object.PutOptions{})
		return err
	}
	must(t, put('a'))
	var g errgroup.Group
	for _, c := range []byte("bc") {
		g.Go(func() error {
			for range rounds {
				if err := put(c); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for range 2 {
		g.Go(func() error {
			dst := make([]byte, size)
			for range rounds {
				if _, err := s.GetRange(ctx, "x/k", 0, dst); err != nil {
					return err
				}
				if n := bytes.Count(dst, dst[:1]); n != size {
					return fmt.Errorf("a read saw two objects: %d of %d bytes are %q", n, size, dst[0])
				}
			}
			return nil
		})
	}
	must(t, g.Wait())
}

func concurrentPutsOfManyKeys(t *testing.T, s object.Store) {
	ctx := t.Context()
	const n = 64
	var g errgroup.Group
	for i := range n {
		g.Go(func() error {
			key := fmt.Sprintf("c/%d/%d", i%7, i)
			body := Random(uint64(i), 1000+i)
			if _, err := s.Put(ctx, key, object.Bytes(body), object.PutOptions{IfAbsent: i%2 == 0}); err != nil {
				return err
			}
			got, err := object.ReadAll(ctx, s, key, 1<<20)
			if err == nil && !bytes.Equal(got, body) {
				err = fmt.Errorf("%s came back changed", key)
			}
			return err
		})
	}
	must(t, g.Wait())
	count := 0
	must(t, object.ListAll(ctx, s, "c/", func(object.Info) error { count++; return nil }))
	if count != n {
		t.Errorf("%d of %d objects are listed", count, n)
	}
}

func endedContextEndsEveryCall(t *testing.T, s object.Store) {
	mustPut(t, s, "there", []byte("x"))
	reason := errors.New("the broker stops")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	_, perr := s.Put(ctx, "new", object.Bytes([]byte("x")), object.PutOptions{})
	_, gerr := s.GetRange(ctx, "there", 0, make([]byte, 1))
	_, herr := s.Head(ctx, "there")
	_, lerr := s.List(ctx, "", "", 0)
	for _, err := range []error{perr, gerr, herr, lerr, s.Delete(ctx, "there")} {
		if !is(err, context.Canceled) || !is(err, reason) || object.IsRetriable(err) {
			t.Errorf("with an ended context: %v", err)
		}
	}
	page, err := s.List(t.Context(), "", "", 0)
	must(t, err)
	if len(page.Objects) != 1 || page.Objects[0].Key != "there" {
		t.Errorf("afterwards: %+v", page.Objects)
	}
}

func is(err, want error) bool {
	if want == nil {
		return err == nil
	}
	return errors.Is(err, want)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustPut(t *testing.T, s object.Store, key string, body []byte) {
	t.Helper()
	_, err := s.Put(t.Context(), key, object.Bytes(body), object.PutOptions{})
	must(t, err)
}
