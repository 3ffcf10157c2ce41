package broker

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"varve/broker/admin"
	"varve/broker/meta"
	"varve/broker/partition"
	"varve/tiering/object"
)

// adminRoutes is the tier part of the HTTP API; adminapi.go says what each answers.
func (b *Broker) adminRoutes() []admin.Route {
	return []admin.Route{
		{Method: http.MethodGet, Path: "tier/status", Serve: b.serveTierStatus},
		{Method: http.MethodGet, Path: "tier/topics/{topic}", Serve: b.onTopic(b.serveTierTopic)},
		{Method: http.MethodGet, Path: "tier/topics/{topic}/segments", Serve: b.onTopic(b.serveTierSegments)},
		{Method: http.MethodPost, Path: "tier/topics/{topic}/flush", Serve: b.onTopic(b.serveTierFlush)},
		{Method: http.MethodGet, Path: "tier/topics/{topic}/partitions/{partition}/explain", Serve: b.onTopic(b.serveTierExplain)},
		{Method: http.MethodGet, Path: "tier/topics/{topic}/partitions/{partition}/manifest", Serve: b.onTopic(b.serveTierManifest)},
	}
}

func header(kind string) Header { return Header{Kind: kind, Version: TierAPIVersion} }

// tierAsk is a request about one topic, resolved.
type tierAsk struct {
	r     *http.Request
	topic *meta.Topic
	conf  *partition.TopicConfig
	parts []*partition.Replica // those asked for that this broker leads
}

// onTopic resolves {topic}, {partition} or ?partition=, and refuses what is not there or led elsewhere.
func (b *Broker) onTopic(serve func(tierAsk) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		if !b.ready.recovered() {
			return nil, admin.Errorf(http.StatusServiceUnavailable, "not_ready", "the broker is starting")
		}
		name := r.PathValue("topic")
		t := b.node.Image().Topic(name)
		held := b.set.ByName(name)
		if t == nil || held == nil {
			return nil, admin.Errorf(http.StatusNotFound, "unknown_topic", "topic %q does not exist", name)
		}
		ask := tierAsk{r: r, topic: t, conf: b.topics.of(t)}
		text := r.PathValue("partition")
		if text == "" {
			text = r.URL.Query().Get("partition")
		}
		if text == "" {
			for _, rep := range held.Partitions() {
				if rep.IsLeader() {
					ask.parts = append(ask.parts, rep)
				}
			}
			return serve(ask)
		}
		index, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return nil, admin.Errorf(http.StatusBadRequest, "bad_request", "partition %.40q is not a number", text)
		}
		if t.Partitions.At(int32(index)) == nil {
			return nil, admin.Errorf(http.StatusNotFound, "unknown_partition", "topic %q has no partition %q", name, text)
		}
		rep := held.Partition(int32(index))
		if rep == nil || !rep.IsLeader() {
			e := admin.Errorf(http.StatusConflict, "not_leader", "another broker leads %s/%d", name, index)
			e.Extra = map[string]any{"leader_node": t.Partitions.At(int32(index)).Leader}
			return nil, e
		}
		ask.parts = []*partition.Replica{rep}
		return serve(ask)
	}
}

// storeFailed is the answer when the bucket did not.
func storeFailed(err error) error {
	return admin.Errorf(http.StatusServiceUnavailable, "store_unavailable", "%v", err)
}

func (b *Broker) serveTierStatus(r *http.Request) (any, error) {
	if !b.ready.recovered() {
		return nil, admin.Errorf(http.StatusServiceUnavailable, "not_ready", "the broker is starting")
	}
	s := TierStatus{Header: header("tier.status"), NodeID: b.cfg.NodeID, Store: b.store.name(), LastErrorAt: -1}
	s.Pending.OldestLocalOnly = -1
	state, detail := b.store.health()
	if s.StoreState = state; state == "degraded" {
		s.StoreError = detail
	}
	ctx, cancel := context.WithTimeout(r.Context(), bucketPatience)
	defer cancel()
	b.set.Each(func(rep *partition.Replica) {
		conf := rep.Config()
		if conf == nil || !conf.Tiered || !rep.IsLeader() {
			return
		}
		p := b.tierPartition(ctx, rep)
		s.Partitions++
		s.Bytes.add(p.Bytes)
		s.Objects += p.Objects
		s.Pending.add(p.Pending)
		if w := rep.Status(); w.LastError != "" && w.ErrorAt.UnixMilli() > s.LastErrorAt {
			s.LastError, s.LastErrorAt = w.LastError, w.ErrorAt.UnixMilli()
		}
	})
	if b.tier == nil {
		return s, nil
	}
	stats := b.tier.Stats()
	s.Cache = TierCache{Bytes: stats.DiskBytes, Limit: b.cfg.TierCacheBytes, Hits: stats.MemoryHits + stats.DiskHits, Misses: stats.Misses}
	s.Errors = map[string]int64{"upload": stats.UploadErrors, "read": stats.GetErrors, "missing": stats.Missing, "corrupt": stats.Corrupt}
	s.Requests = b.tierRequests()
	return s, nil
}

func (b *Broker) tierRequests() TierRequests {
	var out TierRequests
	for _, row := range b.store.meter.Snapshot() {
		switch row.Op {
		case object.OpPut, object.OpCreateMultipart, object.OpPutPart, object.OpCompleteMultipart: // priced alike
			out.Put += row.Requests
		case object.OpGet:
			out.Get += row.Requests
		case object.OpHead:
			out.Head += row.Requests
		case object.OpList, object.OpListMultipart:
			out.List += row.Requests
		case object.OpDelete, object.OpAbortMultipart:
			out.Delete += row.Requests
		case object.OpBucket, object.OpCredentials: // at start only
		}
		if row.Outcome != object.OutcomeOK {
			out.Failed += row.Requests
		}
		out.BytesWritten += row.BytesSent
		out.BytesRead += row.BytesReceived
	}
	return out
}

func (t *TierBytes) add(o TierBytes) {
	t.HotOnly += o.HotOnly
	t.Both += o.Both
	t.ColdOnly += o.ColdOnly
	t.Stored += o.Stored
}

func (p *TierPending) add(o TierPending) {
	p.UploadSegments += o.UploadSegments
	p.UploadBytes += o.UploadBytes
	p.DropSegments += o.DropSegments
	p.DropBytes += o.DropBytes
	if o.OldestLocalOnly >= 0 && (p.OldestLocalOnly < 0 || o.OldestLocalOnly < p.OldestLocalOnly) {
		p.OldestLocalOnly = o.OldestLocalOnly
	}
}

func (b *Broker) serveTierTopic(ask tierAsk) (any, error) {
	out := TierTopic{
		Header: header("tier.topic"), Topic: ask.topic.Name, TopicID: ask.topic.ID.String(), Tiered: ask.conf.Tiered,
		LocalMS: millisOf(ask.conf.LocalAge), LocalBytes: ask.conf.LocalBytes,
		RetentionMS: millisOf(ask.conf.RetentionAge), RetentionMax: ask.conf.RetentionBytes,
		Partitions: []TierPartition{},
	}
	ctx, cancel := context.WithTimeout(ask.r.Context(), bucketPatience)
	defer cancel()
	for _, rep := range ask.parts {
		if _, err := rep.Log(); err != nil {
			return nil, err
		}
		out.Partitions = append(out.Partitions, b.tierPartition(ctx, rep))
	}
	return out, nil
}

func millisOf(d time.Duration) int64 {
	if d < 0 {
		return -1
	}
	return d.Milliseconds()
}

// bucketPatience is how long all partitions of an answer together wait for a bucket that does not
// answer: what is asked for in an outage is what the broker knows by itself.
const bucketPatience = 2 * time.Second

// tierPartition describes one partition from memory and its manifest. When the bucket does not
// answer, what it alone knows is left out and the error told.
func (b *Broker) tierPartition(ctx context.Context, rep *partition.Replica) TierPartition {
	u, bounds, status := rep.Usage(), rep.Bounds(), rep.Status()
	p := TierPartition{
		Partition: rep.ID().Partition, Leader: b.cfg.NodeID, LeaderEpoch: rep.LeaderEpoch(),
		LogStart: TierPoint{bounds.LogStart, -1}, LocalStart: TierPoint{bounds.LogStart, -1},
		TieredEnd:  TierPoint{max(rep.TieredEnd(), bounds.LogStart), -1},
		LastStable: bounds.LSO, HighWatermark: TierPoint{bounds.HW, -1}, LogEnd: bounds.HW,
		Bytes:         TierBytes{HotOnly: u.HotOnly, Both: u.Both, ColdOnly: u.ColdOnly},
		LocalSegments: u.Segments, LastCommitAt: -1, State: "idle", Error: status.LastError,
		Pending: TierPending{UploadSegments: int64(u.UploadLag), UploadBytes: u.UploadLagBytes, OldestLocalOnly: u.OldestLocalOnly},
	}
	if !status.UploadAt.IsZero() {
		p.LastCommitAt = status.UploadAt.UnixMilli()
	}
	if l, err := rep.Log(); err == nil {
		p.LocalStart.Offset, p.LogEnd = max(bounds.LogStart, l.LocalStart()), l.LEO()
	}
	if segments := rep.Segments(); len(segments) > 0 {
		p.LocalStart.Time = segments[0].BaseTime
		p.LogStart.Time = segments[0].BaseTime
		p.HighWatermark.Time = segments[len(segments)-1].MaxTime
	}
	p.Pending.DropSegments, p.Pending.DropBytes = rep.PendingDrop()
	if cold := rep.Cold(); cold != nil && rep.TieredEnd() > 0 {
		d, err := cold.Describe(ctx)
		if err != nil {
			p.Error = err.Error()
		} else if d.Objects > 0 {
			p.Objects, p.Bytes.Stored = d.Objects, d.StoredBytes
			p.LogStart.Time, p.TieredEnd.Time = d.Oldest.UnixMilli(), d.Newest.UnixMilli()
		}
	}
	p.State = tierState(rep, status, p)
	return p
}

func tierState(rep *partition.Replica, status partition.WorkStatus, p TierPartition) string {
	conf := rep.Config()
	switch {
	case !conf.Tiered:
		return "not_tiered"
	case conf.CopyDisabled:
		return "paused"
	case status.Doing == "upload":
		return "uploading"
	case status.LastError != "":
		return "blocked"
	case p.Pending.UploadSegments > 0:
		return "waiting"
	}
	return "idle"
}

func (b *Broker) serveTierManifest(ask tierAsk) (any, error) {
	rep := ask.parts[0]
	cold := rep.Cold()
	if cold == nil || cold.Pointer().Name == "" {
		return nil, admin.Errorf(http.StatusConflict, "not_tiered", "%s has no manifest: nothing of it was uploaded yet", rep.ID())
	}
	m, err := cold.Manifest(ask.r.Context())
	if err != nil {
		return nil, storeFailed(err)
	}
	ptr := cold.Pointer()
	return TierManifest{
		Header: header("tier.manifest"), Topic: ask.topic.Name, Partition: rep.ID().Partition,
		Name: ptr.Name, CRC32C: ptr.CRC, Manifest: m,
	}, nil
}

const (
	flushWait    = 30 * time.Second
	maxFlushWait = 10 * time.Minute
	flushLook    = 20 * time.Millisecond
)

// serveTierFlush rolls every asked partition and waits until what was below LSO is in the bucket.
func (b *Broker) serveTierFlush(ask tierAsk) (any, error) {
	if !ask.conf.Tiered {
		return nil, admin.Errorf(http.StatusConflict, "not_tiered", "topic %q is not tiered: set remote.storage.enable=true", ask.topic.Name)
	}
	wait := flushWait
	if text := ask.r.URL.Query().Get("wait_ms"); text != "" {
		ms, err := strconv.ParseInt(text, 10, 32)
		if err != nil || ms < 0 {
			return nil, admin.Errorf(http.StatusBadRequest, "bad_request", "wait_ms=%q is no number of milliseconds", text)
		}
		wait = min(time.Duration(ms)*time.Millisecond, maxFlushWait)
	}
	out := TierFlush{Header: header("tier.flush"), Topic: ask.topic.Name, Partitions: []TierFlushItem{}}
	for _, rep := range ask.parts {
		if _, err := rep.Log(); err != nil {
			return nil, err
		}
		target := rep.Bounds().LSO
		if err := rep.Flush(); err != nil {
			return nil, err
		}
		out.Partitions = append(out.Partitions, TierFlushItem{Partition: rep.ID().Partition, Target: target})
	}
	ctx, cancel := context.WithTimeout(ask.r.Context(), wait)
	defer cancel()
	for i, rep := range ask.parts {
		b.awaitTiered(ctx, rep, &out.Partitions[i])
	}
	return out, nil
}

func (b *Broker) awaitTiered(ctx context.Context, rep *partition.Replica, item *TierFlushItem) {
	look := time.NewTicker(flushLook)
	defer look.Stop()
	for {
		item.TieredEnd = rep.TieredEnd()
		if item.Done = max(item.TieredEnd, rep.LogStart()) >= item.Target; item.Done {
			return
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			item.Reason = rep.Blocked()
			if s := rep.Status(); s.LastError != "" {
				item.Reason = s.LastError
			}
			if errors.Is(ctx.Err(), context.DeadlineExceeded) && item.Reason == "" {
				item.Reason = "not finished in time, the upload goes on"
			}
			return
		}
	}
}
