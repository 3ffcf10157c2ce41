package object

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestS3AnswersBecomeTypedErrors(t *testing.T) {
	for _, c := range []struct {
		status    int
		code      string
		want      error
		retriable bool
		says      string
	}{
		{404, "NoSuchKey", ErrNotFound, false, ""},
		{404, "NoSuchBucket", ErrNoBucket, false, "create the bucket"},
		{403, "AccessDenied", ErrDenied, false, "s3:ListBucket"},
		{403, "RequestTimeTooSkewed", ErrDenied, false, "set this machine's clock"},
		{403, "InvalidAccessKeyId", ErrDenied, false, "does not know this access key"},
		{403, "SignatureDoesNotMatch", ErrDenied, false, "secret key"},
		{400, "ExpiredToken", ErrDenied, false, "renew"},
		{400, "AuthorizationHeaderMalformed", ErrMisconfigured, false, "region="},
		{301, "PermanentRedirect", ErrMisconfigured, false, "endpoint="},
		{416, "InvalidRange", ErrBadRange, false, ""},
		{503, "SlowDown", ErrThrottled, true, "fewer requests"},
		{503, "ServiceUnavailable", ErrUnavailable, true, ""},
		{429, "TooManyRequests", ErrThrottled, true, ""},
		{500, "InternalError", ErrUnavailable, true, ""},
		{502, "", ErrUnavailable, true, ""},
		{504, "", ErrUnavailable, true, ""},
		{403, "InvalidObjectState", ErrArchived, false, "archive"},
		{400, "SomethingNew", errUnexpected, false, "the store's words"},
		{501, "NotImplemented", ErrNotSupported, false, ""},
		{507, "XMinioStorageFull", ErrUnavailable, true, "disks are full"},
	} {
		t.Run(c.code, func(t *testing.T) {
			f := newFakeS3(t, answerError(c.status, c.code, "the store's words"))
			s := openTestS3(t, f.URL, "", Config{})
			_, err := s.GetRange(t.Context(), "some/key", 0, make([]byte, 10))
			var e *Error
			if !errors.Is(err, c.want) || !errors.As(err, &e) || IsRetriable(err) != c.retriable {
				t.Fatalf("%d %s: %v (retriable %t)", c.status, c.code, err, IsRetriable(err))
			}
			for _, part := range []string{"get s3://bucket/pre/fix/some/key: ", c.says, "[request REQ1]"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			noSecrets(t, err)
			if got := f.asked(); len(got) != 1 {
				t.Errorf("one call made %d requests: %q", len(got), got)
			}
		})
	}
}

func TestS3WrongRegionSaysBoth(t *testing.T) {
	f := newFakeS3(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Amz-Bucket-Region", "eu-central-1")
		answerError(400, "AuthorizationHeaderMalformed", "expecting 'eu-central-1'")(w, r)
	})
	s := openTestS3(t, f.URL, "&region=us-west-2", Config{})
	_, err := s.Put(t.Context(), "k", Bytes([]byte("x")), PutOptions{})
	if !errors.Is(err, ErrMisconfigured) || !strings.Contains(err.Error(), "eu-central-1") || !strings.Contains(err.Error(), "us-west-2") {
		t.Error(err)
	}
	if got := f.asked(); len(got) != 1 {
		t.Errorf("a fixed region is not looked up: %q", got)
	}
}

func TestS3RefusesNotS3(t *testing.T) {
	f := newFakeS3(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<!DOCTYPE html><html><body><p>console<br></body></html>")
	})
	s := openTestS3(t, f.URL, "", Config{})
	if _, err := s.List(t.Context(), "", "", 0); !errors.Is(err, ErrMisconfigured) {
		t.Error(err)
	}
}

func TestS3NobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := "http://" + l.Addr().String()
	l.Close()
	s := openTestS3(t, addr, "", Config{})
	_, err = s.Head(t.Context(), "k")
	if !errors.Is(err, ErrUnavailable) || !IsRetriable(err) || !strings.Contains(err.Error(), "nothing listens at "+addr) {
		t.Error(err)
	}
	noSecrets(t, err)
}

func TestS3TLSMistakesAreNamed(t *testing.T) {
	// Handshake failures are logged by the server; they are the point here.
	ts := httptest.NewUnstartedServer(answerBytes([]byte("hello")))
	ts.Config.ErrorLog = discardLog()
	ts.StartTLS()
	defer ts.Close()
	plain := newFakeS3(t, answerBytes([]byte("hello")))
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ts.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, endpoint, params, says string
	}{
		{"unknown authority", ts.URL, "", "ca_file="},
		{"http to a TLS port", strings.Replace(ts.URL, "https", "http", 1), "", "endpoint=https://"},
		{"https to a plain port", strings.Replace(plain.URL, "http", "https", 1), "", "endpoint=http://"},
		{"with ca_file", ts.URL, "&ca_file=" + ca, ""},
	} {
		s := openTestS3(t, c.endpoint, c.params, Config{})
		dst := make([]byte, 5)
		_, err := s.GetRange(t.Context(), "k", 0, dst)
		if c.says == "" {
			if err != nil || string(dst) != "hello" {
				t.Errorf("%s: %q, %v", c.name, dst, err)
			}
			continue
		}
		if !errors.Is(err, ErrMisconfigured) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestS3CutAnswerIsRetriableAndNoEndOfObject(t *testing.T) {
	f := newFakeS3(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", "bytes 0-99/1000")
		w.Header().Set("Content-Length", "100")
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(make([]byte, 60))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	s := openTestS3(t, f.URL, "", Config{})
	_, err := s.GetRange(t.Context(), "k", 0, make([]byte, 100))
	if !IsRetriable(err) || errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "60 of 100 bytes") {
		t.Error(err)
	}
}

func TestS3StoreThatIgnoresRangesIsNotBelieved(t *testing.T) {
	data := []byte("0123456789")
	f := newFakeS3(t, func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		answerBytes(data)(w, r)
	})
	s := openTestS3(t, f.URL, "", Config{})
	dst := make([]byte, 4)
	if _, err := s.GetRange(t.Context(), "k", 3, dst); err == nil || IsRetriable(err) {
		t.Errorf("a range from 3: %q, %v", dst, err)
	}
	if _, err := s.GetRange(t.Context(), "k", 0, dst); err != nil || string(dst) != "0123" {
		t.Errorf("a range from 0: %q, %v", dst, err)
	}
}

// newHangingS3 answers nothing beyond first until the test ends.
func newHangingS3(t *testing.T, first func(w http.ResponseWriter)) (*fakeS3, <-chan struct{}) {
	release, entered := make(chan struct{}), make(chan struct{}, 16)
	f := newFakeS3(t, func(w http.ResponseWriter, r *http.Request) {
		if first != nil {
			first(w)
		}
		entered <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(release) }) // before the server is closed, which waits for its handlers
	return f, entered
}

func TestS3SilentStoreIsUnavailableAfterTheTimeout(t *testing.T) {
	half := func(w http.ResponseWriter) {
		w.Header().Set("Content-Range", "bytes 0-99/1000")
		w.Header().Set("Content-Length", "100")
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(make([]byte, 60))
		w.(http.Flusher).Flush()
	}
	for name, first := range map[string]func(http.ResponseWriter){"before the answer": nil, "in its middle": half} {
		t.Run(name, func(t *testing.T) {
			f, _ := newHangingS3(t, first)
			// The deadline from bytes is far away; the stall ends it.
			s := openTestS3(t, f.URL, "", Config{RequestTimeout: 100 * time.Millisecond, MinBytesPerSecond: 1})
			_, err := s.GetRange(t.Context(), "k", 0, make([]byte, 100))
			if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "no byte moved") || errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
}

func TestS3DripOfBytesMeetsTheDeadline(t *testing.T) {
	f := newFakeS3(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", "bytes 0-9999/10000")
		w.Header().Set("Content-Length", "10000")
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusPartialContent)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range 10000 {
			_, _ = w.Write([]byte("x"))
			w.(http.Flusher).Flush()
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	})
	s := openTestS3(t, f.URL, "", Config{RequestTimeout: 200 * time.Millisecond})
	_, err := s.GetRange(t.Context(), "k", 0, make([]byte, 10000))
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "no complete answer within") {
		t.Error(err)
	}
}

func TestS3CallerThatLeavesGetsItsOwnReason(t *testing.T) {
	f, entered := newHangingS3(t, nil)
	s := openTestS3(t, f.URL, "", Config{})
	for name, call := range map[string]func(ctx context.Context) error{
		"get": func(ctx context.Context) error { _, err := s.GetRange(ctx, "k", 0, make([]byte, 10)); return err },
		"put": func(ctx context.Context) error {
			_, err := s.Put(ctx, "k", Bytes([]byte("x")), PutOptions{})
			return err
		},
		"head":   func(ctx context.Context) error { _, err := s.Head(ctx, "k"); return err },
		"list":   func(ctx context.Context) error { _, err := s.List(ctx, "", "", 0); return err },
		"delete": func(ctx context.Context) error { return s.Delete(ctx, "k") },
	} {
		reason := errors.New("the broker stops")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { <-entered; cancel(reason) }()
		if err := call(ctx); !errors.Is(err, context.Canceled) || !errors.Is(err, reason) || IsRetriable(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// watchedReader tells when it was read last.
type watchedReader struct {
	size   int64
	closed atomic.Bool // no read may come any more
	late   atomic.Int64
}

func (r *watchedReader) ReadAt(p []byte, off int64) (int, error) {
	if r.closed.Load() {
		r.late.Add(1)
	}
	return int(min(int64(len(p)), r.size-off)), nil
}

func TestS3PutLeavesItsBodyAloneAfterItReturns(t *testing.T) {
	f := newFakeS3(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, 1<<20) // takes a part, then refuses
		answerError(403, "AccessDenied", "no")(w, r)
	})
	s := openTestS3(t, f.URL, "", Config{})
	for range 20 {
		body := &watchedReader{size: 64 << 20}
		_, err := s.Put(t.Context(), "k", Body{Reader: body, Size: body.size}, PutOptions{CRC32C: CRC(1)})
		body.closed.Store(true)
		if !errors.Is(err, ErrDenied) && !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
		if body.late.Load() > 0 {
			t.Fatal("the body was read after Put had returned")
		}
	}
}

func TestS3LargePutAsksFirst(t *testing.T) {
	f := newFakeS3(t, answerError(403, "AccessDenied", "no"))
	s := openTestS3(t, f.URL, "", Config{})
	body := &watchedReader{size: 64 << 20}
	m := NewMeter(s)
	_, err := m.Put(t.Context(), "k", Body{Reader: body, Size: body.size}, PutOptions{CRC32C: CRC(1)})
	if !errors.Is(err, ErrDenied) {
		t.Fatal(err)
	}
	if sent := m.Total(nil).BytesSent; sent != 0 {
		t.Errorf("%d bytes were sent to a store that had refused", sent)
	}
}

func TestS3ListOutOfOrderIsRefused(t *testing.T) {
	f := newFakeS3(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>`+
			`<Contents><Key>pre/fix/b</Key><Size>1</Size><LastModified>2026-01-02T03:04:05Z</LastModified></Contents>`+
			`<Contents><Key>pre/fix/a</Key><Size>1</Size><LastModified>2026-01-02T03:04:05Z</LastModified></Contents>`+
			`</ListBucketResult>`)
	})
	s := openTestS3(t, f.URL, "", Config{})
	if _, err := s.List(t.Context(), "", "", 0); err == nil || !strings.Contains(err.Error(), "not in order") {
		t.Error(err)
	}
}

func TestS3ClosedStoreSaysSo(t *testing.T) {
	f := newFakeS3(t, answerBytes([]byte("x")))
	s := openTestS3(t, f.URL, "", Config{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Head(t.Context(), "k"); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestCombinedCRCIsTheWholes(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef-"), 1000)
	whole, err := crcOf(t.Context(), "", "", Bytes(data))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 7, 1000, 4096, len(data) - 1, len(data)} {
		var crcs []uint32
		for off := 0; off < len(data); off += size {
			c, _ := crcOf(t.Context(), "", "", Bytes(data[off:min(off+size, len(data))]))
			crcs = append(crcs, c.Value)
		}
		if got := combineCRCs(crcs, int64(size), int64(len(data))); got != whole.Value {
			t.Errorf("pieces of %d: %08x, want %08x", size, got, whole.Value)
		}
	}
}

func TestS3ConnectionsAreReused(t *testing.T) {
	f := newFakeS3(t, nil)
	f.set(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			_, _ = io.Copy(io.Discard, r.Body)
			return
		}
		answerBytes(make([]byte, 5<<20))(w, r)
	})
	s := openTestS3(t, f.URL, "", Config{})
	dst := make([]byte, 1<<20)
	for i := range 10 {
		if _, err := s.GetRange(t.Context(), "k", int64(i)*100, dst); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(t.Context(), "k", Bytes(dst), PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Head(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.connections.Load(); n != 1 {
		t.Errorf("30 requests, one after the other, used %d connections", n)
	}
}

// multipartS3 takes multipart uploads only, and answers the first try of each part
// with SlowDown.
type multipartS3 struct {
	mu    sync.Mutex
	parts map[string][]byte
	tries map[string]int
}

func (m *multipartS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	number := r.URL.Query().Get("partNumber")
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case r.Method == http.MethodPut && number == "":
		answerError(400, "EntityTooLarge", "too large for one PUT")(w, r)
	case r.Method == http.MethodPut:
		if m.tries[number]++; m.tries[number] == 1 {
			answerError(503, "SlowDown", "slow down")(w, r)
			return
		}
		m.parts[number] = body
		w.Header().Set("ETag", `"e`+number+`"`)
	case r.URL.Query().Has("uploads"):
		_, _ = io.WriteString(w, `<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>`)
	default:
		_, _ = io.WriteString(w, `<CompleteMultipartUploadResult><Bucket>bucket</Bucket><Key>k</Key><ETag>"x"</ETag></CompleteMultipartUploadResult>`)
	}
}

func TestS3RefusedSizeGoesInPartsAndOnlyTheThrottledPartIsRepeated(t *testing.T) {
	m := &multipartS3{parts: map[string][]byte{}, tries: map[string]int{}}
	f := newFakeS3(t, m.ServeHTTP)
	s := openTestS3(t, f.URL, "", Config{})
	SetPartSizes(s, 100<<20, 5<<20)
	body := bytes.Repeat([]byte("varve "), 2<<20)
	info, err := s.Put(t.Context(), "k", Bytes(body), PutOptions{})
	if err != nil || info.Size != int64(len(body)) {
		t.Fatalf("%+v, %v", info, err)
	}
	if got := slices.Concat(m.parts["1"], m.parts["2"], m.parts["3"]); !bytes.Equal(got, body) {
		t.Errorf("the parts do not add up: %d of %d bytes", len(got), len(body))
	}
	if asked := f.asked(); len(asked) != 1+1+2*3+1 {
		t.Errorf("%d requests: %q", len(asked), asked)
	}
}

func TestS3StaleUploadsOfThisPrefixAreAborted(t *testing.T) {
	f := newFakeS3(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_, _ = io.WriteString(w, `<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>`+
			`<Upload><Key>pre/fix/old</Key><UploadId>u1</UploadId><Initiated>2026-01-02T00:00:00Z</Initiated></Upload>`+
			`<Upload><Key>pre/fix/young</Key><UploadId>u2</UploadId><Initiated>2026-01-04T00:00:00Z</Initiated></Upload>`+
			`<Upload><Key>pre/other</Key><UploadId>u3</UploadId><Initiated>2026-01-02T00:00:00Z</Initiated></Upload>`+
			`</ListMultipartUploadsResult>`)
	})
	s := openTestS3(t, f.URL, "", Config{})
	n, err := s.AbortStaleUploads(t.Context(), time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC))
	asked := f.asked()
	if err != nil || n != 1 || len(asked) != 2 || asked[1] != "DELETE /bucket/pre/fix/old?uploadId=u1" {
		t.Errorf("%d, %v, %q", n, err, asked)
	}
}
