package partition

import (
	"varve/broker/commitlog"
	"varve/tiering"
)

// What callers of a Replica handle, under the names of this package: they need not know the log
// or the tier.
type (
	Span       = commitlog.Span
	ColdData   = tiering.Data
	AbortedTxn = commitlog.AbortedTxn
	AppendInfo = commitlog.AppendInfo

	Marker        = commitlog.Marker
	ProducerState = commitlog.ProducerState
)

// Errors of the log that a producer is told.
var (
	ErrFull                 = commitlog.ErrFull
	ErrOutOfOrderSequence   = commitlog.ErrOutOfOrderSequence
	ErrInvalidProducerEpoch = commitlog.ErrInvalidProducerEpoch
	ErrInvalidTxnState      = commitlog.ErrInvalidTxnState
	ErrCoordinatorFenced    = commitlog.ErrCoordinatorFenced
)
