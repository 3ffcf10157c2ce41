package api

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"varve/broker/meta"
	"varve/broker/partition"
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
