package vfs

import (
	"errors"
	"syscall"
)

// ErrLocked is what Lock returns, wrapped, when somebody else holds the lock.
var ErrLocked = errors.New("lock is held by another process")

// spaceError marks an error of the operating system as ErrNoSpace without saying it twice.
type spaceError struct{ err error }

func (e *spaceError) Error() string   { return e.err.Error() }
func (e *spaceError) Unwrap() []error { return []error{ErrNoSpace, e.err} }

// markSpace makes errors.Is(err, ErrNoSpace) hold for a full disk and for a full quota: to a
// writer both mean "not now", and neither has touched the bytes already there.
func markSpace(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &spaceError{err: err}
	}
	return err
}
