package api

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"varve/broker/partition"
	"varve/broker/wire"
)

// fetchRequest is the header of a Fetch; its partitions are walked straight into fetchParts.
type fetchRequest struct {
	version      int16
	maxWait      time.Duration
	minBytes     int64
	maxBytes     int
	committed    bool
	sessionID    int32
	sessionEpoch int32
}

// fetchPart is one partition that a consumer reads: of one request, or of a session (KIP-227).
type fetchPart struct {
	sub      partition.Sub
	topic    *fetchTopic
	index    int32
	rep      *partition.Replica // nil while the partition is not known
	offset   int64
	max      int32
	epoch    int32 // the leader epoch that the client knows, -1: none
	dirty    bool  // in a session: on its dirty list; guarded by the list's lock
	named    bool  // named by the request being answered
	subbed   bool
	gone     bool  // forgotten by its session
	sentHW   int64 // what the client was last told; -2 before the first answer
	sentLow  int64
	sentFail int16

	res fetchResult
}

// fetchResult is what one pass found for a partition.
type fetchResult struct {
	code    int16
	bounds  partition.Bounds
	span    *partition.Span
	data    *partition.ColdData
	aborted []partition.AbortedTxn
	bytes   int
	more    bool // there is more to read than the answer holds
}

func (r *fetchResult) release() {
	if r.span != nil {
		r.span.Release()
	}
	if r.data != nil {
		r.data.Release()
	}
	*r = fetchResult{}
}

// fetchTopic names a topic as the client does: by name up to v12, by id from v13.
type fetchTopic struct {
	name  []byte
	id    [16]byte
	parts int // in a session: its partitions of this topic
}

func (p *fetchPart) subscribe(owner partition.SubOwner) {
	p.sub.Owner, p.subbed = owner, true
	p.rep.Subscribe(&p.sub)
}

func (p *fetchPart) unsubscribe() {
	if p.subbed {
		p.sub.Unsubscribe()
		p.subbed = false
	}
}

// fetch handles Fetch v4 to v18. It runs on the connection's own goroutine and waits there for
// min.bytes, as Kafka does: one request of a connection at a time (KIP-74's order is kept).
func (a *API) fetch(req *wire.Request) error {
	f := newFetch(a, req)
	code, err := f.begin()
	if err != nil {
		f.end()
		return err
	}
	if code != nil {
		f.refuse(code)
		return nil
	}
	f.run()
	f.send()
	return nil
}

// run reads until min.bytes are there, something must be told, or the wait is over.
func (f *fetch) run() {
	deadline := time.Now().Add(f.req.maxWait)
	f.armed = false
	for {
		got, urgent := f.pass(deadline)
		if urgent || got >= f.req.minBytes || f.req.maxWait <= 0 || len(f.list) == 0 && f.set == nil {
			return
		}
		before := time.Now()
		woken := f.wait(f.patience(deadline))
		f.waited += time.Since(before)
		if !woken {
			if !f.pause.IsZero() {
				return // it had its pause: what failed is told, and whatever else there is
			}
			// Once more, so that what came in the last moment is not held back a whole round trip.
			f.dropResults()
			f.pass(time.Now())
			return
		}
		f.dropResults()
	}
}

// pass reads every partition that may have something: hot ones first, after what is ready of the cold
// ones beside them, then the other cold ones in parallel. urgent is true if there is something to tell
// beside records.
func (f *fetch) pass(deadline time.Time) (got int64, urgent bool) {
	f.results, f.pause = f.results[:0], time.Time{}
	list := f.take()
	ready, urgent := f.coldTurn(list)
	got = int64(ready)
	budget, minOne := f.req.maxBytes-ready, ready == 0
	var cold []*fetchPart
	for _, p := range list {
		f.results = append(f.results, p)
		if p.res.data != nil || p.res.code != 0 { // had its turn
			continue
		}
		n, isCold := f.readHot(p, budget, minOne)
		if isCold {
			if !f.paused(p) {
				cold = append(cold, p)
			}
			continue
		}
		urgent = urgent || p.tellsBeside()
		got += int64(n)
		budget -= n
		minOne = minOne && n == 0
	}
	if len(cold) > 0 && (budget > 0 || minOne) {
		before := time.Now()
		n, tell := f.readCold(cold, budget, minOne, got, deadline)
		f.waited += time.Since(before)
		got, urgent = got+n, urgent || tell
	}
	return got, urgent
}

func (p *fetchPart) tellsBeside() bool {
	return p.res.code != 0 && p.res.code != p.sentFail || p.sentLow >= 0 && p.res.bounds.LogStart != p.sentLow
}

func (f *fetch) readHot(p *fetchPart, budget int, minOne bool) (n int, cold bool) {
	p.res = fetchResult{bounds: partition.Bounds{LogStart: -1, HW: -1, LSO: -1}}
	if p.rep == nil && !f.resolve(p) {
		p.res.code = f.unknown(p)
		return 0, false
	}
	if p.res.code = f.checkLeader(p); p.res.code != 0 {
		return 0, false
	}
	if budget <= 0 && !minOne {
		p.res.bounds, p.res.more = p.rep.Bounds(), true
		return 0, false
	}
	h, err := p.rep.ReadHot(p.offset, max(min(budget, int(p.max)), 0), minOne, f.req.committed)
	p.res.bounds = h.Bounds
	if err != nil {
		p.res.code = errorCode(err).Code
		f.api.readFailed(p.rep, err)
		return 0, false
	}
	if h.Cold {
		p.res.more = true // also if the hot ones leave no room for it: a session asks again
		return 0, true
	}
	p.res.span, p.res.aborted = h.Span, h.Aborted
	if h.Span != nil {
		p.res.bytes = h.Span.Bytes
		p.res.more = true
	}
	return p.res.bytes, false
}

// unknown is the answer for a partition that is not here.
func (f *fetch) unknown(p *fetchPart) int16 {
	if f.req.version >= 13 && f.api.cfg.Set.ByID(p.topic.id) == nil {
		return kerr.UnknownTopicID.Code
	}
	return kerr.UnknownTopicOrPartition.Code
}

// resolve finds the replica of a partition; in a session, or while the request waits, it also
// subscribes, before the first read, so that nothing that comes after the read is missed.
func (f *fetch) resolve(p *fetchPart) bool {
	var t *partition.Topic
	if f.req.version >= 13 {
		t = f.api.cfg.Set.ByID(p.topic.id)
	} else {
		t = f.api.cfg.Set.ByName(string(p.topic.name))
	}
	if t != nil {
		p.rep = t.Partition(p.index)
	}
	switch {
	case p.rep == nil:
		return false
	case f.set != nil:
		p.subscribe(f.set)
	case f.armed:
		p.subscribe(&f.wake)
	}
	return true
}

// checkLeader looks once more for the replica if this one leads no more: the topic may have been
// deleted, or made anew under the same name.
func (f *fetch) checkLeader(p *fetchPart) int16 {
	err := p.rep.CheckLeader(p.epoch)
	if err == nil {
		return 0
	}
	if errors.Is(err, partition.ErrNotLeader) {
		old := p.rep
		p.unsubscribe()
		p.rep = nil
		if !f.resolve(p) {
			return f.unknown(p)
		}
		if p.rep != old {
			err = p.rep.CheckLeader(p.epoch)
		}
	}
	if err == nil {
		return 0
	}
	return errorCode(err).Code
}
