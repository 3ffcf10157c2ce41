package broker

import (
	"context"
	"time"

	"varve/broker/commitlog"
	"varve/broker/partition"
	"varve/tiering"
)

// serveTierSegments lists the ranges of the asked partitions, oldest first: bucket, both, disk.
func (b *Broker) serveTierSegments(ask tierAsk) (any, error) {
	out := TierSegments{Header: header("tier.segments"), Topic: ask.topic.Name, Segments: []TierSegment{}}
	for _, rep := range ask.parts {
		if _, err := rep.Log(); err != nil {
			return nil, err
		}
		local := map[int64]commitlog.SegmentInfo{}
		for _, s := range rep.Segments() {
			local[s.Base] = s
		}
		if cold := rep.Cold(); cold != nil {
			for e, err := range cold.Entries(ask.r.Context()) {
				if err != nil {
					return nil, storeFailed(err)
				}
				row := coldSegment(rep, cold, &e)
				if s, ok := local[e.First]; ok && s.Next == e.Last+1 {
					row.Where = "both"
					delete(local, e.First)
				}
				out.Segments = append(out.Segments, row)
			}
		}
		for _, s := range rep.Segments() {
			if _, left := local[s.Base]; left {
				out.Segments = append(out.Segments, localSegment(rep, s))
			}
		}
	}
	return out, nil
}

func coldSegment(rep *partition.Replica, cold *tiering.Partition, e *tiering.Entry) TierSegment {
	return TierSegment{
		Partition: rep.ID().Partition, First: e.First, Next: e.Last + 1, FirstTime: e.BaseTimestamp, MaxTime: e.MaxTimestamp,
		Bytes: e.RawBytes, Stored: e.StoredBytes, Records: e.Records, Where: "bucket", Key: cold.Key(e), CRC32C: e.CRC,
	}
}

func localSegment(rep *partition.Replica, s commitlog.SegmentInfo) TierSegment {
	row := TierSegment{
		Partition: rep.ID().Partition, First: s.Base, Next: s.Next, FirstTime: s.BaseTime, MaxTime: s.MaxTime,
		Bytes: s.Bytes, Records: s.Next - s.Base, Where: "disk", Active: !s.Sealed,
	}
	if s.Sealed && s.Next <= rep.TieredEnd() {
		row.Where = "both" // uploaded from the tier border on, so its object begins elsewhere
	}
	return row
}

// serveTierExplain says what the next upload of a partition is and what it waits for.
func (b *Broker) serveTierExplain(ask tierAsk) (any, error) {
	rep := ask.parts[0]
	l, err := rep.Log()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ask.r.Context(), bucketPatience)
	defer cancel()
	out := TierExplain{
		Header: header("tier.explain"), Topic: ask.topic.Name, Partition: b.tierPartition(ctx, rep),
		NextFirst: -1, NextNext: -1, RollAt: -1, Blockers: []TierBlocker{},
	}
	if cold := rep.Cold(); cold != nil {
		out.ManifestName, out.ManifestCRC = cold.Pointer().Name, cold.Pointer().CRC
	}
	from := max(rep.TieredEnd(), rep.LogStart())
	for _, s := range l.Segments() {
		if s.Next > from && s.Bytes > 0 {
			out.NextFirst, out.NextNext, out.NextBytes = max(s.Base, from), s.Next, s.Bytes
			break
		}
	}
	if since, ok := l.ActiveSince(); ok {
		out.RollAt = rollAt(since, ask.conf)
	}
	out.Blockers = append(out.Blockers, b.blockers(rep, ask.conf, l)...)
	return out, nil
}

// rollAt is when the active segment is sealed for its age.
func rollAt(since time.Time, conf *partition.TopicConfig) int64 {
	at := int64(-1)
	for _, age := range []time.Duration{conf.Log.SegmentAge, conf.TierMaxDelay} {
		if age <= 0 {
			continue
		}
		if t := since.Add(age).UnixMilli(); at < 0 || t < at {
			at = t
		}
	}
	return at
}

func (b *Broker) blockers(rep *partition.Replica, conf *partition.TopicConfig, l *commitlog.Log) []TierBlocker {
	var out []TierBlocker
	add := func(kind, message string, since time.Time) {
		row := TierBlocker{Kind: kind, Message: message}
		if !since.IsZero() {
			row.Since = since.UnixMilli()
		}
		out = append(out, row)
	}
	switch {
	case b.tier == nil:
		add("disabled", "no object store is configured: start the broker with --store", time.Time{})
	case !conf.Tiered:
		add("disabled", "remote.storage.enable is false", time.Time{})
	case conf.CopyDisabled:
		add("paused", "remote.log.copy.disable is true", time.Time{})
	}
	if len(out) > 0 {
		return out
	}
	if state, detail := b.store.health(); state == "degraded" {
		add("store", detail, time.Time{})
	}
	if s := rep.Status(); s.LastError != "" {
		add("store", s.LastError+"; tried again at "+s.RetryAt.Format(time.RFC3339), s.ErrorAt)
	}
	bounds := rep.Bounds()
	if l.SealedEnd() <= max(rep.TieredEnd(), rep.LogStart()) {
		since, _ := l.ActiveSince()
		add("active_segment", "nothing is sealed: the active segment rolls at segment.bytes, segment.ms or varve.tier.max.delay.ms, or at once with `varve tier flush`", since)
	} else if bounds.LSO < bounds.HW {
		add("open_transaction", "an open transaction holds the last stable offset", time.Time{})
	}
	return out
}
