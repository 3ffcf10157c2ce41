package api

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"varve/broker/coord"
	"varve/broker/meta"
	"varve/broker/partition"
	"varve/broker/txn"
)

// errorCodes is the only map from our errors to Kafka's codes, first match wins. What is not in it
// is UNKNOWN_SERVER_ERROR, and logged.
var errorCodes = []struct {
	err  error
	code *kerr.Error
}{
	{partition.ErrNotLeader, kerr.NotLeaderForPartition},
	{partition.ErrStopped, kerr.NotLeaderForPartition},
	{partition.ErrFencedEpoch, kerr.FencedLeaderEpoch},
	{partition.ErrUnknownEpoch, kerr.UnknownLeaderEpoch},
	{partition.ErrOffsetOutOfRange, kerr.OffsetOutOfRange},
	{partition.ErrOffsetNotAvailable, kerr.OffsetNotAvailable},
	{partition.ErrNotEnoughReplicas, kerr.NotEnoughReplicas},
	{partition.ErrFull, kerr.KafkaStorageError},
	{partition.ErrStorage, kerr.KafkaStorageError},

	{meta.ErrTopicExists, kerr.TopicAlreadyExists},
	{meta.ErrUnknownTopic, kerr.UnknownTopicOrPartition},
	{meta.ErrInvalidPartitions, kerr.InvalidPartitions},
	{meta.ErrInvalidTopicName, kerr.InvalidTopicException},
	{meta.ErrUnknownOutcome, kerr.RequestTimedOut},
	{meta.ErrStaleEpoch, kerr.NotLeaderForPartition},
	{meta.ErrNotRegistered, kerr.NotController},
	{meta.ErrClosed, kerr.NotController},
	{meta.ErrUnknownPartition, kerr.UnknownTopicOrPartition},
	{meta.ErrTopicCollision, kerr.InvalidTopicException},
	{meta.ErrInvalidReplicas, kerr.InvalidReplicaAssignment},
	{meta.ErrUnknownBroker, kerr.InvalidReplicaAssignment},
	{meta.ErrTooLarge, kerr.InvalidRequest},
	{meta.ErrLimit, kerr.PolicyViolation},
	{meta.ErrConfigChanged, kerr.ConcurrentTransactions},
	{meta.ErrInvalidCommand, kerr.InvalidRequest},

	{txn.ErrConcurrent, kerr.ConcurrentTransactions},
	{txn.ErrFenced, kerr.ProducerFenced},
	{txn.ErrMapping, kerr.InvalidProducerIDMapping},
	{txn.ErrInvalidState, kerr.InvalidTxnState},
	{txn.ErrNotAdded, kerr.TransactionAbortable},
	{txn.ErrTimeout, kerr.InvalidTransactionTimeout},
	{txn.ErrNotFound, kerr.TransactionalIDNotFound},
	{txn.ErrNoID, kerr.InvalidRequest},
	{txn.ErrTooMany, kerr.PolicyViolation},
	{partition.ErrInvalidProducerEpoch, kerr.InvalidProducerEpoch},
	{partition.ErrCoordinatorFenced, kerr.TransactionCoordinatorFenced},
	{partition.ErrInvalidTxnState, kerr.InvalidTxnState},
	{partition.ErrOutOfOrderSequence, kerr.OutOfOrderSequenceNumber},

	{coord.ErrNotCoordinator, kerr.NotCoordinator},
	{coord.ErrLoading, kerr.CoordinatorLoadInProgress},
	{coord.ErrOverloaded, kerr.CoordinatorNotAvailable},

	{context.DeadlineExceeded, kerr.RequestTimedOut},
	{context.Canceled, kerr.RequestTimedOut},
}

func errorCode(err error) *kerr.Error {
	for _, m := range errorCodes {
		if errors.Is(err, m.err) {
			return m.code
		}
	}
	var config *meta.ConfigError
	if errors.As(err, &config) {
		return kerr.InvalidConfig
	}
	var k *kerr.Error
	if errors.As(err, &k) {
		return k
	}
	return kerr.UnknownServerError
}
