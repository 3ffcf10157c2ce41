package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"varve/broker/auth"
	"varve/broker/partition"
	"varve/broker/wire"
)

// fetchEncoder writes a Fetch response: the fields into one buffer, with marks where record bytes
// of files and of the tier go between them.
type fetchEncoder struct {
	w     writer
	marks []fetchMark
	parts []wire.Part
	held  []fetchResult // spans and cold data to release once the reply has left
}

// fetchMark says that record bytes, of a file or of the tier, come after buffer position at.
type fetchMark struct {
	at   int
	span *partition.Span
	data *partition.ColdData
}

// release lets go of what the reply referred to; the buffer itself went back with the reply's Body.
func (e *fetchEncoder) release() {
	for i := range e.held {
		e.held[i].release()
	}
	clear(e.held)
	clear(e.marks)
	clear(e.parts)
	e.held, e.marks, e.parts, e.w.b = e.held[:0], e.marks[:0], e.parts[:0], nil
}

// refuse answers with a top-level code and no partition.
func (f *fetch) refuse(code *kerr.Error) {
	f.enc.w.b = wire.GetBuffer(64)[:0]
	f.head(code.Code, 0)
	f.enc.w.array(0, f.req.version >= 12)
	f.enc.w.noTags(f.req.version >= 12)
	f.wreq.Reply(wire.Response{Body: f.enc.w.b, Done: f.release})
}

func (f *fetch) head(code int16, session int32) {
	w := &f.enc.w
	w.int32(f.throttle)
	if f.req.version >= 7 {
		w.int16(code)
		w.int32(session)
	}
}

// send encodes what the last pass found, settles the session, and gives the reply to the
// connection. f is freed when the last byte has left.
func (f *fetch) send() {
	f.unsubscribe()
	flexible := f.req.version >= 12
	f.enc.w.b = wire.GetBuffer(256 + 96*len(f.results))[:0]
	session := int32(0)
	if f.set != nil {
		session = f.set.id
	}
	tell := f.results[:0]
	size := 0
	for _, p := range f.results {
		if f.mustTell(p) {
			tell = append(tell, p)
			size += p.res.bytes
		} else {
			f.settle(p)
		}
	}
	f.throttle = f.api.throttle(f.wreq, time.Since(f.start)-f.waited, auth.FetchBytes, size)
	f.head(0, session)
	f.enc.w.array(countTopics(tell), flexible)
	for i := 0; i < len(tell); {
		n := 1
		for i+n < len(tell) && tell[i+n].topic == tell[i].topic {
			n++
		}
		f.topic(tell[i:i+n], flexible)
		i += n
	}
	f.enc.w.noTags(flexible)
	// Those that got records go to the end of the dirty list, so that everybody's turn comes where
	// a response cannot hold all.
	for _, p := range tell {
		if p.res.bytes == 0 {
			f.settle(p)
		}
	}
	for _, p := range tell {
		if p.res.bytes > 0 {
			f.settle(p)
		}
	}
	set, wreq := f.set, f.wreq
	body, parts := f.enc.assemble()
	if set != nil {
		set.unlock()
	}
	wreq.Reply(wire.Response{Body: body, Parts: parts, Done: f.release})
}

// mustTell: an incremental answer holds only what changed since the client was last told.
func (f *fetch) mustTell(p *fetchPart) bool {
	return f.full || p.res.bytes > 0 || p.res.code != 0 ||
		p.res.bounds.HW != p.sentHW || p.res.bounds.LogStart != p.sentLow
}

// settle notes what the client is told, keeps on the dirty list what is not finished, and moves
// the references of the result to the reply.
func (f *fetch) settle(p *fetchPart) {
	p.sentHW, p.sentLow, p.sentFail, p.named = p.res.bounds.HW, p.res.bounds.LogStart, p.res.code, false
	if f.set != nil && (p.res.bytes > 0 || p.res.more || p.res.code != 0) {
		f.set.markDirty(p)
	}
	f.enc.held = append(f.enc.held, fetchResult{span: p.res.span, data: p.res.data})
	p.res = fetchResult{}
}

func countTopics(parts []*fetchPart) int {
	n := 0
	for i, p := range parts {
		if i == 0 || parts[i-1].topic != p.topic {
			n++
		}
	}
	return n
}

func (f *fetch) topic(parts []*fetchPart, flexible bool) {
	w := &f.enc.w
	if f.req.version >= 13 {
		w.b = append(w.b, parts[0].topic.id[:]...)
	} else {
		w.str(parts[0].topic.name, flexible)
	}
	w.array(len(parts), flexible)
	for _, p := range parts {
		f.partition(p, flexible)
	}
	w.noTags(flexible)
}

func (f *fetch) partition(p *fetchPart, flexible bool) {
	w, res := &f.enc.w, &p.res
	w.int32(p.index)
	w.int16(res.code)
	w.int64(res.bounds.HW)
	w.int64(res.bounds.LSO)
	if f.req.version >= 5 {
		w.int64(res.bounds.LogStart)
	}
	if !f.req.committed { // null for read_uncommitted, as in Kafka
		w.array(-1, flexible)
	} else {
		w.array(len(res.aborted), flexible)
		for _, t := range res.aborted {
			w.int64(t.ProducerID)
			w.int64(t.First)
			w.noTags(flexible)
		}
	}
	if f.req.version >= 11 {
		w.int32(-1) // preferred read replica
	}
	w.array(res.bytes, flexible) // never null: Java iterates it
	if res.bytes > 0 {
		f.enc.marks = append(f.enc.marks, fetchMark{len(w.b), res.span, res.data})
	}
	w.noTags(flexible)
}

// assemble cuts the buffer at the marks; before it the buffer may still move.
func (e *fetchEncoder) assemble() (body []byte, parts []wire.Part) {
	if len(e.marks) == 0 {
		return e.w.b, nil
	}
	for i, m := range e.marks {
		e.addRecords(m)
		end := len(e.w.b)
		if i+1 < len(e.marks) {
			end = e.marks[i+1].at
		}
		e.parts = append(e.parts, wire.Part{Bytes: e.w.b[m.at:end]})
	}
	return e.w.b[:e.marks[0].at], e.parts
}

func (e *fetchEncoder) addRecords(m fetchMark) {
	if m.span != nil {
		for _, part := range m.span.Parts {
			if part.Len >= wire.SendfileMin {
				m.span.MarkSent() // the socket queue will refer to the file's pages
			}
			e.parts = append(e.parts, wire.Part{File: part.File, Pos: part.Pos, Len: part.Len})
		}
		return
	}
	for _, b := range m.data.Buffers {
		e.parts = append(e.parts, wire.Part{Bytes: b})
	}
}
