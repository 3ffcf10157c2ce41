package tiering

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

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
	if err := pace(ctx, p.t.upRate, s.pos); err != nil {
		return err
	}
	return p.t.try(ctx, func() error {
		e.Key = segmentName(e.First, r.LeaderEpoch, newNonce())
		info, err := p.put(ctx, resolve(p.dir, e.Key), object.Body{Reader: s.f, Size: s.pos}, s.crc, "application/x-lz4")
		e.StorageClass = info.StorageClass
		return err
	})
}

// put stores one object once and checks size and checksum of what arrived. A
// store that keeps no checksum is asked for the size at least.
func (p *Partition) put(ctx context.Context, key string, body object.Body, crc uint32, contentType string) (object.Info, error) {
	t := p.t
	rctx, cancel := t.request(ctx, body.Size)
	defer cancel()
	info, err := t.store.Put(rctx, key, body, object.PutOptions{
		ContentType: contentType, CRC32C: object.CRC(crc), Once: true,
	})
	if err != nil {
		return info, storeError(ctx, "put", key, err)
	}
	if !info.CRC32C.Known {
		if info, err = t.store.Head(rctx, key); err != nil {
			return info, storeError(ctx, "verify", key, err)
		}
	}
	if info.Size != body.Size || info.CRC32C.Known && info.CRC32C.Value != crc {
		return info, corruptf(key, 0, "stored %d bytes with CRC32C %08x, sent %d with %08x", info.Size, info.CRC32C.Value, body.Size, crc)
	}
	return info, nil
}

// try repeats fn a few times while its error says that this may help. Waiting
// longer is the caller's business, who may have other partitions to serve.
func (t *Tier) try(ctx context.Context, fn func() error) error {
	for i := 1; ; i++ {
		err := fn()
		if err == nil || i == uploadTries || !IsRetriable(err) || ctx.Err() != nil {
			return err
		}
		wait := uploadBackoff << (i - 1)
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

// writeNext stores the manifest that follows prev, and the page that it moves its
// oldest entries to, if they are many. what names the steps.
func (p *Partition) writeNext(ctx context.Context, what string, prev *view, ptr Pointer, s step) (Commit, error) {
	t := p.t
	s.id, s.nowMS, s.collected = p.id, t.cfg.Now().UnixMilli(), p.collected
	var m *Manifest
	if prev != nil {
		m, s.prevName = prev.m, prev.m.Name
		var err error
		if s.dropped, err = p.dropped(ctx, prev, max(s.logStart, m.LogStart)); err != nil {
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
		_, err = p.put(ctx, resolve(p.dir, manifestDir+next.Name), object.Bytes(b), crc, "application/json")
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
	return commitOf(next, crc, s.dropped), nil
}

func commitOf(m *Manifest, crc uint32, dropped []Entry) Commit {
	c := Commit{
		Prev: m.Prev, Name: m.Name, CRC: crc, LogStart: m.LogStart, TieredEnd: m.TieredEnd,
		LastEpoch: -1, Bytes: m.RawBytes,
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
		_, err := p.put(ctx, resolve(p.dir, ref.Key), object.Bytes(b), crc, "application/json")
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
// were live in it and end below. A page may have to be read.
func (p *Partition) dropped(ctx context.Context, v *view, start int64) ([]Entry, error) {
	var out []Entry
	take := func(entries []Entry) {
		for i := range entries {
			if e := &entries[i]; e.Last >= v.m.LogStart && e.Last < start {
				out = append(out, *e)
			}
		}
	}
	for i := range v.m.Pages {
		if ref := &v.m.Pages[i]; ref.First < start {
			entries, err := p.pageEntries(ctx, ref)
			if err != nil {
				return nil, err
			}
			take(entries)
		}
	}
	take(v.m.Entries)
	return out, nil
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
