package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// What callers branch on. Each is the Kind of an *Error.
var (
	ErrNotFound      = errors.New("object not found")
	ErrExists        = errors.New("object exists")
	ErrBadRange      = errors.New("range starts at or past the end of the object")
	ErrInvalidKey    = errors.New("invalid key")
	ErrTooLarge      = errors.New("too large")
	ErrChecksum      = errors.New("checksum mismatch")
	ErrDenied        = errors.New("access denied")
	ErrThrottled     = errors.New("throttled")   // retriable
	ErrUnavailable   = errors.New("unavailable") // retriable
	ErrNoBucket      = errors.New("no such bucket")
	ErrMisconfigured = errors.New("misconfigured")
	ErrNotSupported  = errors.New("not supported by this store")
	ErrForeign       = errors.New("prefix belongs to another cluster")
	ErrExpires       = errors.New("bucket would expire objects")
	ErrArchived      = errors.New("object is in an archive storage class")
	ErrClosed        = errors.New("store is closed")
)

// errUnexpected is the Kind of answers that fit nothing else; final.
var errUnexpected = errors.New("unexpected answer")

// Error says what was attempted (Op), on what (Store, Key), why it failed (Kind,
// Code, Detail) and what to do about it (Hint). No field ever holds a secret.
type Error struct {
	Op    Op
	Store string // Store.Name
	Key   string // relative to the store; empty for the store as a whole
	Kind  error  // one of the sentinels above

	Status    int    // HTTP status, 0 if there was no answer
	Code      string // S3 error code
	RequestID string // for the store's operator
	Detail    string
	Hint      string
	Err       error // cause, may be nil
}

// Error is one line: op, address, kind (status code), detail, hint.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Op))
	b.WriteByte(' ')
	b.WriteString(e.Store)
	if e.Key != "" {
		if !strings.HasSuffix(e.Store, "/") {
			b.WriteByte('/')
		}
		b.WriteString(e.Key)
	}
	b.WriteString(": ")
	b.WriteString(e.Kind.Error())
	switch {
	case e.Status != 0 && e.Code != "":
		fmt.Fprintf(&b, " (%d %s)", e.Status, e.Code)
	case e.Status != 0:
		fmt.Fprintf(&b, " (%d)", e.Status)
	case e.Code != "":
		fmt.Fprintf(&b, " (%s)", e.Code)
	}
	switch {
	case e.Detail != "":
		b.WriteString(": " + e.Detail)
	case e.Err != nil:
		b.WriteString(": " + e.Err.Error())
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	if e.RequestID != "" {
		b.WriteString(" [request " + e.RequestID + "]")
	}
	return b.String()
}

// Unwrap gives errors.Is both the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// IsRetriable reports whether the same call may succeed later without anybody
// changing anything. A context that ended is never retriable.
func IsRetriable(err error) bool {
	return errors.Is(err, ErrThrottled) || errors.Is(err, ErrUnavailable)
}

// Outcome is the closed set of ends a request can have, for meters.
type Outcome string

// The outcomes.
const (
	OutcomeOK          Outcome = "ok"
	OutcomeNotFound    Outcome = "not_found"
	OutcomeExists      Outcome = "exists"
	OutcomeBadRange    Outcome = "bad_range"
	OutcomeDenied      Outcome = "denied"
	OutcomeThrottled   Outcome = "throttled"
	OutcomeUnavailable Outcome = "unavailable"
	OutcomeCanceled    Outcome = "canceled"
	OutcomeError       Outcome = "error"
)

// OutcomeOf classifies the error of a Store call. A short read at an object's
// end is ok: the request did what it was asked.
func OutcomeOf(err error) Outcome {
	switch {
	case err == nil:
		return OutcomeOK
	case errors.Is(err, ErrThrottled):
		return OutcomeThrottled
	case errors.Is(err, ErrUnavailable):
		return OutcomeUnavailable
	case errors.Is(err, ErrNotFound):
		return OutcomeNotFound
	case errors.Is(err, ErrExists):
		return OutcomeExists
	case errors.Is(err, ErrBadRange):
		return OutcomeBadRange
	case errors.Is(err, ErrDenied):
		return OutcomeDenied
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return OutcomeCanceled
	case errors.Is(err, io.ErrUnexpectedEOF):
		return OutcomeOK
	default:
		return OutcomeError
	}
}

// canceled wraps the end of the caller's own context; it carries no Kind of
// ours, so that it is never taken for a fault of the store.
func canceled(ctx context.Context, op Op, store, key string) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return fmt.Errorf("%s %s: %w", op, join(store, key), cause)
	}
	return fmt.Errorf("%s %s: %w: %w", op, join(store, key), err, cause)
}

// shortRead is GetRange's answer when the object ends inside the range.
func shortRead(store, key string, off int64, got, want int) error {
	return fmt.Errorf("get %s: object ends after %d of %d bytes from offset %d: %w",
		join(store, key), got, want, off, io.ErrUnexpectedEOF)
}

func join(store, key string) string {
	if key == "" || strings.HasSuffix(store, "/") {
		return store + key
	}
	return store + "/" + key
}
