package api

import (
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"varve/broker/auth"
	"varve/broker/partition"
	"varve/broker/record"
	"varve/broker/wire"
)

// produceReply is one Produce request on its way: parsed, appended, perhaps waiting for HW. It is
// pooled; the request's frame is given back as soon as the bytes are in the log.
type produceReply struct {
	api     *API
	req     *wire.Request
	version int16
	acks    int16
	topics  []produceTopic
	parts   []producePart
	names   []byte    // topic names or ids, copied because the frame goes back early
	txnID   string    // "" without
	verdict []verdict // by partition, only with a transactional id

	mu      sync.Mutex
	pending int  // Acks that have not come back
	parsed  bool // every partition was handled; before that no reply leaves
	replied bool

	throttle   int32 // ms, for the reply
	deadline   time.Time
	prev, next *produceReply // the list of waiting replies, guarded by produceWaits.mu
	waiting    bool
}

type produceTopic struct{ name, parts [2]int } // ranges of names and of parts

type producePart struct {
	ack      partition.Ack
	index    int32
	code     int16
	base     int64
	time     int64
	logStart int64
	done     bool
	message  string
	bad      *badRecords // which records are to blame, if that is known
}

// maxRequestPartitions bounds a Produce or Fetch: a partition costs six bytes in a frame of up to
// 100 MiB, and a hundred or three hundred in memory. No client asks for more than a broker holds.
const maxRequestPartitions = 200_000

var produceReplies = sync.Pool{New: func() any { return new(produceReply) }}

// produce handles Produce v3 to v13. Record bytes go from the frame to the file in one write;
// replies for acks=0 and 1 are made here, on the connection's own goroutine (design 12.4).
func (a *API) produce(req *wire.Request) error {
	if a.cfg.Hot != nil {
		a.cfg.Hot.Add(1)
	}
	p := produceReplies.Get().(*produceReply)
	p.reset(a, req)
	start, size := a.cfg.Now(), len(req.Body)
	r := reader{b: req.Body}
	timeout := p.header(&r)
	if r.bad {
		p.free()
		return errShort
	}
	if err := p.walk(&r); err != nil {
		// Nothing is half done for the partitions before the bad byte: they are appended, and the
		// client, which gets no answer, has an unknown outcome.
		p.abandon()
		return err
	}
	req.Release()
	p.throttle = a.throttle(req, a.cfg.Now().Sub(start), auth.ProduceBytes, size)
	p.finishParse(time.Duration(timeout) * time.Millisecond)
	return nil
}

func (p *produceReply) reset(a *API, req *wire.Request) {
	p.api, p.req, p.version = a, req, req.Version
	p.topics, p.parts, p.names = p.topics[:0], p.parts[:0], p.names[:0]
	p.pending, p.parsed, p.replied = 0, false, false
	p.txnID, p.verdict = "", p.verdict[:0]
}

func (p *produceReply) header(r *reader) (timeout int32) {
	flexible := p.version >= 9
	if id := r.str(flexible); len(id) > 0 { // a claim: the batches say what they are (CVE-2018-17196)
		p.txnID = string(id)
	}
	p.acks = r.int16()
	return r.int32()
}

// walk parses and appends. All parts are made before the first append: from then on Acked may come
// at any moment, and finds its own at an index of a slice that does not change any more.
func (p *produceReply) walk(r *reader) error {
	flexible := p.version >= 9
	count, err := p.measure(*r)
	if err != nil {
		return err
	}
	if count > maxRequestPartitions {
		return errTooManyPartitions
	}
	p.makeParts(count)
	if p.txnID != "" {
		p.verify(*r, count)
	}
	next := 0
	for n := r.array(flexible, 1); n > 0; n-- {
		t := produceTopic{name: [2]int{len(p.names)}, parts: [2]int{next}}
		rt := p.topic(r)
		t.name[1] = len(p.names)
		for m := r.array(flexible, 5); m > 0; m-- {
			index, b := r.int32(), r.bytes(flexible)
			r.tags(flexible)
			p.parts[next].index = index
			p.append(rt, next, b)
			next++
		}
		r.tags(flexible)
		t.parts[1] = next
		p.topics = append(p.topics, t)
	}
	r.tags(flexible)
	return r.err()
}

func (p *produceReply) makeParts(count int) {
	if cap(p.parts) < count {
		p.parts = make([]producePart, count)
	}
	p.parts = p.parts[:count]
	for i := range p.parts {
		p.parts[i] = producePart{base: -1, time: -1, logStart: -1}
	}
}

// measure walks the request without acting on it: a frame cut short changes nothing.
func (p *produceReply) measure(r reader) (count int, err error) {
	flexible := p.version >= 9
	for n := r.array(flexible, 1); n > 0 && !r.bad; n-- {
		if p.version >= 13 {
			r.uuid()
		} else {
			r.str(flexible)
		}
		m := r.array(flexible, 5)
		for count += m; m > 0 && !r.bad; m-- {
			r.int32()
			r.bytes(flexible)
			r.tags(flexible)
		}
		r.tags(flexible)
	}
	r.tags(flexible)
	if r.err() == nil && len(r.b) > 0 {
		return 0, errTrailing
	}
	return count, r.err()
}

type produceTarget struct {
	topic *partition.Topic
	code  *kerr.Error // why there is none
}

func (p *produceReply) topic(r *reader) produceTarget {
	if p.version >= 13 {
		id := r.uuid()
		p.names = append(p.names, id[:]...)
		return produceTarget{p.api.cfg.Set.ByID(id), kerr.UnknownTopicID}
	}
	name := r.str(p.version >= 9)
	p.names = append(p.names, name...)
	if t := p.api.cfg.Set.ByName(string(name)); t != nil {
		return produceTarget{topic: t}
	}
	if !validTopicName(string(name)) {
		return produceTarget{code: kerr.InvalidTopicException}
	}
	return produceTarget{code: kerr.UnknownTopicOrPartition}
}

// append writes the batch of partition number at and notes the answer, or parks.
func (p *produceReply) append(t produceTarget, at int, b []byte) {
	part := &p.parts[at]
	fail := func(e *kerr.Error, message string) { part.code, part.message, part.done = e.Code, message, true }
	if p.acks < -1 || p.acks > 1 {
		fail(kerr.InvalidRequiredAcks, "")
		return
	}
	if t.topic == nil {
		fail(t.code, "")
		return
	}
	if isInternal(t.topic.Name) { // its coordinator is the only writer
		fail(kerr.InvalidTopicException, "clients do not write to internal topics")
		return
	}
	rep := t.topic.Partition(part.index)
	if rep == nil {
		fail(kerr.UnknownTopicOrPartition, "")
		return
	}
	batch, err := p.api.checkBatch(rep, b, p.version)
	if err != nil {
		e, message := produceCode(err)
		fail(e, message)
		errors.As(err, &part.bad)
		return
	}
	transactional := batch.Attributes().Transactional()
	if transactional {
		if err := p.mayAppend(at); err != nil {
			e, message := txnProduceCode(err, p.version)
			fail(e, message)
			return
		}
	}
	var ack *partition.Ack
	if p.acks == -1 {
		part.ack = partition.Ack{Owner: p, Tag: int32(at)}
		ack = &part.ack
		p.mu.Lock()
		p.pending++ // before the append: the answer may come before it returns
		p.mu.Unlock()
	}
	appendTime := int64(-1)
	if rep.Config().AppendTime {
		appendTime = batch.MaxTimestamp()
	}
	var info partition.AppendInfo
	var parked bool
	if transactional {
		info, parked, err = rep.AppendClient(batch, p.verdict[at].guard, ack)
	} else {
		info, parked, err = rep.Append(batch, ack)
	}
	if err == nil {
		p.api.metrics.produced(rep.ID().Topic, len(batch))
	}
	p.mu.Lock() // a parked append may have been answered already
	defer p.mu.Unlock()
	part.logStart = rep.LogStart()
	switch {
	case err != nil:
		e, message := produceCode(err)
		fail(e, message)
	case part.code == 0:
		part.base, part.time = info.First, appendTime
	}
	if ack != nil && !parked {
		p.pending--
		part.done = true
	}
}

// checkBatch verifies what a producer sent and returns the batch to append: the view itself, or a
// rewritten copy where the topic forces append time or another codec.
func (a *API) checkBatch(rep *partition.Replica, b []byte, version int16) (record.Batch, error) {
	conf := rep.Config()
	if len(b) == 0 {
		return nil, record.ErrInvalidRecord
	}
	batch := record.Batch(b) // not Parse: a second batch in the field is refused, not left unseen
	now := a.cfg.Now().UnixMilli()
	err := record.ValidateProduce(batch, record.Limits{
		MaxBytes: conf.MaxBatchBytes, Now: now, LogAppendTime: conf.AppendTime,
		TimestampBeforeMaxMS: conf.TimeBefore.Milliseconds(), TimestampAfterMaxMS: conf.TimeAfter.Milliseconds(),
	})
	if errors.Is(err, record.ErrInvalidTimestamp) && batch.Count() == 1 {
		err = &badRecords{err: err, at: []int32{0}}
	}
	if err != nil {
		return nil, err
	}
	attrs := batch.Attributes()
	if attrs.Codec() == record.Zstd && version < 7 { // KIP-110
		return nil, errOldZstd
	}
	if conf.Compacted {
		if err := needKeys(batch, conf.MaxBatchBytes); err != nil {
			return nil, err
		}
	}
	if conf.Compression != "" && conf.Compression != "producer" {
		if batch, err = recompress(batch, conf.Compression, conf.CompressionLevel, conf.MaxBatchBytes); err != nil {
			return nil, err
		}
	}
	if conf.AppendTime {
		batch.SetLogAppendTime(now)
	}
	return batch, nil
}

// finishParse lets the reply leave once every Ack has come back. p goes on the waiting list before
// parsed is set: after it the last Ack may free p at any moment.
func (p *produceReply) finishParse(timeout time.Duration) {
	if p.acks == -1 {
		p.deadline = p.api.cfg.Now().Add(timeout)
		p.api.waits.add(p)
	}
	p.mu.Lock()
	p.parsed = true
	ready := p.pending == 0
	answer := ready && !p.replied
	p.replied = p.replied || ready
	p.mu.Unlock()
	if !ready {
		return
	}
	p.api.waits.remove(p)
	if answer {
		p.reply()
	}
	p.free()
}

// Acked is the partition's answer to a parked append.
func (p *produceReply) Acked(a *partition.Ack, err error) {
	p.mu.Lock()
	part := &p.parts[a.Tag]
	if !part.done && !p.replied {
		part.done = true
		if err != nil {
			e, message := produceCode(err)
			part.code, part.message, part.base = e.Code, message, -1
		}
	}
	p.pending--
	last := p.pending == 0 && p.parsed
	answer := last && !p.replied
	p.replied = p.replied || answer
	p.mu.Unlock()
	if !last {
		return
	}
	p.api.waits.remove(p)
	if answer {
		p.reply()
	}
	p.free()
}

// expire answers what is still parked with REQUEST_TIMED_OUT, an unknown outcome. The Acks stay
// with their partitions; the last of them frees p.
func (p *produceReply) expire() {
	p.mu.Lock()
	if p.replied || p.pending == 0 {
		p.mu.Unlock()
		return
	}
	p.replied = true
	for i := range p.parts {
		if part := &p.parts[i]; !part.done {
			part.done, part.code, part.base = true, kerr.RequestTimedOut.Code, -1
		}
	}
	p.reply() // under mu: the last Ack may free p as soon as it is let go
	p.mu.Unlock()
}

// abandon ends a request that cannot be answered.
func (p *produceReply) abandon() {
	p.mu.Lock()
	p.parsed, p.replied = true, true
	last := p.pending == 0
	p.mu.Unlock()
	if last {
		p.free()
	}
}

func (p *produceReply) free() {
	p.api, p.req = nil, nil
	if cap(p.parts) > 4096 { // a rare huge request must not pin its memory for ever
		p.parts, p.topics, p.names = nil, nil, nil
	}
	clear(p.parts) // messages
	clear(p.verdict)
	produceReplies.Put(p)
}

func (p *produceReply) reply() {
	req := p.req
	if p.acks == 0 {
		bad := false
		for i := range p.parts {
			bad = bad || p.parts[i].code != 0
		}
		req.NoReply()
		if bad { // the only way to make an acks=0 producer look at its metadata again, as Kafka does
			req.Conn.Close()
		}
		return
	}
	req.Reply(wire.Response{Body: p.encode()})
}

func (p *produceReply) encode() []byte {
	v, flexible := p.version, p.version >= 9
	w := writer{wire.GetBuffer(64 + len(p.names) + 64*len(p.parts))[:0]}
	w.array(len(p.topics), flexible)
	for _, t := range p.topics {
		name := p.names[t.name[0]:t.name[1]]
		if v >= 13 {
			w.b = append(w.b, name...)
		} else {
			w.str(name, flexible)
		}
		w.array(t.parts[1]-t.parts[0], flexible)
		for i := t.parts[0]; i < t.parts[1]; i++ {
			part := &p.parts[i]
			w.int32(part.index)
			w.int16(part.code)
			w.int64(part.base)
			w.int64(part.time)
			if v >= 5 {
				w.int64(part.logStart)
			}
			if v >= 8 {
				part.bad.encode(&w, flexible)
				w.nullableStr(part.message, flexible)
			}
			w.noTags(flexible)
		}
		w.noTags(flexible)
	}
	w.int32(p.throttle)
	w.noTags(flexible)
	return w.b
}

var (
	errTrailing = errors.New("bytes after the end of the request")
	errOldZstd  = errors.New("zstd needs Produce version 7 or later")
	errNullKey  = errors.New("a record without key in a compacted topic")

	errTooManyPartitions = errors.New("request names too many partitions")
)

func produceCode(err error) (*kerr.Error, string) {
	for _, m := range produceCodes {
		if errors.Is(err, m.err) {
			return m.code, err.Error()
		}
	}
	var corrupt *record.CorruptError
	if errors.As(err, &corrupt) {
		return kerr.CorruptMessage, err.Error()
	}
	return errorCode(err), err.Error()
}

var produceCodes = []struct {
	err  error
	code *kerr.Error
}{
	{record.ErrTooLarge, kerr.MessageTooLarge},
	{record.ErrInvalidTimestamp, kerr.InvalidTimestamp},
	{record.ErrInvalidRecord, kerr.InvalidRecord},
	{record.ErrUnsupportedMagic, kerr.InvalidRecord},
	{record.ErrCorrupt, kerr.CorruptMessage},
	{record.ErrShort, kerr.CorruptMessage},
	{errNullKey, kerr.InvalidRecord},
	{errOldZstd, kerr.UnsupportedCompressionType},
	{partition.ErrOutOfOrderSequence, kerr.OutOfOrderSequenceNumber},
	{partition.ErrInvalidProducerEpoch, kerr.InvalidProducerEpoch},
	{partition.ErrInvalidTxnState, kerr.InvalidTxnState},
}
