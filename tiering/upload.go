package tiering

import (
	"context"
	"fmt"
	"strings"

	"varve/tiering/object"
)

// Range is a sealed range to upload, all of it below the last stable offset.
type Range struct {
	First, Next int64 // First is TieredEnd, or LogStart if that is higher; Next is exclusive
	LogStart    int64 // raft's
	LeaderEpoch int32 // of this leader
	// Epochs of the range; the first may start below it.
	Epochs []Epoch
	// Aborted transactions that overlap the range, those that began before it too.
	Aborted []Aborted
	// Producers is the producer-state snapshot as of Next, opaque here.
	Producers   []byte
	TopicConfig map[string]string
	// NoCompression stores every batch as it is (varve.tier.compression=none).
	NoCompression bool
}

// Upload builds the object of r from src, stores and verifies it, writes the next
// manifest, and returns the commit to propose. Until that is applied nothing
// refers to what was written, and after an error nothing ever will: a retry makes
// new names. An error of src is in the chain of the returned one.
func (p *Partition) Upload(ctx context.Context, r Range, src BatchReader) (Commit, error) {
	c, err := p.upload(ctx, &r, src)
	if err != nil {
		p.t.stats.uploadErrors.Add(1)
		return Commit{}, fmt.Errorf("upload %s from %d: %w", p.id, r.First, err)
	}
	p.t.stats.uploads.Add(1)
	return c, nil
}

func (p *Partition) upload(ctx context.Context, r *Range, src BatchReader) (Commit, error) {
	t := p.t
	prev, ptr, err := p.base(ctx, r)
	if err != nil {
		return Commit{}, err
	}
	slot, err := t.uploadSlot(ctx)
	if err != nil {
		return Commit{}, err
	}
	defer t.freeUploadSlot(slot)

	ctx, cancel := context.WithCancel(p.label(ctx, object.PurposeUpload))
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	entry, err := p.build(slot, r, src)
	if err != nil {
		return Commit{}, err
	}
	t.cfg.OnStep("upload.spooled")
	if err := p.putObject(ctx, slot.spool, r, &entry); err != nil {
		return Commit{}, err
	}
	t.stats.uploadBytes.Add(entry.StoredBytes)
	t.cfg.OnStep("upload.object-put")
	return p.writeNext(ctx, "upload", prev, ptr, step{
		leaderEpoch: r.LeaderEpoch, config: r.TopicConfig, logStart: r.LogStart, add: &entry,
	})
}

// base loads the manifest that the upload continues; nil for the first one.
func (p *Partition) base(ctx context.Context, r *Range) (*view, Pointer, error) {
	ptr := p.Pointer()
	r.LogStart = max(r.LogStart, ptr.LogStart)
	end := int64(0)
	var v *view
	if ptr.Name != "" {
		var err error
		if v, err = p.current(ctx); err != nil {
			return nil, ptr, err
		}
		if v.m.Name != ptr.Name {
			return nil, ptr, ErrStale
		}
		end, r.LogStart = v.m.TieredEnd, max(r.LogStart, v.m.LogStart)
	}
	if r.First != max(end, r.LogStart) || r.Next <= r.First {
		return nil, ptr, fmt.Errorf("range [%d, %d) after tiered end %d, log start %d: %w", r.First, r.Next, end, r.LogStart, ErrRange)
	}
	if v != nil && r.LogStart > end && v.m.Count > int64(p.room(v.m)) {
		// The range does not follow what is there, so all of that must be dropped first: retention does
		// so step by step.
		return nil, ptr, fmt.Errorf("%d keys wait, %d objects below log start %d are to follow: %w: retention goes on when some are deleted",
			len(v.m.Deleted), v.m.Count, r.LogStart, ErrBacklog)
	}
	return v, ptr, nil
}

func (t *Tier) uploadSlot(ctx context.Context) (*uploadSlot, error) {
	if t.uploads == nil {
		return nil, fmt.Errorf("no spool directory is configured")
	}
	select {
	case slot := <-t.uploads:
		return slot, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-t.ctx.Done():
		return nil, ErrClosed
	}
}

func (t *Tier) freeUploadSlot(slot *uploadSlot) {
	if slot.spool != nil {
		if err := slot.spool.release(); err != nil {
			t.cfg.Log.Warn("upload spool", "err", err)
		}
	}
	t.uploads <- slot
}

// build lays the object out in the slot's spool and describes it.
func (p *Partition) build(slot *uploadSlot, r *Range, src BatchReader) (Entry, error) {
	t := p.t
	if slot.spool == nil {
		var err error
		if slot.spool, err = openSpool(t.cfg.SpoolDir, slot.n); err != nil {
			return Entry{}, err
		}
		slot.build = newBuilder(t.cfg.ChunkBytes)
	}
	b := slot.build
	slot.spool.reset()
	b.reset(slot.spool, r.NoCompression)
	if err := b.fill(src, r.First); err != nil {
		return Entry{}, err
	}
	x := &b.index
	if x.Batches == 0 || x.Last+1 != r.Next {
		return Entry{}, fmt.Errorf("%d batches end at %d, range at %d: %w", x.Batches, x.Last+1, r.Next, ErrRange)
	}
	x.TopicID, x.Partition, x.LeaderEpoch = p.id.TopicID, p.id.Partition, r.LeaderEpoch
	x.Epochs, x.Aborted = epochsFrom(r.Epochs, x.First), r.Aborted
	indexLen, err := b.finish(r.Producers)
	if err != nil {
		return Entry{}, err
	}
	if err := x.validate(x.ProducersPos + int64(x.ProducersLen)); err != nil {
		return Entry{}, fmt.Errorf("object would be invalid: %w: %w", ErrRange, err)
	}
	return Entry{
		First: x.First, Last: x.Last, Epochs: x.Epochs,
		RawBytes: x.RawBytes, StoredBytes: slot.spool.pos,
		BaseTimestamp: x.BaseTimestamp, MaxTimestamp: x.MaxTimestamp, MaxTimestampOffset: x.MaxTimestampOffset,
		Records: x.Records, Aborted: len(x.Aborted), IndexLen: indexLen, CRC: slot.spool.crc,
		CreatedMS: t.cfg.Now().UnixMilli(),
	}, nil
}

// putObject stores the spool under a fresh key and verifies what the store got.
// Each try has a key of its own: a PUT whose answer was lost may still land, and
// must land where nobody looks.
func (p *Partition) putObject(ctx context.Context, s *spool, r *Range, e *Entry) error {
	if err := pace(ctx, p.t.rates.up.Load, s.pos); err != nil {
		return err
	}
	return p.t.try(ctx, func() error {
		e.Key = segmentName(e.First, r.LeaderEpoch, newNonce())
		info, err := p.put(ctx, resolve(p.dir, e.Key), object.Body{Reader: s.f, Size: s.pos}, s.crc, object.PutOptions{
			ContentType: "application/x-lz4", StorageClass: p.t.cfg.StorageClass,
		})
		e.StorageClass = info.StorageClass
		return err
	})
}

// writeNext stores the manifest that follows prev, and the page that it moves its
// oldest entries to, if they are many. what names the steps.
func (p *Partition) writeNext(ctx context.Context, what string, prev *view, ptr Pointer, s step) (Commit, error) {
	t := p.t
	s.id, s.nowMS, s.collected = p.id, t.cfg.Now().UnixMilli(), p.collected
	var m *Manifest
	logStart := s.logStart
	if prev != nil {
		m, s.prevName = prev.m, prev.m.Name
		var err error
		if s.dropped, s.logStart, err = p.dropped(ctx, prev, max(s.logStart, m.LogStart)); err != nil {
			return Commit{}, err
		}
	}
	if err := p.spill(ctx, what, m, &s); err != nil {
		return Commit{}, err
	}
	ctx = object.WithPurpose(ctx, object.PurposeManifest)
	var next *Manifest
	var crc uint32
	var size int
	err := t.try(ctx, func() error {
		s.nonce = newNonce()
		next = m.next(s)
		if err := next.validate(); err != nil {
			return fmt.Errorf("manifest after %s would be invalid: %w: %w", next.Prev, ErrRange, err)
		}
		b, sum, err := next.encode()
		if err != nil {
			return err
		}
		crc, size = sum, len(b)
		_, err = p.put(ctx, resolve(p.dir, manifestDir+next.Name), object.Bytes(b), crc, jsonOptions)
		return err
	})
	if err != nil {
		return Commit{}, err
	}
	t.cfg.OnStep(what + ".manifest-put")
	if p.Pointer().Name != ptr.Name {
		return Commit{}, ErrStale
	}
	p.remember(newView(next, int64(size)))
	return commitOf(next, crc, logStart, s.dropped), nil
}

// commitOf is the change that m makes. logStart is raft's: a manifest may stay below
// it while more objects are to be dropped than may wait for their deletion.
func commitOf(m *Manifest, crc uint32, logStart int64, dropped []Entry) Commit {
	c := Commit{
		Prev: m.Prev, Name: m.Name, CRC: crc, LogStart: max(m.LogStart, logStart),
		TieredEnd: max(m.TieredEnd, logStart), LastEpoch: -1, Bytes: m.RawBytes,
	}
	if n := len(m.Epochs); n > 0 {
		c.LastEpoch = m.Epochs[n-1].Epoch
	}
	for i := range dropped {
		c.Retired = append(c.Retired, dropped[i].Key)
	}
	return c
}

// spill writes a page with the oldest entries if they are enough for one.
func (p *Partition) spill(ctx context.Context, what string, m *Manifest, s *step) error {
	if m == nil || len(m.Entries) < p.t.cfg.PageEntries {
		return nil
	}
	entries := m.Entries[:p.t.cfg.PageEntries]
	if entries[0].Last < max(s.logStart, m.LogStart) {
		return nil // some are about to go; the next manifest pages what is left
	}
	ref := refOf(entries)
	b, crc, err := (&page{
		Version: formatVersion, TopicID: p.id.TopicIDText, Partition: p.id.Partition, Entries: entries,
	}).encode()
	if err != nil {
		return err
	}
	ref.Size, ref.CRC = int64(len(b)), crc
	ctx = object.WithPurpose(ctx, object.PurposeManifest)
	err = p.t.try(ctx, func() error {
		ref.Key = pageName(ref.First, s.leaderEpoch, newNonce())
		_, err := p.put(ctx, resolve(p.dir, ref.Key), object.Bytes(b), crc, jsonOptions)
		return err
	})
	if err != nil {
		return err
	}
	s.spill = &ref
	p.t.cfg.OnStep(what + ".page-put")
	return nil
}

// dropped lists the entries that a log start of start takes out of v: those that
// were live in it and end below. If there is no room for all of them, it is the
// oldest, and the log start behind them. A page may have to be read.
func (p *Partition) dropped(ctx context.Context, v *view, start int64) (out []Entry, logStart int64, err error) {
	room := p.room(v.m)
	logStart = start
	err = p.eachEntry(ctx, v, func(e *Entry) bool {
		if e.Last < v.m.LogStart {
			return true // dropped before; its page still lists it
		}
		if e.Last >= start {
			return false
		}
		if len(out) == room {
			logStart = max(v.m.LogStart, e.First)
			return false
		}
		out = append(out, *e)
		return true
	})
	if err != nil {
		return nil, 0, err
	}
	return out, logStart, nil
}

// room is how many entries of m may be dropped before some that were have been
// deleted. It keeps a place for each page that empties with them.
//
//	len(Deleted) <= Config.MaxDeleted in every manifest written
func (p *Partition) room(m *Manifest) int {
	waiting := 0
	for i := range m.Deleted {
		if !p.collected[m.Deleted[i].Key] {
			waiting++
		}
	}
	per := p.t.cfg.PageEntries
	return max(p.t.cfg.MaxDeleted-waiting-2, 0) * per / (per + 1) // two pages may have fewer than that left
}

// remember keeps a manifest that was just written: once it is committed, this
// broker need not read it.
func (p *Partition) remember(v *view) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.mu.written) >= maxWritten {
		p.mu.written = p.mu.written[1:]
	}
	p.mu.written = append(p.mu.written, v)
}

// TopicIDOf returns the topic id of a key below "<cluster>/topics/", or "".
func TopicIDOf(key string) string {
	_, rest, ok := strings.Cut(key, "/topics/")
	if !ok {
		return ""
	}
	dir, _, _ := strings.Cut(rest, "/")
	return dir[strings.LastIndexByte(dir, '.')+1:]
}
