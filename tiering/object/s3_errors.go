package object

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/minio/minio-go/v7"
)

// maxServerText bounds what of a server's message gets into an error line.
const maxServerText = 300

// fail turns what minio-go or net/http said into an *Error. ctx is the context of
// the request itself, so that our own deadline can be told from the caller's end.
func (s *S3) fail(ctx context.Context, op Op, key string, err error) error {
	if ctx.Err() != nil && !isTooSlow(ctx) && !errors.Is(err, errStalled) {
		return canceled(ctx, op, s.name, key)
	}
	var ours *Error
	if errors.As(err, &ours) {
		return err
	}
	e := &Error{Op: op, Store: s.name, Key: key, Kind: ErrUnavailable}
	var resp minio.ErrorResponse
	var noCreds *credentialsError
	switch {
	case errors.As(err, &noCreds):
		e.Kind, e.Detail, e.Hint = ErrDenied, noCreds.Error(), noCreds.hint()
	case isTooSlow(ctx):
		e.Detail = context.Cause(ctx).Error()
		e.Hint = "check that " + s.Endpoint() + " answers and how busy the network is"
	case errors.As(err, &resp):
		s.failResponse(e, resp)
	default:
		s.failTransport(e, err)
	}
	return e
}

// codeMeaning is what an S3 error code means here.
type codeMeaning struct {
	kind error
	hint string
}

var (
	clockHint  = "the clocks of this machine and of the store are more than 15 minutes apart: set this machine's clock (NTP); the credentials may be right"
	keysHint   = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the file that store.credentials.file names"
	policyHint = "allow s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload on the prefix and s3:ListBucket on the bucket (without the latter S3 also hides that a key does not exist)"
	tokenHint  = "renew the session token, or use credentials that do not expire"
	busyHint   = "the store asks for fewer requests; MinIO also says so while a disk or node of it is down"
)

// codeMeanings lists the codes whose HTTP status alone would mislead.
var codeMeanings = map[string]codeMeaning{
	"NoSuchKey":                      {ErrNotFound, ""},
	"NoSuchVersion":                  {ErrNotFound, ""},
	"NoSuchUpload":                   {ErrNotFound, ""},
	"NoSuchBucket":                   {ErrNoBucket, "create the bucket, or name another in the store URL (create_bucket=true lets Varve make it)"},
	"InvalidBucketName":              {ErrMisconfigured, "check the bucket in the store URL"},
	"InvalidRange":                   {ErrBadRange, ""},
	"PreconditionFailed":             {ErrExists, ""},
	"ConditionalRequestConflict":     {ErrUnavailable, ""},
	"OperationAborted":               {ErrUnavailable, ""},
	"RequestTimeTooSkewed":           {ErrDenied, clockHint},
	"RequestExpired":                 {ErrDenied, clockHint},
	"AccessDenied":                   {ErrDenied, policyHint},
	"AllAccessDisabled":              {ErrDenied, policyHint},
	"AccountProblem":                 {ErrDenied, "ask the store's operator"},
	"InvalidAccessKeyId":             {ErrDenied, "the store does not know this access key: " + keysHint},
	"SignatureDoesNotMatch":          {ErrDenied, "the secret key does not fit the access key, or a proxy changes requests: " + keysHint},
	"InvalidToken":                   {ErrDenied, tokenHint},
	"ExpiredToken":                   {ErrDenied, tokenHint},
	"ExpiredTokenException":          {ErrDenied, tokenHint},
	"AuthorizationHeaderMalformed":   {ErrMisconfigured, "region= in the store URL is not the bucket's"},
	"InvalidRegion":                  {ErrMisconfigured, "region= in the store URL is not the bucket's"},
	"IllegalLocationConstraint":      {ErrMisconfigured, "region= in the store URL is not the bucket's"},
	"PermanentRedirect":              {ErrMisconfigured, "the bucket is in another region or at another endpoint: check region= and endpoint= in the store URL"},
	"TemporaryRedirect":              {ErrUnavailable, "the bucket is new, or being moved"},
	"SlowDown":                       {ErrThrottled, busyHint},
	"SlowDownRead":                   {ErrThrottled, busyHint},
	"SlowDownWrite":                  {ErrThrottled, busyHint},
	"Throttling":                     {ErrThrottled, busyHint},
	"ThrottlingException":            {ErrThrottled, busyHint},
	"RequestLimitExceeded":           {ErrThrottled, busyHint},
	"RequestThrottled":               {ErrThrottled, busyHint},
	"TooManyRequests":                {ErrThrottled, busyHint},
	"BandwidthLimitExceeded":         {ErrThrottled, busyHint},
	"InternalError":                  {ErrUnavailable, ""},
	"ServiceUnavailable":             {ErrUnavailable, ""},
	"RequestTimeout":                 {ErrUnavailable, ""},
	"IncompleteBody":                 {ErrUnavailable, ""},
	"XMinioServerNotInitialized":     {ErrUnavailable, "MinIO is still starting"},
	"XMinioStorageFull":              {ErrUnavailable, "the store's disks are full"},
	"QuotaExceeded":                  {ErrUnavailable, "the bucket's quota is used up"},
	"XMinioAdminBucketQuotaExceeded": {ErrUnavailable, "the bucket's quota is used up"},
	"InvalidStorageClass":            {ErrMisconfigured, "varve.tier.storage.class names a class that this store does not have"},
	"EntityTooLarge":                 {ErrTooLarge, ""},
	"BadDigest":                      {ErrChecksum, "the bytes changed on their way; a proxy in between is the usual reason"},
	"InvalidDigest":                  {ErrChecksum, ""},
	"XAmzContentChecksumMismatch":    {ErrChecksum, "the bytes changed on their way; a proxy in between is the usual reason"},
	"XAmzContentSHA256Mismatch":      {ErrChecksum, "the bytes changed on their way; a proxy in between is the usual reason"},
	"InvalidObjectState":             {ErrArchived, "restore it from the archive class first, and remove the lifecycle rule that moved it there"},
	"NotImplemented":                 {ErrNotSupported, ""},
	"APINotSupported":                {ErrNotSupported, ""},
	"MethodNotAllowed":               {ErrNotSupported, "is endpoint= an S3 API, and not the store's console?"},
	"XMinioInvalidObjectName":        {ErrInvalidKey, ""},
	"KeyTooLongError":                {ErrInvalidKey, ""},
	"XMinioParentIsObject":           {ErrInvalidKey, "another object's key is a path prefix of this one"},
	"XMinioObjectExistsAsDirectory":  {ErrInvalidKey, "this key is a path prefix of another object's"},
}

// failResponse classifies an answer of the store.
func (s *S3) failResponse(e *Error, resp minio.ErrorResponse) {
	e.Status, e.Code, e.RequestID = resp.StatusCode, resp.Code, resp.RequestID
	e.Detail = clip(resp.Message)
	if m, ok := codeMeanings[resp.Code]; ok {
		e.Kind, e.Hint = m.kind, m.hint
	} else {
		e.Kind = kindOfStatus(resp.StatusCode)
	}
	if strings.HasPrefix(e.Code, fmt.Sprint(e.Status)) { // minio-go repeats the status when there is no code
		e.Code = ""
	}
	switch {
	case errors.Is(e.Kind, ErrMisconfigured) && resp.Region != "":
		e.Hint += fmt.Sprintf("; the bucket says %s, Varve asked with %s", resp.Region, s.cfg.Region)
	case errors.Is(e.Kind, ErrNotFound), errors.Is(e.Kind, ErrBadRange), errors.Is(e.Kind, ErrExists):
		e.Detail = "" // the kind says it
	case strings.Contains(resp.Message, "HTTP request to an HTTPS server"):
		e.Kind, e.Hint = ErrMisconfigured, "the endpoint speaks TLS: write endpoint=https://..."
	case e.Status == http.StatusMovedPermanently || e.Status == http.StatusTemporaryRedirect:
		if e.Hint == "" {
			e.Kind, e.Hint = ErrMisconfigured, codeMeanings["PermanentRedirect"].hint
		}
	}
}

func kindOfStatus(status int) error {
	switch outcomeOfStatus(status) {
	case OutcomeNotFound:
		return ErrNotFound
	case OutcomeDenied:
		return ErrDenied
	case OutcomeExists:
		return ErrExists
	case OutcomeBadRange:
		return ErrBadRange
	case OutcomeThrottled:
		return ErrThrottled
	case OutcomeUnavailable:
		return ErrUnavailable
	default:
		if status == http.StatusNotImplemented {
			return ErrNotSupported
		}
		return errUnexpected
	}
}

// failTransport classifies a request that got no answer, or half of one.
func (s *S3) failTransport(e *Error, err error) {
	e.Err = withoutURL(err)
	var (
		dns      *net.DNSError
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		record   tls.RecordHeaderError
		syntax   *xml.SyntaxError
		broken   *brokenBodyError
	)
	check := "check endpoint= in the store URL"
	switch {
	case errors.Is(err, errStalled):
		e.Hint = "check that " + s.Endpoint() + " answers"
	case errors.As(err, &broken):
	case errors.As(err, &dns):
		e.Hint = check
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Hint = "nothing listens at " + s.Endpoint() + ": start the store, or " + check
	case errors.As(err, &unknown):
		e.Kind, e.Hint = ErrMisconfigured, "name the store's certificate authority with ca_file= in the store URL"
	case errors.As(err, &hostname), errors.As(err, &invalid):
		e.Kind, e.Hint = ErrMisconfigured, "the store's certificate does not fit; "+check
	case errors.As(err, &record), strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		e.Kind, e.Hint = ErrMisconfigured, "the endpoint does not speak TLS: write endpoint=http://..."
	case errors.As(err, &syntax), strings.Contains(err.Error(), "malformed HTTP"):
		e.Kind, e.Hint = ErrMisconfigured, "this is not an S3 answer; is endpoint= an S3 API, and not the store's console?"
	case errors.Is(err, io.EOF), strings.Contains(err.Error(), "Connection closed by foreign host"):
		e.Err, e.Detail = nil, "the connection was closed before an answer"
	}
	if e.Err != nil {
		e.Detail = clip(e.Err.Error())
	}
}

// withoutURL strips what url.Error repeats: method and address are in the *Error.
func withoutURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

// clip makes a server's text fit for one line.
func clip(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	text = strings.TrimSuffix(strings.ToValidUTF8(text, "?"), ".")
	if len(text) > maxServerText {
		text = strings.ToValidUTF8(text[:maxServerText], "") + "..."
	}
	return text
}
