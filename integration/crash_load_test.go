package integration

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/integration/harness"
)

// crashLoad is the producers and consumers of the crash test. They live through all kills.
type crashLoad struct {
	addr   string
	places []place
	seed   uint64
	h      *history

	produce context.Context // ends before consume
	consume context.Context
	stop    func() // producers
	stopAll func()
	writers sync.WaitGroup
	readers sync.WaitGroup
}

const (
	rawProducers        = 2
	idempotentProducers = 2
	// Pauses of the producers: about 15 MB/s in all, which rolls a segment of each partition in
	// half a second and leaves the two cores time for the rest.
	rawPause        = 8 * time.Millisecond
	idempotentPause = 10 * time.Millisecond
)

func startLoad(ctx context.Context, addr string, places []place, seed uint64, h *history) *crashLoad {
	l := &crashLoad{addr: addr, places: places, seed: seed, h: h}
	l.consume, l.stopAll = context.WithCancel(ctx)
	l.produce, l.stop = context.WithCancel(l.consume)
	for i := range uint8(rawProducers) {
		l.writers.Go(func() { l.rawProducer(i) })
	}
	for i := range uint8(idempotentProducers) {
		l.writers.Go(func() { l.idempotentProducer(rawProducers + i) })
	}
	l.readers.Go(l.tail)
	l.readers.Go(l.replay)
	return l
}

func (l *crashLoad) rng(who uint64) *rand.Rand { return rand.New(rand.NewPCG(l.seed, who)) }

// quick makes a client that does not wait long for a broker which is back in a tenth of a second.
func (l *crashLoad) quick(opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(l.addr), kgo.MetadataMinAge(50 * time.Millisecond), kgo.RetryTimeout(time.Minute),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
	}, opts...)...)
	if err != nil {
		panic(err) // the options are constants
	}
	return cl
}

// rawProducer sends each batch once, acks=all, without a producer id: what is not answered with
// success is unknown for ever.
func (l *crashLoad) rawProducer(who uint8) {
	rng := l.rng(uint64(who))
	seq := uint64(0)
	tick := time.NewTicker(rawPause)
	defer tick.Stop()
	var conn *harness.Raw
	defer func() { conn.Close() }()
	for waitTick(l.produce, tick) {
		if conn == nil {
			var err error
			if conn, err = harness.DialRaw(l.addr); err != nil {
				conn = nil
				continue
			}
		}
		req, ids := l.rawRequest(rng, who, &seq)
		resp, err := conn.TryDo(7, req)
		if err != nil {
			conn.Close()
			conn = nil
			continue
		}
		l.rawAcks(resp.(*kmsg.ProduceResponse), ids)
	}
}

func waitTick(ctx context.Context, tick *time.Ticker) bool {
	select {
	case <-tick.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// rawRequest is a Produce of one batch to each of three partitions.
func (l *crashLoad) rawRequest(rng *rand.Rand, who uint8, seq *uint64) (*kmsg.ProduceRequest, map[place][]uint64) {
	ids := map[place][]uint64{}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10_000
	for _, i := range rng.Perm(len(l.places))[:3] {
		at := l.places[i]
		values := make([][]byte, crashPerPage)
		for j := range values {
			values[j] = crashRecord(at, who, *seq)
			ids[at] = append(ids[at], recordID(who, *seq))
			*seq++
		}
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = at.partition, harness.Batch(values...)
		t := kmsg.NewProduceRequestTopic()
		t.Topic = at.topic
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
	}
	return req, ids
}

func (l *crashLoad) rawAcks(resp *kmsg.ProduceResponse, ids map[place][]uint64) {
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			at := place{t.Topic, p.Partition}
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				if !kerr.IsRetriable(err) { // retriable ones are unknown outcomes
					l.h.fault("%s: a plain produce was refused: %v", at, err)
				}
				continue
			}
			for i, id := range ids[at] {
				l.h.acked(at, p.BaseOffset+int64(i), id)
			}
		}
	}
}

// idempotentProducer retries everything until it is acknowledged. Whatever the broker went
// through, a sequence error is its fault.
func (l *crashLoad) idempotentProducer(who uint8) {
	rng := l.rng(uint64(who))
	cl := l.quick(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.StopProducerOnDataLossDetected(), kgo.MaxBufferedRecords(50*crashPerPage), kgo.ProducerLinger(0),
		kgo.RecordDeliveryTimeout(2*time.Minute))
	defer cl.Close()
	tick := time.NewTicker(idempotentPause)
	defer tick.Stop()
	for seq := uint64(0); waitTick(l.produce, tick); {
		at := l.places[rng.IntN(len(l.places))]
		for range crashPerPage {
			id := recordID(who, seq)
			r := &kgo.Record{Topic: at.topic, Partition: at.partition, Value: crashRecord(at, who, seq)}
			cl.Produce(l.consume, r, func(r *kgo.Record, err error) {
				switch {
				case err == nil:
					l.h.acked(at, r.Offset, id)
				case errors.Is(err, context.Canceled), errors.Is(err, kgo.ErrClientClosed), disconnected(err):
				default:
					l.h.fault("%s: idempotent producer %d gave up: %v", at, who, err)
				}
			})
			seq++
		}
	}
	ctx, cancel := context.WithTimeout(l.consume, harness.Soon)
	defer cancel()
	if err := cl.Flush(ctx); err != nil {
		l.h.fault("idempotent producer %d: records are still not acknowledged at the end: %v", who, err)
	}
}

// disconnected tells whether an error is only that the broker went away, as it does all the time
// here. The client gives some of them to its user: when the very first answer on a connection does
// not come, it takes that for a matter of configuration.
func disconnected(err error) bool {
	var network net.Error
	var first *kgo.ErrFirstReadEOF
	return errors.As(err, &network) || errors.As(err, &first) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// reader reads partitions and checks that what it gets is contiguous.
type reader struct {
	h       *history
	next    map[place]int64
	scratch []byte
}

func newReader(h *history) *reader {
	return &reader{h: h, next: map[place]int64{}, scratch: make([]byte, crashValue)}
}

func (r *reader) take(rec *kgo.Record) {
	at := place{rec.Topic, rec.Partition}
	want, ok := r.next[at]
	switch {
	case !ok || rec.Offset == want:
	case rec.Offset > want && losesOld(at.topic):
		r.h.jumped(at, rec.Offset)
	default:
		r.h.fault("%s: a consumer got offset %d after %d", at, rec.Offset, want-1)
	}
	r.next[at] = rec.Offset + 1
	r.h.read(rec, r.scratch)
}

// poll reads once; an error that is not retriable is a fault, but for offsets that retention took.
func (r *reader) poll(ctx context.Context, cl *kgo.Client) {
	fetches := cl.PollFetches(ctx)
	fetches.EachError(func(topic string, partition int32, err error) {
		switch {
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, kgo.ErrClientClosed):
		case disconnected(err), kerr.IsRetriable(err):
		case errors.Is(err, kerr.OffsetOutOfRange) && losesOld(topic):
		default:
			r.h.fault("%s/%d: a consumer got the error %v", topic, partition, err)
		}
	})
	fetches.EachRecord(r.take)
}

// tail reads everything from the start on, through all kills, with one client for the topics that
// must never answer OFFSET_OUT_OF_RANGE and one for those that lose old records.
func (l *crashLoad) tail() {
	keep, lose := map[string]map[int32]kgo.Offset{}, map[string]map[int32]kgo.Offset{}
	for _, at := range l.places {
		m := keep
		if losesOld(at.topic) {
			m = lose
		}
		if m[at.topic] == nil {
			m[at.topic] = map[int32]kgo.Offset{}
		}
		m[at.topic][at.partition] = kgo.NewOffset().At(0)
	}
	a := l.quick(kgo.ConsumePartitions(keep), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	b := l.quick(kgo.ConsumePartitions(lose), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var both sync.WaitGroup
	for _, cl := range []*kgo.Client{a, b} {
		both.Go(func() {
			defer cl.Close()
			r := newReader(l.h)
			for l.consume.Err() == nil {
				r.poll(l.consume, cl)
			}
		})
	}
	both.Wait()
}

// replay reads one partition after another from a random offset on, cold and hot, each with a new
// client.
func (l *crashLoad) replay() {
	rng := l.rng(1 << 32)
	for l.consume.Err() == nil {
		at := l.places[rng.IntN(len(l.places))]
		end := l.h.ackedEnd(at)
		if losesOld(at.topic) || end == 0 {
			if !pause(l.consume, rawPause) {
				return
			}
			continue
		}
		from := rng.Int64N(end)
		cl := l.quick(kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
			at.topic: {at.partition: kgo.NewOffset().At(from)},
		}))
		r := newReader(l.h)
		r.next[at] = from
		ctx, cancel := context.WithTimeout(l.consume, time.Second)
		for ctx.Err() == nil && r.next[at] < end {
			r.poll(ctx, cl)
		}
		cancel()
		cl.Close()
	}
}

// pause gives the producers time to write something; false if ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
