package api

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"varve/broker/partition"
)

// coldTurn gives the cold partitions that stand beside hot ones what is ready of them in memory, each at
// most an even share of the answer, before the hot ones fill it: they would starve beside a partition that
// always has more. What is not ready is started and has its turn next time, and costs the hot ones nothing.
// Which side has the oversize batch of an answer (KIP-74) is drawn, so that both go on where an answer
// holds only one.
func (f *fetch) coldTurn(list []*fetchPart) (taken int, urgent bool) {
	cold := 0
	for _, p := range list {
		if (p.rep != nil || f.resolve(p)) && p.rep.ColdAt(p.offset) {
			cold++
		}
	}
	if cold == 0 || cold == len(list) {
		return 0, false
	}
	share := max(f.req.maxBytes/len(list), 1)
	one := rand.IntN(2) == 0
	for _, p := range list {
		if p.rep == nil || !p.rep.ColdAt(p.offset) || f.checkLeader(p) != 0 || !p.rep.ColdAt(p.offset) || f.paused(p) {
			continue
		}
		data, err := p.rep.TryReadCold(p.offset, max(min(share, int(p.max)), 0), one && taken == 0)
		switch {
		case err != nil:
			p.res.bounds = p.rep.Bounds()
			urgent = f.coldFailed(p, err) || urgent
		case data != nil && data.Len() == 0:
			data.Release()
		case data != nil:
			aborted, err := f.coldAborted(endedContext, p, data)
			if err != nil { // its index is not in memory: the slower way fetches it
				data.Release()
				continue
			}
			p.res = fetchResult{bounds: p.rep.Bounds(), data: data, bytes: data.Len(), aborted: aborted, more: true}
			taken += data.Len()
			f.api.metrics.fetchedCold(p.rep.ID().Topic, data.Len())
		}
	}
	return taken, urgent
}

// coldFailed notes why a cold read failed. A fault of the storage is told after a pause, as long as a
// Fetch without data waits, because clients ask again at once; anything else is urgent.
func (f *fetch) coldFailed(p *fetchPart, err error) (urgent bool) {
	p.res.code, p.res.more = errorCode(err).Code, true
	f.api.readFailed(p.rep, err)
	if !errors.Is(err, partition.ErrStorage) {
		return true
	}
	until := time.Now().Add(min(f.req.maxWait, f.api.cfg.Broker.RemoteFetchMaxWait()))
	p.rep.SetColdFault(p.offset, err, until)
	f.pauseUntil(until)
	return false
}

// paused answers a cold partition that has just failed at this offset with the same error, and leaves
// the store alone.
func (f *fetch) paused(p *fetchPart) bool {
	until, err := p.rep.ColdFault(p.offset)
	if err == nil || !time.Now().Before(until) {
		return false
	}
	p.res.bounds, p.res.code, p.res.more = p.rep.Bounds(), errorCode(err).Code, true
	f.pauseUntil(until)
	return true
}

func (f *fetch) pauseUntil(at time.Time) {
	if f.pause.IsZero() || at.Before(f.pause) {
		f.pause = at
	}
}

// patience is how long a Fetch that has too little still waits.
func (f *fetch) patience(deadline time.Time) time.Time {
	if !f.pause.IsZero() && f.pause.Before(deadline) {
		return f.pause
	}
	return deadline
}

type coldAnswer struct {
	part    *fetchPart
	data    *partition.ColdData
	aborted []partition.AbortedTxn
	err     error
}

// coldAborted lists the aborted transactions that data holds records of. What is tiered lies below LSO,
// so read_committed needs nothing else.
func (f *fetch) coldAborted(ctx context.Context, p *fetchPart, data *partition.ColdData) ([]partition.AbortedTxn, error) {
	if !f.req.committed {
		return nil, nil
	}
	return p.rep.ColdAborted(ctx, p.offset, data.Next)
}

// endedContext makes a cold read answer from memory or not at all.
var endedContext = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// coldLinger is how long a Fetch that has its min.bytes still waits for cold partitions that were
// asked at the same time: long enough for neighbours of one burst, far below a round trip to S3.
const coldLinger = 5 * time.Millisecond

// readCold asks the tier for all cold partitions at once. What is not ready in time is answered
// empty while its read goes on into the cache; hot data never waits for it (design 8.4). urgent is true if
// there is something to tell at once, or if remote.fetch.max.wait.ms is over: nothing would wake the
// request when the read ends, and the client asks again.
func (f *fetch) readCold(parts []*fetchPart, budget int, minOne bool, got int64, deadline time.Time) (n int64, urgent bool) {
	limit := time.Now().Add(f.api.cfg.Broker.RemoteFetchMaxWait())
	if deadline.Before(limit) {
		limit = deadline
	}
	if got >= f.req.minBytes {
		limit = time.Now().Add(coldLinger)
	}
	ctx, cancel := context.WithDeadline(f.wreq.Conn.Context(), limit)
	defer cancel()
	share := max(budget/len(parts), 1)
	answers := make(chan coldAnswer, len(parts))
	var linger *time.Timer
	for i, p := range parts {
		one := minOne && i == 0 // one oversize allowance a response (KAFKA-19795)
		go func() {
			a := coldAnswer{part: p}
			a.data, a.err = p.rep.ReadCold(ctx, p.offset, max(min(share, int(p.max)), 0), one)
			if a.err == nil && a.data != nil {
				if a.aborted, a.err = f.coldAborted(ctx, p, a.data); a.err != nil {
					a.data.Release()
				}
			}
			answers <- a
		}()
	}
	for range parts {
		a := f.nextCold(answers, cancel)
		switch {
		case a.err == nil && a.data != nil:
			a.part.res.data, a.part.res.bytes, a.part.res.aborted = a.data, a.data.Len(), a.aborted
			n += int64(a.data.Len())
			f.api.metrics.fetchedCold(a.part.rep.ID().Topic, a.data.Len())
		case a.err != nil && !errors.Is(a.err, context.DeadlineExceeded) && !errors.Is(a.err, context.Canceled):
			urgent = f.coldFailed(a.part, a.err) || urgent
		case a.err != nil:
			urgent = true
		}
		if got+n >= f.req.minBytes && n > 0 && linger == nil {
			linger = time.AfterFunc(coldLinger, cancel)
			defer linger.Stop()
		}
	}
	return n, urgent
}

// nextCold waits for one answer; a stop of the broker cuts all reads short.
func (f *fetch) nextCold(answers <-chan coldAnswer, cancel context.CancelFunc) coldAnswer {
	select {
	case a := <-answers:
		return a
	case <-f.wreq.Conn.Draining():
	case <-f.api.stopping:
	}
	cancel()
	return <-answers
}
