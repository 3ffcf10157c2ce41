package partition

import "varve/broker/commitlog"

// Usage says where a partition's bytes are, from what is in memory: nothing is opened or read.
// HotOnly, Both and ColdOnly do not overlap; they count raw batch bytes.
type Usage struct {
	LocalBytes     int64
	HotOnly        int64 // only on local disk
	Both           int64 // on local disk and in the store
	ColdOnly       int64 // only in the store
	Segments       int   // local ones
	UploadLagBytes int64 // sealed, below LSO and not in the store
	UploadLag      int   // segments of it
	// OldestLocalOnly is the base timestamp (ms) of the oldest segment that only the disk holds; -1
	// if there is none.
	OldestLocalOnly int64
}

// Usage is zero while the log was never opened.
func (r *Replica) Usage() Usage {
	u := Usage{OldestLocalOnly: -1}
	l := r.log.Load()
	if l == nil {
		return u
	}
	tiered, lso := r.tierEnd.Load(), r.Bounds().LSO
	segments := l.Segments()
	for _, s := range segments {
		u.LocalBytes += s.Bytes
		u.Segments++
		switch {
		case s.Next <= tiered:
			u.Both += s.Bytes
			continue
		case s.Bytes > 0 && u.OldestLocalOnly < 0:
			u.OldestLocalOnly = s.BaseTime
		}
		u.HotOnly += s.Bytes
		if s.Sealed && s.Next <= lso {
			u.UploadLagBytes += s.Bytes
			u.UploadLag++
		}
	}
	u.ColdOnly = max(r.TieredBytes()-u.Both, 0)
	return u
}

// Segments lists the local segments; nil while the log was never opened.
func (r *Replica) Segments() []commitlog.SegmentInfo {
	if l := r.log.Load(); l != nil {
		return l.Segments()
	}
	return nil
}

// Flush seals the active segment, so that the workers upload it as soon as it lies below LSO.
func (r *Replica) Flush() error {
	l, err := r.Log()
	if err != nil {
		return err
	}
	if err := l.Roll("flush asked for"); err != nil {
		return err
	}
	if r.kick != nil {
		r.kick()
	}
	return nil
}

// PendingDrop is what local retention would drop at its next run.
func (r *Replica) PendingDrop() (segments, bytes int64) {
	l, conf := r.log.Load(), r.conf.Load()
	if l == nil || conf == nil || !r.uploads(conf) {
		return 0, 0
	}
	list := l.Segments()
	floor := min(retireFloor(list, conf.LocalBytes, conf.LocalAge, r.cfg.Now()), r.tierEnd.Load())
	for _, s := range list {
		if s.Sealed && s.Next <= floor {
			segments++
			bytes += s.Bytes
		}
	}
	return segments, bytes
}
