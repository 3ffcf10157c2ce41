package tiering

import (
	"context"
	"errors"
	"fmt"

	"varve/tiering/object"
)

// What callers branch on.
var (
	// ErrMissing: a key that the current manifest names is not in the store. The
	// data is lost or hidden; no retry brings it back by itself. See MissingError.
	ErrMissing = errors.New("object named by the manifest is missing")
	// ErrUnavailable: the store did not answer in time or refused for now.
	ErrUnavailable = errors.New("object store unavailable")
	// ErrPending: the wait ended before the data came. The read goes on in the
	// background; asking again later finds it in the cache.
	ErrPending = errors.New("cold read is still under way")
	// ErrOutOfRange: the offset is not in [LogStart, TieredEnd).
	ErrOutOfRange = errors.New("offset outside the tiered range")
	// ErrNoPointer: SetPointer has not been called with a manifest yet.
	ErrNoPointer = errors.New("partition has no committed manifest")
	// ErrStale: the pointer moved while a commit was being prepared.
	ErrStale = errors.New("manifest pointer moved")
	// ErrClock: wall and monotonic clock part, or the caller's check said so;
	// nothing is deleted by age until that ends.
	ErrClock = errors.New("clock is not to be trusted")
	// ErrRange: what is to be uploaded does not fit the committed range.
	ErrRange = errors.New("range does not continue the tiered range")
	// ErrBacklog: so many dropped objects wait for their deletion that no more can be
	// dropped, and the upload cannot go on before that.
	ErrBacklog = errors.New("too many dropped objects wait for their deletion")
	// ErrClosed: the Tier is closed.
	ErrClosed = errors.New("tier is closed")
)

// MissingError is ErrMissing with the key.
type MissingError struct {
	Key string
	Err error
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("read %s: %v: %v", e.Key, ErrMissing, e.Err)
}

// Unwrap gives errors.Is the sentinel and the store's answer.
func (e *MissingError) Unwrap() []error { return []error{ErrMissing, e.Err} }

// CorruptError says that bytes in the store are not what was written. Pos is the
// position in the object where the damaged part begins.
type CorruptError struct {
	Key    string
	Pos    int64
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("corrupt %s at %d: %s", e.Key, e.Pos, e.Reason)
}

func corruptf(key string, pos int64, format string, args ...any) error {
	return &CorruptError{Key: key, Pos: pos, Reason: fmt.Sprintf(format, args...)}
}

// IsRetriable reports whether asking again may succeed without anybody changing
// anything in the store.
func IsRetriable(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrPending) || errors.Is(err, ErrStale) ||
		object.IsRetriable(err)
}

// storeError gives an error of the store this package's kind. ctx is the caller's,
// without the deadline of the one request: if only that one ended, the store was
// too slow, which is no wish of the caller's and must not look like one.
func storeError(ctx context.Context, verb, key string, err error) error {
	switch {
	case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s %s: %w: no answer in time: %v", verb, key, ErrUnavailable, err)
	case object.IsRetriable(err):
		return fmt.Errorf("%s %s: %w: %w", verb, key, ErrUnavailable, err)
	}
	return fmt.Errorf("%s %s: %w", verb, key, err)
}
