package object

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// expectContinueBytes is the body size from which a PUT first asks whether it is
// welcome: a refusal then costs a round trip and not the body.
const expectContinueBytes = 4 << 20

// newTransport is HTTP/1.1 with a connection per request in flight: one HTTP/2
// connection would share one congestion window among all of them.
func newTransport(sc s3Config, cfg Config) (*http.Transport, error) {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if sc.CAFile != "" {
		pem, err := os.ReadFile(sc.CAFile)
		if err != nil {
			return nil, badURL("ca_file: " + err.Error())
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, badURL(fmt.Sprintf("ca_file %s holds no PEM certificate", sc.CAFile))
		}
		tlsConfig.RootCAs = pool
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       tlsConfig,
		TLSHandshakeTimeout:   10 * time.Second,
		Protocols:             protocols,
		MaxIdleConns:          cfg.MaxConns,
		MaxIdleConnsPerHost:   cfg.MaxConns,
		MaxConnsPerHost:       cfg.MaxConns,
		IdleConnTimeout:       50 * time.Second, // below the 60 s after which common proxies close theirs
		ExpectContinueTimeout: time.Second,
		ReadBufferSize:        64 << 10,
		WriteBufferSize:       64 << 10,
		DisableCompression:    true,
	}, nil
}

// errStalled ends a request that has moved no byte for the request timeout.
var errStalled = errors.New("no byte moved")

// tooSlowError ends a request that has reached the deadline derived from its bytes.
type tooSlowError struct {
	limit time.Duration
	bytes int64
}

func (e *tooSlowError) Error() string {
	return fmt.Sprintf("no complete answer within %v for %d bytes", e.limit.Round(time.Millisecond), e.bytes)
}

// Sample is one request as it left, or tried to leave, this machine.
type Sample struct {
	Op      Op
	Topic   string
	Purpose Purpose
	Outcome Outcome
	// Requests is how often it was written to a connection: net/http repeats a GET
	// on a fresh connection when a kept one turns out to be dead. 0: it never left.
	Requests                 int64
	BytesSent, BytesReceived int64 // bodies only
	Took                     time.Duration
}

// hookTransport counts every attempt where it leaves and ends those that stall.
type hookTransport struct {
	inner    http.RoundTripper
	host     string // requests elsewhere are for credentials
	stall    time.Duration
	observer atomic.Pointer[func(Sample)]
}

// RoundTrip sends one request.
func (t *hookTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	a := &attempt{transport: t, start: time.Now(), labels: labelsOf(req.Context()), op: t.opOf(req)}
	ctx, cancel := context.WithCancelCause(req.Context())
	a.ctx, a.cancel = ctx, cancel
	a.timer = time.AfterFunc(t.stall, func() { cancel(errStalled) })
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders: func() { a.written.Add(1); a.progress() },
		GotFirstResponseByte: func() {
			a.progress()
		},
	})
	out := req.WithContext(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		out.Body = &requestBody{ReadCloser: req.Body, a: a}
		if req.ContentLength >= expectContinueBytes {
			out.Header = req.Header.Clone()
			out.Header.Set("Expect", "100-continue") // after signing: proxies may eat it
		}
	}
	resp, err := t.inner.RoundTrip(out)
	if err != nil {
		err = a.cause(err)
		a.end(a.failed(err))
		return nil, err
	}
	a.progress()
	a.status = resp.StatusCode
	resp.Body = &responseBody{ReadCloser: resp.Body, a: a}
	return resp, nil
}

// opOf tells the operation from the request, as the bill does.
func (t *hookTransport) opOf(req *http.Request) Op {
	if !sameHost(req.URL.Host, t.host) {
		return OpCredentials
	}
	q := req.URL.RawQuery
	has := func(name string) bool {
		return q == name || strings.HasPrefix(q, name+"=") || strings.HasPrefix(q, name+"&") ||
			strings.Contains(q, "&"+name+"=") || strings.HasSuffix(q, "&"+name)
	}
	switch req.Method {
	case http.MethodPut:
		if has("partNumber") {
			return OpPutPart
		}
		if q != "" {
			return OpBucket
		}
		return OpPut
	case http.MethodPost:
		if has("uploads") {
			return OpCreateMultipart
		}
		return OpCompleteMultipart
	case http.MethodHead:
		return OpHead
	case http.MethodDelete:
		if has("uploadId") {
			return OpAbortMultipart
		}
		return OpDelete
	}
	switch {
	case has("list-type"):
		return OpList
	case has("uploads"):
		return OpListMultipart
	case q != "":
		return OpBucket
	}
	return OpGet
}

// sameHost is lenient: virtual-host style puts the bucket, and AWS the region, into the name.
func sameHost(got, endpoint string) bool {
	return got == endpoint || strings.HasSuffix(got, "."+endpoint) ||
		(strings.HasSuffix(endpoint, "amazonaws.com") && strings.Contains(got, "s3") && strings.HasSuffix(strings.TrimSuffix(got, ".cn"), "amazonaws.com"))
}

// attempt is the life of one request, from RoundTrip to the end of its answer's body.
type attempt struct {
	transport *hookTransport
	op        Op
	labels    labels
	start     time.Time
	ctx       context.Context
	cancel    context.CancelCauseFunc
	timer     *time.Timer
	status    int

	written, sent, received atomic.Int64
	once                    sync.Once
}

func (a *attempt) progress() { a.timer.Reset(a.transport.stall) }

// cause replaces "context canceled" by the reason that we had for it.
func (a *attempt) cause(err error) error {
	if errors.Is(context.Cause(a.ctx), errStalled) {
		return fmt.Errorf("%w for %v", errStalled, a.transport.stall)
	}
	return err
}

func (a *attempt) failed(err error) Outcome {
	switch {
	case a.ctx.Err() != nil && !errors.Is(err, errStalled) && !isTooSlow(a.ctx):
		return OutcomeCanceled
	default:
		return OutcomeUnavailable
	}
}

func isTooSlow(ctx context.Context) bool {
	var slow *tooSlowError
	return errors.As(context.Cause(ctx), &slow)
}

// end reports the attempt, once.
func (a *attempt) end(outcome Outcome) {
	a.once.Do(func() {
		a.timer.Stop()
		a.cancel(nil)
		if f := a.transport.observer.Load(); f != nil {
			(*f)(Sample{
				Op: a.op, Topic: a.labels.topic, Purpose: a.labels.purpose, Outcome: outcome,
				Requests: a.written.Load(), BytesSent: a.sent.Load(), BytesReceived: a.received.Load(),
				Took: time.Since(a.start),
			})
		}
	})
}

func outcomeOfStatus(status int) Outcome {
	switch {
	case status < 300:
		return OutcomeOK
	case status == http.StatusNotFound:
		return OutcomeNotFound
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return OutcomeDenied
	case status == http.StatusConflict, status == http.StatusPreconditionFailed:
		return OutcomeExists
	case status == http.StatusRequestedRangeNotSatisfiable:
		return OutcomeBadRange
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return OutcomeThrottled
	case status == http.StatusRequestTimeout, status >= 500 && status != http.StatusNotImplemented:
		return OutcomeUnavailable
	default:
		return OutcomeError
	}
}

type requestBody struct {
	io.ReadCloser
	a *attempt
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.a.sent.Add(int64(n))
	if b.a.ctx.Err() == nil {
		b.a.progress()
	}
	return n, err
}

type responseBody struct {
	io.ReadCloser
	a *attempt
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.a.received.Add(int64(n))
	switch {
	case err == nil:
		b.a.progress()
	case err == io.EOF: //nolint:errorlint // Reader promises the bare value
		b.a.end(outcomeOfStatus(b.a.status))
	default:
		err = b.a.cause(err)
		b.a.end(b.a.failed(err))
	}
	return n, err
}

func (b *responseBody) Close() error {
	err := b.ReadCloser.Close()
	b.a.end(outcomeOfStatus(b.a.status))
	return err
}
