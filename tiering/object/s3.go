package object

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/s3utils"
)

const (
	// defaultRegion is what S3-compatible stores assume when nobody sets one.
	defaultRegion = "us-east-1"

	// singlePutBytes is up to where an object is one PUT. A multipart upload costs
	// two more billed requests and no memory is saved by it, because bodies are
	// streamed; above this size a repeated upload after a break costs too much.
	singlePutBytes = 256 << 20
	// partBytes is the least size of a part; larger objects get larger parts so that
	// there are never more than maxParts.
	partBytes = 64 << 20
	maxParts  = 10_000
	// partParallel parts are in flight at once: two fill a 10 Gbit/s link, and more
	// would take bandwidth from other uploads without ending sooner.
	partParallel = 2
	// upfrontCRCBytes is up to where a second pass over the body costs less than
	// the framing of a trailer.
	upfrontCRCBytes = 1 << 20

	maxS3PrefixBytes = 120 // with maxKeyBytes below S3's 1024
)

// s3Params are the query parameters of an s3:// URL.
var s3Params = []string{"endpoint", "region", "path_style", "ca_file", "create_bucket"}

// s3Config is a parsed s3:// URL.
type s3Config struct {
	Bucket       string
	Prefix       string // without slashes at its ends, may be empty
	Endpoint     *url.URL
	Region       string
	PathStyle    bool
	CAFile       string
	CreateBucket bool
}

func parseS3(u *url.URL) (s3Config, error) {
	if err := onlyParams(u, s3Params); err != nil {
		return s3Config{}, err
	}
	q := u.Query()
	c := s3Config{
		Bucket: u.Host,
		Prefix: strings.Trim(u.Path, "/"),
		Region: q.Get("region"),
		CAFile: q.Get("ca_file"),
	}
	if c.Bucket == "" {
		return c, badURL("it names no bucket; write s3://bucket/prefix")
	}
	if err := s3utils.CheckValidBucketNameStrict(c.Bucket); err != nil {
		return c, badURL(fmt.Sprintf("bucket %q: %v", c.Bucket, err))
	}
	if c.Prefix != "" {
		if err := CheckKey(c.Prefix); err != nil {
			return c, badURL("prefix: " + err.Error())
		}
	}
	if len(c.Prefix) > maxS3PrefixBytes {
		return c, badURL(fmt.Sprintf("prefix of %d bytes, at most %d", len(c.Prefix), maxS3PrefixBytes))
	}
	if c.Region == "" {
		c.Region = defaultRegion
	}
	var err error
	if c.Endpoint, err = parseEndpoint(q.Get("endpoint")); err != nil {
		return c, err
	}
	// Stores of one's own seldom have a DNS name per bucket; AWS always does.
	c.PathStyle = q.Get("endpoint") != ""
	for name, dst := range map[string]*bool{"path_style": &c.PathStyle, "create_bucket": &c.CreateBucket} {
		if v := q.Get(name); v != "" {
			if *dst, err = strconv.ParseBool(v); err != nil {
				return c, badURL(fmt.Sprintf("%s=%q is neither true nor false", name, v))
			}
		}
	}
	return c, nil
}

func parseEndpoint(raw string) (*url.URL, error) {
	if raw == "" {
		return &url.URL{Scheme: "https", Host: "s3.amazonaws.com"}, nil
	}
	e, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, badURL("endpoint does not parse; write endpoint=http://host:port")
	case e.User != nil:
		return nil, badURL("endpoint holds credentials; put them into the environment or a file")
	case (e.Scheme != "http" && e.Scheme != "https") || e.Host == "":
		return nil, badURL(fmt.Sprintf("endpoint %q: write endpoint=http://host:port or https://host:port", e.Redacted()))
	case strings.Trim(e.Path, "/") != "" || e.RawQuery != "" || e.Fragment != "":
		return nil, badURL(fmt.Sprintf("endpoint %q has a path; the bucket belongs before the ?, as in s3://bucket/prefix?endpoint=http://host:port", e.Redacted()))
	}
	return &url.URL{Scheme: e.Scheme, Host: e.Host}, nil
}

// checksumMode is how a PUT proves to the store that its bytes arrived whole.
type checksumMode int32

const (
	checksumHeader  checksumMode = iota // CRC32C before the body, at the price of a pass over it
	checksumTrailer                     // CRC32C after the body (aws-chunked); not every store takes it
	checksumNone                        // the store refuses both
)

// S3 is a Store in a bucket of an S3-compatible service. It never retries: the
// retry decorator does, so that every request is counted once and bounded.
type S3 struct {
	cfg     s3Config
	name    string
	timeout time.Duration
	minRate int64
	log     *slog.Logger
	now     func() time.Time

	plain     minio.Core
	trailer   minio.Core // the same, for checksum trailers
	http      *http.Transport
	hook      *hookTransport
	checksums atomic.Int32 // a checksumMode, set by the probe
	closed    atomic.Bool

	singlePut, part int64 // constants but in tests
}

func openS3(sc s3Config, cfg Config) (*S3, error) {
	name := "s3://" + sc.Bucket
	if sc.Prefix != "" {
		name += "/" + sc.Prefix
	}
	transport, err := newTransport(sc, cfg)
	if err != nil {
		return nil, err
	}
	s := &S3{
		cfg: sc, name: name, timeout: cfg.RequestTimeout, minRate: cfg.MinBytesPerSecond,
		log: cfg.Log, now: cfg.Now, http: transport,
		hook:      &hookTransport{inner: transport, host: sc.Endpoint.Host, stall: cfg.RequestTimeout},
		singlePut: singlePutBytes, part: partBytes,
	}
	creds := newCredentials(cfg)
	lookup := minio.BucketLookupDNS
	if sc.PathStyle {
		lookup = minio.BucketLookupPath
	}
	for _, c := range []struct {
		dst      *minio.Core
		trailers bool
	}{{&s.plain, false}, {&s.trailer, true}} {
		core, err := minio.NewCore(sc.Endpoint.Host, &minio.Options{
			Creds:           creds,
			Secure:          sc.Endpoint.Scheme == "https",
			Transport:       s.hook,
			Region:          sc.Region, // fixed: never a request to ask where the bucket is
			BucketLookup:    lookup,
			TrailingHeaders: c.trailers,
			MaxRetries:      1, // one try; after a retriable failure minio-go still sleeps up to 200 ms before it says so
		})
		if err != nil {
			return nil, badURL(fmt.Sprintf("endpoint %s: %v", sc.Endpoint, err))
		}
		core.SetAppInfo("varve", "1")
		*c.dst = *core
	}
	return s, nil
}

// Name is "s3://bucket/prefix".
func (s *S3) Name() string { return s.name }

// Endpoint is where the bucket is, for messages.
func (s *S3) Endpoint() string { return s.cfg.Endpoint.String() }

// Close drops idle connections; later calls are ErrClosed.
func (s *S3) Close() error {
	s.closed.Store(true)
	s.http.CloseIdleConnections()
	return nil
}

// setObserver sends a Sample of every request that leaves from now on to f.
func (s *S3) setObserver(f func(Sample)) { s.hook.observer.Store(&f) }

// request gives one request its deadline: the fixed part plus what its bytes may
// take at the lowest useful rate.
func (s *S3) request(ctx context.Context, bytes int64) (context.Context, context.CancelFunc) {
	d := s.timeout + time.Duration(float64(bytes)/float64(s.minRate)*float64(time.Second))
	return context.WithTimeoutCause(ctx, d, &tooSlowError{limit: d, bytes: bytes})
}

// begin is what every method asks first.
func (s *S3) begin(ctx context.Context, op Op, key string) error {
	if s.closed.Load() {
		return &Error{Op: op, Store: s.name, Key: key, Kind: ErrClosed}
	}
	if ctx.Err() != nil {
		return canceled(ctx, op, s.name, key)
	}
	return nil
}

// full is the key as the bucket knows it.
func (s *S3) full(key string) string {
	if s.cfg.Prefix == "" {
		return key
	}
	return s.cfg.Prefix + "/" + key
}

// relative undoes full.
func (s *S3) relative(key string) (string, bool) {
	if s.cfg.Prefix == "" {
		return key, true
	}
	return strings.CutPrefix(key, s.cfg.Prefix+"/")
}

const crcHeader = "x-amz-checksum-crc32c"

func encodeCRC(crc uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
}

// decodeCRC reads a checksum header. A value with a part count ("...-3") is a
// checksum of checksums and says nothing about the whole object.
func decodeCRC(v string) Checksum {
	b, err := base64.StdEncoding.DecodeString(v)
	if err != nil || len(b) != 4 {
		return Checksum{}
	}
	return CRC(binary.BigEndian.Uint32(b))
}
