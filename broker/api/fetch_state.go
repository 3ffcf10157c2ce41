package api

import (
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"varve/broker/partition"
	"varve/broker/wire"
)

// fetch is one Fetch request at work. It is pooled; send gives it back once its reply has left.
type fetch struct {
	api  *API
	wreq *wire.Request
	req  fetchRequest

	set     *fetchSession // nil without a session
	full    bool          // every partition is answered, also those with nothing new
	parts   []fetchPart   // without a session: the request's own
	topics  []fetchTopic
	list    []*fetchPart // what take returned
	results []*fetchPart // of the last pass
	armed   bool         // the subscriptions of a request without session are on
	pause   time.Time    // when what the last pass found failing may be told; zero: nothing failed

	start    time.Time
	waited   time.Duration // for new records and for the tier: no work
	throttle int32         // ms, for the reply

	wake    waker
	timer   *time.Timer
	enc     fetchEncoder
	release func()
}

// waker wakes one waiting Fetch; it looks for itself whether min.bytes are there.
type waker struct{ signal chan struct{} }

// Wake implements partition.SubOwner for a request without session.
func (w *waker) Wake(*partition.Sub, int64) {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

func (w *waker) drain() {
	select {
	case <-w.signal:
	default:
	}
}

var fetches sync.Pool // of *fetch

func newFetch(a *API, req *wire.Request) *fetch {
	f, _ := fetches.Get().(*fetch)
	if f == nil {
		f = &fetch{timer: time.NewTimer(time.Hour)}
		f.timer.Stop()
		f.wake.signal = make(chan struct{}, 1)
		f.release = f.free
	}
	f.api, f.wreq, f.set, f.full = a, req, nil, true
	f.start, f.waited, f.throttle = time.Now(), 0, 0
	f.req = fetchRequest{version: req.Version, maxBytes: 1<<31 - 1, sessionEpoch: -1}
	f.parts, f.topics, f.list, f.results = f.parts[:0], f.topics[:0], f.list[:0], f.results[:0]
	return f
}

// begin parses the request and opens, continues or closes its session. A code is answered at the
// top level; an err ends the connection.
func (f *fetch) begin() (*kerr.Error, error) {
	r := reader{b: f.wreq.Body}
	f.header(&r)
	if r.bad {
		return nil, errShort
	}
	if err := f.checkBody(r); err != nil {
		return nil, err
	}
	code := f.openSession()
	if code != nil {
		return code, nil
	}
	f.walk(&r)
	f.wreq.Release()
	return nil, nil
}

func (f *fetch) header(r *reader) {
	q := &f.req
	v := q.version
	if v <= 14 {
		r.int32() // replica id: a client cannot make itself a replica (CVE-2018-1288)
	}
	q.maxWait = time.Duration(max(r.int32(), 0)) * time.Millisecond
	q.minBytes = int64(r.int32())
	q.maxBytes = int(max(r.int32(), 0))
	q.committed = r.int8() == 1
	if v >= 7 {
		q.sessionID, q.sessionEpoch = r.int32(), r.int32()
	}
	q.maxBytes = f.api.fetchLimit(f.wreq, min(q.maxBytes, f.api.cfg.FetchMaxBytes))
}

// eachPart walks the topics and partitions of a request.
func (f *fetch) eachPart(r *reader, topic func(fetchTopic) *fetchTopic, part func(t *fetchTopic, p fetchPart)) {
	v, flexible := f.req.version, f.req.version >= 12
	for n := r.array(flexible, 1); n > 0 && !r.bad; n-- {
		t := topic(f.readTopic(r))
		for m := r.array(flexible, 16); m > 0 && !r.bad; m-- {
			p := fetchPart{index: r.int32(), epoch: -1}
			if v >= 9 {
				p.epoch = r.int32()
			}
			p.offset = r.int64()
			if v >= 12 {
				r.int32() // last fetched epoch: only followers tell one
			}
			if v >= 5 {
				r.int64() // log start of a follower
			}
			p.max = r.int32()
			r.tags(flexible)
			if !r.bad {
				part(t, p)
			}
		}
		r.tags(flexible)
	}
}

func (f *fetch) readTopic(r *reader) (t fetchTopic) {
	if f.req.version >= 13 {
		t.id = r.uuid()
	} else {
		t.name = r.str(f.req.version >= 12)
	}
	return t
}

// checkBody walks the rest of the request without acting on it.
func (f *fetch) checkBody(r reader) error {
	var one fetchTopic
	topics, parts := 0, 0
	f.eachPart(&r, func(fetchTopic) *fetchTopic { topics++; return &one }, func(*fetchTopic, fetchPart) { parts++ })
	f.eachForgotten(&r, func(fetchTopic, int32) {})
	flexible := f.req.version >= 12
	if f.req.version >= 11 {
		r.str(flexible) // rack
	}
	r.tags(flexible)
	if r.err() == nil && len(r.b) > 0 {
		return errTrailing
	}
	if parts > maxRequestPartitions || topics > maxRequestPartitions {
		return errTooManyPartitions
	}
	if cap(f.parts) < parts {
		f.parts = make([]fetchPart, 0, parts)
	}
	if cap(f.topics) < topics {
		f.topics = make([]fetchTopic, 0, topics)
	}
	return r.err()
}

func (f *fetch) eachForgotten(r *reader, forget func(t fetchTopic, index int32)) {
	v, flexible := f.req.version, f.req.version >= 12
	if v < 7 {
		return
	}
	for n := r.array(flexible, 1); n > 0 && !r.bad; n-- {
		t := f.readTopic(r)
		for m := r.array(flexible, 4); m > 0 && !r.bad; m-- {
			forget(t, r.int32())
		}
		r.tags(flexible)
	}
}

// walk takes the request's partitions into the session, or into the request itself.
func (f *fetch) walk(r *reader) {
	if f.set != nil {
		f.set.update(f, r)
		return
	}
	f.eachPart(r, func(t fetchTopic) *fetchTopic {
		// The reply names the topic after the frame is gone.
		t.name = append([]byte(nil), t.name...)
		f.topics = append(f.topics, t)
		return &f.topics[len(f.topics)-1]
	}, func(t *fetchTopic, p fetchPart) {
		p.topic, p.named, p.sentHW, p.sentLow = t, true, -2, -1
		f.parts = append(f.parts, p)
	})
	for i := range f.parts {
		f.list = append(f.list, &f.parts[i])
	}
}

// take lists the partitions to read in this pass.
func (f *fetch) take() []*fetchPart {
	if f.set != nil {
		f.list = f.set.takeDirty(f.list[:0])
	}
	return f.list
}

// wait parks until something may have come; false when the deadline has passed or the
// connection died.
func (f *fetch) wait(deadline time.Time) bool {
	if f.set == nil && !f.armed {
		f.armed = true
		f.wake.drain()
		for i := range f.parts {
			if p := &f.parts[i]; p.rep != nil {
				p.subscribe(&f.wake)
			}
		}
		return true // one more pass: something may have come before the subscription
	}
	f.timer.Reset(time.Until(deadline))
	defer f.timer.Stop()
	select {
	case <-f.waker().signal:
		return true
	case <-f.timer.C:
	case <-f.wreq.Conn.Draining():
	case <-f.api.stopping:
	}
	return false
}

func (f *fetch) waker() *waker {
	if f.set != nil {
		return &f.set.wake
	}
	return &f.wake
}

// dropResults forgets a pass. In a session the next pass reads only what is on the dirty list, so
// whatever this one found that the client does not know goes back there; before a full answer,
// which has to hold every partition (Java drops the session otherwise), that is all of them.
func (f *fetch) dropResults() {
	for _, p := range f.results {
		if f.set != nil && (p.res.more || f.mustTell(p)) {
			f.set.markDirty(p)
		}
		p.res.release()
	}
	f.results = f.results[:0]
}

// end gives up a request that is not answered.
func (f *fetch) end() {
	f.unsubscribe()
	f.dropResults()
	if f.set != nil {
		f.set.unlock()
	}
	f.free()
}

func (f *fetch) unsubscribe() {
	for i := range f.parts {
		f.parts[i].unsubscribe()
	}
}

// free runs when the last byte of the reply was written, or the connection died.
func (f *fetch) free() {
	f.enc.release()
	clear(f.parts)
	clear(f.topics)
	clear(f.list)
	clear(f.results)
	f.api, f.wreq, f.set = nil, nil, nil
	if cap(f.parts) > 4096 { // a rare huge request must not pin its memory for ever
		f.parts, f.topics, f.list, f.results = nil, nil, nil, nil
	}
	fetches.Put(f)
}
