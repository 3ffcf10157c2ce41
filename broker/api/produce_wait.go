package api

import (
	"fmt"
	"sync"
	"time"

	"varve/broker/record"
)

// produceWaits lists the parked Produce requests, so that one ticker can expire them: a timer each
// would cost more than the append.
type produceWaits struct {
	mu    sync.Mutex
	first *produceReply
}

func (l *produceWaits) add(p *produceReply) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.waiting, p.prev, p.next = true, nil, l.first
	if l.first != nil {
		l.first.prev = p
	}
	l.first = p
}

func (l *produceWaits) remove(p *produceReply) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeLocked(p)
}

func (l *produceWaits) removeLocked(p *produceReply) {
	if !p.waiting {
		return
	}
	p.waiting = false
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		l.first = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	}
	p.prev, p.next = nil, nil
}

// expire answers those whose deadline has passed. It holds mu, so that none of them is freed
// between the look and the answer.
func (l *produceWaits) expire(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := l.first; p != nil; {
		next := p.next
		if now.After(p.deadline) {
			l.removeLocked(p)
			p.expire()
		}
		p = next
	}
}

// badRecords says which records of a batch made it be refused (KIP-467).
type badRecords struct {
	err error
	at  []int32 // by place in the batch
}

// maxBadRecords bounds what a refusal lists; a producer drops the records it names and retries.
const maxBadRecords = 1000

func (e *badRecords) Error() string { return e.err.Error() }
func (e *badRecords) Unwrap() error { return e.err }

func (e *badRecords) encode(w *writer, flexible bool) {
	if e == nil {
		w.array(0, flexible)
		return
	}
	w.array(len(e.at), flexible)
	for _, i := range e.at {
		w.int32(i)
		w.nullableStr(e.err.Error(), flexible)
		w.noTags(flexible)
	}
}

// needKeys refuses a record without key, which a compacted topic could never drop.
func needKeys(b record.Batch, limit int) error {
	bad := badRecords{err: errNullKey}
	i := int32(0)
	for r, err := range b.Records(decompressLimit(limit)) {
		if err != nil {
			return err
		}
		if r.Key == nil && len(bad.at) < maxBadRecords {
			bad.at = append(bad.at, i)
		}
		i++
	}
	if len(bad.at) > 0 {
		return &bad
	}
	return nil
}

// recompress rebuilds a batch with the codec that the topic forces (compression.type). What comes
// out obeys max.message.bytes too: a small batch may unpack to anything.
func recompress(b record.Batch, name string, level, limit int) (record.Batch, error) {
	codec, err := record.ParseCodec(name)
	if err != nil {
		return nil, err
	}
	if b.Attributes().Codec() == codec {
		return b, nil
	}
	build := record.NewBuilder(codec)
	build.SetLevel(level)
	if b.Attributes().Transactional() {
		build.SetTransactional()
	}
	build.SetProducer(b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	for r, err := range b.Records(decompressLimit(limit)) {
		if err != nil {
			return nil, err
		}
		build.Append(r)
	}
	made, err := build.Build()
	if err == nil && made.Len() > limit {
		return nil, fmt.Errorf("%w: %d bytes as %s, max.message.bytes is %d", record.ErrTooLarge, made.Len(), name, limit)
	}
	return made, err
}

// decompressLimit bounds what a batch may unpack to: a hundred times what the topic lets in is
// beyond any honest compressor on any honest data, and 1 GiB is beyond any consumer.
func decompressLimit(maxBatch int) int64 { return min(max(int64(maxBatch)*100, 64<<20), 1<<30) }
