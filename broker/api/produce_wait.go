package api

import (
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

// needKeys refuses a record without key, which a compacted topic could never drop.
func needKeys(b record.Batch, limit int) error {
	for r, err := range b.Records(decompressLimit(limit)) {
		if err != nil {
			return err
		}
		if r.Key == nil {
			return errNullKey
		}
	}
	return nil
}

// recompress rebuilds a batch with the codec that the topic forces (compression.type).
func recompress(b record.Batch, name string) (record.Batch, error) {
	codec, err := record.ParseCodec(name)
	if err != nil {
		return nil, err
	}
	if b.Attributes().Codec() == codec {
		return b, nil
	}
	build := record.NewBuilder(codec)
	build.SetProducer(b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	for r, err := range b.Records(decompressLimit(0)) {
		if err != nil {
			return nil, err
		}
		build.Append(r)
	}
	return build.Build()
}

// decompressLimit bounds what a batch may unpack to: a hundred times what the topic lets in is
// beyond any honest compressor on any honest data, and 1 GiB is beyond any consumer.
func decompressLimit(maxBatch int) int64 { return min(max(int64(maxBatch)*100, 64<<20), 1<<30) }
