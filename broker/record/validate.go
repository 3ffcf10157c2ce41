package record

import (
	"errors"
	"fmt"
	"math"
)

// Limits are what a topic allows a producer to send. Every field is taken literally, as Kafka
// takes the configs of these names: no limit on times is math.MaxInt64, not zero.
type Limits struct {
	MaxBytes             int   // max.message.bytes, of the whole batch
	Now                  int64 // the leader's clock, ms since 1970
	TimestampBeforeMaxMS int64 // message.timestamp.before.max.ms
	TimestampAfterMaxMS  int64 // message.timestamp.after.max.ms
	LogAppendTime        bool  // message.timestamp.type: the producer's times do not matter
}

// minRecordLen is the smallest record: its own length, attributes, two deltas, key length, value
// length and header count, one byte each.
const minRecordLen = 7

// ValidateProduce decides whether b, all the record bytes that a produce request has for one
// partition, may be appended. b need not come from Parse. The base offset and leader epoch in it
// are the client's and ignored. Records are not decoded: what is inside them is between the
// producer and its consumers (a topic that needs the keys looks itself).
//
// The errors are, in the order of the checks, which is Kafka's: ErrUnsupportedMagic; ErrCorrupt
// for a length that does not fit; ErrInvalidRecord for a second batch; ErrTooLarge; ErrCorrupt for
// the CRC; ErrInvalidRecord for the header fields; ErrInvalidTimestamp.
func ValidateProduce(b Batch, lim Limits) error {
	first, err := frame(b)
	if errors.Is(err, ErrShort) {
		return corruptf(offLength, "%d bytes hold no whole batch", len(b))
	}
	if err != nil {
		return err
	}
	if len(first) != len(b) {
		// ProduceRequest.validateRecords: exactly one batch a partition since version 3.
		return invalidf("%d bytes follow the first batch", len(b)-len(first))
	}
	if len(b) > lim.MaxBytes {
		return fmt.Errorf("%w: %d bytes, the topic takes %d", ErrTooLarge, len(b), lim.MaxBytes)
	}
	if err := b.CheckCRC(); err != nil {
		return err
	}
	if err := validateShape(b); err != nil {
		return err
	}
	if err := validateProducer(b); err != nil {
		return err
	}
	return validateTimestamps(b, lim)
}

// validateShape checks count, offsets and flags against each other.
func validateShape(b Batch) error {
	attrs, count, delta := b.Attributes(), b.Count(), b.LastOffsetDelta()
	payload := len(b) - HeaderLen
	switch {
	case attrs.Control():
		return invalidf("control batch from a client")
	case attrs.DeleteHorizon():
		// Only compaction may set it: the base timestamp would be read as a horizon.
		return invalidf("delete horizon from a client")
	case !attrs.Codec().Valid():
		return invalidf("unknown codec %d", attrs.Codec())
	case count <= 0:
		return invalidf("%d records", count)
	case delta != count-1:
		return invalidf("%d records with last offset delta %d", count, delta)
	case attrs.Codec() == None && int64(count)*minRecordLen > int64(payload):
		return invalidf("%d records in %d bytes", count, payload)
	case payload == 0:
		return invalidf("%d records in no bytes", count)
	}
	return nil
}

// validateProducer checks the fields of the idempotent and transactional producer (KIP-98).
func validateProducer(b Batch) error {
	id := b.ProducerID()
	switch {
	case id < NoProducerID:
		return invalidf("producer id %d", id)
	case id == NoProducerID && b.Attributes().Transactional():
		return invalidf("transactional batch without a producer id")
	case id == NoProducerID:
		return nil
	case b.ProducerEpoch() < 0:
		return invalidf("producer id %d with epoch %d", id, b.ProducerEpoch())
	case b.BaseSequence() < 0:
		return invalidf("producer id %d with base sequence %d", id, b.BaseSequence())
	}
	return nil
}

// validateTimestamps holds the header's times against the topic's policy. Kafka looks at each
// record; base and max are the first and the largest of them, which decides the same except for
// records that are older than the first.
func validateTimestamps(b Batch, lim Limits) error {
	if b.Attributes().LogAppendTime() {
		return fmt.Errorf("%w: a producer may not set the type LogAppendTime", ErrInvalidTimestamp)
	}
	if lim.LogAppendTime {
		return nil
	}
	base, latest := b.BaseTimestamp(), b.MaxTimestamp()
	if base != NoTimestamp && base < subtract(lim.Now, lim.TimestampBeforeMaxMS) {
		return fmt.Errorf("%w: %d is more than %d ms before now, %d", ErrInvalidTimestamp, base, lim.TimestampBeforeMaxMS, lim.Now)
	}
	if latest != NoTimestamp && latest > add(lim.Now, lim.TimestampAfterMaxMS) {
		return fmt.Errorf("%w: %d is more than %d ms after now, %d", ErrInvalidTimestamp, latest, lim.TimestampAfterMaxMS, lim.Now)
	}
	return nil
}

// add and subtract saturate; d is not negative.
func add(t, d int64) int64 {
	if t > math.MaxInt64-d {
		return math.MaxInt64
	}
	return t + d
}

func subtract(t, d int64) int64 {
	if t < math.MinInt64+d {
		return math.MinInt64
	}
	return t - d
}

func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalidRecord, fmt.Sprintf(format, args...))
}
