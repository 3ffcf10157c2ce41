package txn

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
)

// The records are Kafka's, so that its tools read the topic. Kafka forgets the last epoch when a
// coordinator moves, and then fences a producer that retries; here it has a tag of its own, which
// Kafka's readers skip.
const lastEpochTag = 9000

// maxRecord bounds what is decoded: maxPartitions with names of 249 bytes.
const maxRecord = 16 << 20

func encodeKey(id string) []byte {
	k := kmsg.NewTxnMetadataKey()
	k.TransactionalID = id
	return k.AppendTo(nil)
}

// decodeKey returns the transactional id of a record; ok is false for a key of a later version,
// which is to be skipped.
func decodeKey(b []byte) (id string, ok bool, err error) {
	if len(b) < 2 {
		return "", false, fmt.Errorf("transaction key of %d bytes", len(b))
	}
	if binary.BigEndian.Uint16(b) != 0 {
		return "", false, nil
	}
	k := kmsg.NewTxnMetadataKey()
	if err := k.ReadFrom(b); err != nil {
		return "", false, fmt.Errorf("transaction key: %w", err)
	}
	return k.TransactionalID, true, nil
}

func (s *status) encode() []byte {
	v := kmsg.NewTxnMetadataValue()
	v.Version = 1
	v.ProducerID, v.ProducerEpoch, v.TimeoutMillis = s.producerID, s.epoch, s.timeoutMS
	v.State, v.LastUpdateTimestamp, v.StartTimestamp = s.state, s.updateMS, s.startMS
	v.PreviousProducerID, v.NextProducerID, v.ClientTransactionVersion = s.prevID, s.nextID, int16(s.version)
	if s.lastEpoch != noEpoch {
		v.UnknownTags.Set(lastEpochTag, binary.BigEndian.AppendUint16(nil, uint16(s.lastEpoch)))
	}
	for _, p := range s.parts {
		if n := len(v.Topics); n > 0 && v.Topics[n-1].Topic == p.Topic {
			v.Topics[n-1].Partitions = append(v.Topics[n-1].Partitions, p.Partition)
			continue
		}
		t := kmsg.NewTxnMetadataValueTopic()
		t.Topic, t.Partitions = p.Topic, []int32{p.Partition}
		v.Topics = append(v.Topics, t)
	}
	return v.AppendTo(nil)
}

func decodeValue(b []byte) (s status, err error) {
	if len(b) < 2 || len(b) > maxRecord {
		return s, fmt.Errorf("transaction value of %d bytes", len(b))
	}
	if version := binary.BigEndian.Uint16(b); version > 1 {
		return s, fmt.Errorf("transaction value of version %d", version)
	}
	v := kmsg.NewTxnMetadataValue()
	if err := v.ReadFrom(b); err != nil {
		return s, fmt.Errorf("transaction value: %w", err)
	}
	s = status{
		state: v.State, producerID: v.ProducerID, prevID: v.PreviousProducerID, nextID: v.NextProducerID,
		epoch: v.ProducerEpoch, lastEpoch: noEpoch, timeoutMS: v.TimeoutMillis,
		startMS: v.StartTimestamp, updateMS: v.LastUpdateTimestamp, version: Version(v.ClientTransactionVersion),
	}
	v.UnknownTags.Each(func(tag uint32, b []byte) {
		if tag == lastEpochTag && len(b) == 2 {
			s.lastEpoch = int16(binary.BigEndian.Uint16(b))
		}
	})
	for _, t := range v.Topics {
		for _, p := range t.Partitions {
			s.parts = append(s.parts, Partition{strings.Clone(t.Topic), p})
		}
	}
	sortPartitions(s.parts)
	s.parts = slices.Compact(s.parts)
	switch s.state {
	case empty, ongoing, prepareCommit, prepareAbort, completeCommit, completeAbort:
	default:
		return s, fmt.Errorf("transaction value with state %d", s.state)
	}
	return s, nil
}

func comparePartitions(a, b Partition) int {
	if c := strings.Compare(a.Topic, b.Topic); c != 0 {
		return c
	}
	return int(a.Partition) - int(b.Partition)
}

func sortPartitions(p []Partition) { slices.SortFunc(p, comparePartitions) }

func (s *status) record(id string) coord.Record {
	return coord.Record{Key: encodeKey(id), Value: s.encode()}
}
