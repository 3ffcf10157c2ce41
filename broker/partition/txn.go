package partition

import (
	"context"
	"fmt"
	"time"

	"varve/broker/commitlog"
)

// AppendMarker ends a transaction as the leader. The caller is answered when HW covers the marker:
// parked tells whether that is still to come; until then it holds LSO back.
//
// Errors: those of Append, ErrCoordinatorFenced.
func (r *Replica) AppendMarker(m Marker, ack *Ack) (parked bool, err error) {
	_, parked, err = r.append(appending{epoch: anyEpoch, marker: &m}, ack)
	return parked, err
}

// AppendClient is Append for a transactional batch of a client. Where BeginVerification said that
// it is needed, guard is what it gave; the answer is ErrInvalidTxnState if the transaction has ended
// meanwhile.
func (r *Replica) AppendClient(b []byte, guard uint64, ack *Ack) (info AppendInfo, parked bool, err error) {
	return r.append(appending{epoch: anyEpoch, batch: b, client: true, guard: guard}, ack)
}

// BeginVerification tells whether a transactional batch of a producer begins a transaction in this
// partition, which its coordinator must confirm before AppendClient (KIP-890). firstSeq is
// the batch's; a coordinator's own append has none, -1.
func (r *Replica) BeginVerification(producerID int64, epoch int16, firstSeq int32) (guard uint64, needed bool, err error) {
	l, err := r.Log()
	if err != nil {
		return 0, false, err
	}
	guard, needed = l.BeginVerification(producerID, epoch, firstSeq, r.cfg.Now().UnixMilli())
	return guard, needed, nil
}

// Verified tells whether a guard still stands.
func (r *Replica) Verified(producerID int64, guard uint64) bool {
	l := r.log.Load()
	return l != nil && l.Verified(producerID, guard)
}

// IsOpen tells whether the log is open, so that an append costs no more than its write.
func (r *Replica) IsOpen() bool { return r.log.Load() != nil }

// ProducerStates lists the producers that the log knows, by rising id.
func (r *Replica) ProducerStates() ([]ProducerState, error) {
	l, err := r.Log()
	if err != nil {
		return nil, err
	}
	return l.ProducerStates(), nil
}

// OpenTransactions lists the producers whose transaction here began before the given time. It opens
// no log.
func (r *Replica) OpenTransactions(before time.Time) []ProducerState {
	l := r.log.Load()
	if l == nil || !r.IsLeader() {
		return nil
	}
	return l.OpenTransactions(before.UnixMilli())
}

// ColdAborted lists the aborted transactions that overlap [from, end) of the tier, by rising marker
// offset. They are in the indexes of the objects that the range lies in, which a read of the range
// has just used.
func (r *Replica) ColdAborted(ctx context.Context, from, end int64) ([]AbortedTxn, error) {
	found, err := r.cold.Aborted(ctx, from, end)
	if err != nil {
		return nil, fmt.Errorf("aborted transactions of %s in the tier at %d: %w: %w", r.cfg.ID, from, ErrStorage, err)
	}
	out := make([]AbortedTxn, len(found))
	for i, a := range found {
		out[i] = commitlog.AbortedTxn{ProducerID: a.ProducerID, First: a.First, Last: a.Last}
	}
	return out, nil
}
