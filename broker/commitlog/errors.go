package commitlog

import (
	"errors"
	"fmt"
	"io/fs"

	"varve/broker/internal/vfs"
)

// What callers branch on.
var (
	// ErrFull refuses an append for want of disk space. Nothing was written, the log is as
	// before, and a later append may succeed.
	ErrFull = errors.New("disk is full")
	// ErrFailed says that the data directory had a final storage error: nothing is appended or
	// acknowledged any more.
	ErrFailed = errors.New("storage has failed")
	// ErrClosed says that the log or its environment was closed.
	ErrClosed = errors.New("log is closed")
	// ErrHung is the cause of ErrFailed when one disk operation outlasted DiskTimeout.
	ErrHung = errors.New("disk operation hangs")
	// ErrOutOfRange is wrapped by *OutOfRangeError.
	ErrOutOfRange = errors.New("offset out of range")
	// ErrStaleEpoch refuses a leader or follower append in an epoch below the log's last one.
	ErrStaleEpoch = errors.New("leader epoch goes back")
	// ErrOffsetGap refuses a follower append that does not begin at the log's end.
	ErrOffsetGap = errors.New("batch does not begin at the log end")
	// ErrTieredBelow refuses an append while the log ends below TieredEnd: it is void, ResetTo.
	ErrTieredBelow = errors.New("log ends below the tiered end")
	// ErrOutOfOrderSequence, ErrInvalidProducerEpoch, ErrInvalidTxnState and
	// ErrCoordinatorFenced are what the producer rules answer (see producers.go).
	ErrOutOfOrderSequence   = errors.New("out of order sequence number")
	ErrInvalidProducerEpoch = errors.New("invalid producer epoch")
	ErrInvalidTxnState      = errors.New("invalid transaction state")
	ErrCoordinatorFenced    = errors.New("transaction coordinator fenced")
)

// OutOfRangeError says that Offset lies outside [Start, End].
type OutOfRangeError struct{ Offset, Start, End int64 }

func (e *OutOfRangeError) Error() string {
	return fmt.Sprintf("offset %d is outside [%d, %d]", e.Offset, e.Start, e.End)
}

// Unwrap makes errors.Is(err, ErrOutOfRange) hold.
func (e *OutOfRangeError) Unwrap() error { return ErrOutOfRange }

// DamagedError is ReplicaDamaged: bytes that were durable are missing or changed. The log is not
// shortened and not repaired; the replica gives up its seats and copies the data anew.
type DamagedError struct {
	File   string // segment, index, start file or directory
	Pos    int64  // byte position, -1 if the whole file is meant
	Offset int64  // expected offset there, -1 if unknown
	Reason string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("damaged %s at byte %d, offset %d: %s", e.File, e.Pos, e.Offset, e.Reason)
}

func damagedf(file string, pos, offset int64, format string, args ...any) error {
	return &DamagedError{File: file, Pos: pos, Offset: offset, Reason: fmt.Sprintf(format, args...)}
}

// errSync marks an error of fdatasync or of a directory sync. It is final whatever its cause: the
// pages may be marked clean and lost, so also a lack of space is not retried.
var errSync = errors.New("sync failed")

func asSyncError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errSync, err)
}

// isNoSpace tells whether err came from getting space, before anything was damaged. It is the one
// write error after which work goes on.
func isNoSpace(err error) bool {
	return errors.Is(err, vfs.ErrNoSpace) && !errors.Is(err, errSync)
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
