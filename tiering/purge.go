package tiering

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"varve/tiering/object"
)

// TopicDescriptor is topic.json beside a topic's partitions: with the manifests
// it is enough to restore the topic with the cluster gone.
type TopicDescriptor struct {
	Version    int               `json:"version"`
	Cluster    string            `json:"cluster"`
	Topic      string            `json:"topic"`
	TopicID    string            `json:"topicId"`
	Partitions int32             `json:"partitions"`
	Config     map[string]string `json:"config,omitempty"`
	UpdatedMS  int64             `json:"updatedMs"`
}

const topicFile = "topic.json"

// WriteTopicDescriptor writes topic.json, the one object that is overwritten: it
// describes the topic as it is now, and manifests hold what it was.
func (t *Tier) WriteTopicDescriptor(ctx context.Context, d TopicDescriptor) error {
	d.Version, d.UpdatedMS = formatVersion, t.cfg.Now().UnixMilli()
	if d.Cluster == "" {
		d.Cluster = t.cfg.Cluster
	}
	b, _, err := encodeJSON(d)
	if err != nil {
		return err
	}
	ctx = object.WithPurpose(object.WithTopic(ctx, d.Topic), object.PurposeManifest)
	key := topicDir(d.Cluster, d.Topic, d.TopicID) + "/" + topicFile
	rctx, cancel := t.request(ctx, int64(len(b)))
	defer cancel()
	if _, err := t.store.Put(rctx, key, object.Bytes(b), object.PutOptions{ContentType: "application/json"}); err != nil {
		return storeError(ctx, "put", key, err)
	}
	return nil
}

// Tombstone says that a topic was deleted. It lies outside the topic's directory,
// stays for ever, and holds how far the purge came, so that any broker can go on.
type Tombstone struct {
	Version   int    `json:"version"`
	Cluster   string `json:"cluster"`
	Topic     string `json:"topic"`
	TopicID   string `json:"topicId"`
	DeletedMS int64  `json:"deletedMs"`
	// EmptyMS is when the last pass that found anything ended, 0 before the first. A
	// PUT that was under way may land later, so the list is asked again after
	// purgeAgain, and only an empty one then is the end.
	EmptyMS int64 `json:"emptyMs,omitempty"`
	DoneMS  int64 `json:"doneMs,omitempty"`
}

const purgeAgain = 24 * time.Hour

// Purge is the state of a topic's purge after one PurgeTopic.
type Purge struct {
	Deleted int   // objects deleted by this call
	Bytes   int64 // of them
	Done    bool
	// Again is when to call next if it is not done; zero: at once.
	Again time.Time
}

func tombstoneKey(cluster, topicID string) string {
	return cluster + "/deleted/" + topicID + jsonSuffix
}

// PurgeTopic deletes every object of a topic that raft lists as deleted. The
// tombstone comes first. It is resumable at every point and harmless to repeat;
// it is done when a list is empty a day after the last deletion. Keys match by topic id.
// retained reports keys that must stay for now (a snapshot or a restored topic
// needs them); nil: none.
func (t *Tier) PurgeTopic(ctx context.Context, cluster, topic, topicID string, retained func(key string) bool) (Purge, error) {
	if cluster == "" {
		cluster = t.cfg.Cluster
	}
	p, err := t.purgeTopic(object.WithPurpose(object.WithTopic(ctx, topic), object.PurposeGC), cluster, topic, topicID, retained)
	if err != nil {
		return p, fmt.Errorf("purge topic %s (%s): %w", topic, topicID, err)
	}
	return p, nil
}

func (t *Tier) purgeTopic(ctx context.Context, cluster, topic, topicID string, retained func(string) bool) (Purge, error) {
	var done Purge
	if len(topicID) == 0 || strings.ContainsAny(topicID, "./") {
		return done, fmt.Errorf("%q is no topic id", topicID)
	}
	now := t.cfg.Now()
	stone, err := t.tombstone(ctx, cluster, topicID)
	switch {
	case err != nil:
		return done, err
	case stone == nil:
		stone = &Tombstone{Cluster: cluster, Topic: topic, TopicID: topicID, DeletedMS: now.UnixMilli()}
		if err := t.putTombstone(ctx, stone); err != nil {
			return done, err
		}
		t.cfg.OnStep("purge.tombstone-put")
	case stone.DoneMS != 0:
		return Purge{Done: true}, nil
	}
	kept, err := t.purgeKeys(ctx, topicDir(cluster, topic, topicID)+"/", topicID, retained, &done)
	if err != nil {
		return done, err
	}
	switch again := time.UnixMilli(stone.EmptyMS).Add(purgeAgain); {
	case done.Deleted > 0 || kept > 0 || stone.EmptyMS == 0:
		stone.EmptyMS = now.UnixMilli()
		done.Again = now.Add(purgeAgain)
		return done, t.putTombstone(ctx, stone)
	case now.Before(again):
		done.Again = again
		return done, nil
	}
	stone.DoneMS, done.Done = now.UnixMilli(), true
	if err := t.putTombstone(ctx, stone); err != nil {
		return done, err
	}
	t.cfg.OnStep("purge.done")
	return done, nil
}

// purgeKeys deletes what a list gives. topic.json goes last in each pass, since
// it sorts after the partitions' numbers; nothing depends on that.
func (t *Tier) purgeKeys(ctx context.Context, prefix, topicID string, retained func(string) bool, done *Purge) (kept int, err error) {
	var found []object.Info
	if err := object.ListAll(ctx, t.store, prefix, func(info object.Info) error {
		found = append(found, info)
		return nil
	}); err != nil {
		return 0, storeError(ctx, "list", prefix, err)
	}
	for _, info := range found {
		if TopicIDOf(info.Key) != topicID || retained != nil && retained(info.Key) {
			kept++
			continue
		}
		rctx, cancel := t.request(ctx, 0)
		err := t.store.Delete(rctx, info.Key)
		cancel()
		if err != nil {
			return kept, storeError(ctx, "delete", info.Key, err)
		}
		t.disk.forget(info.Key)
		t.stats.collected.Add(1)
		done.Deleted++
		done.Bytes += info.Size
		t.cfg.OnStep("purge.delete")
	}
	return kept, nil
}

// tombstone reads a topic's tombstone; nil if there is none.
func (t *Tier) tombstone(ctx context.Context, cluster, topicID string) (*Tombstone, error) {
	key := tombstoneKey(cluster, topicID)
	b, err := t.readSmall(ctx, key)
	if errors.Is(err, object.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := &Tombstone{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, corruptf(key, 0, "%v", err)
	}
	if s.Version != formatVersion || s.TopicID != topicID {
		return nil, corruptf(key, 0, "is version %d for topic id %q", s.Version, s.TopicID)
	}
	return s, nil
}

func (t *Tier) putTombstone(ctx context.Context, s *Tombstone) error {
	s.Version = formatVersion
	b, _, err := encodeJSON(s)
	if err != nil {
		return err
	}
	key := tombstoneKey(s.Cluster, s.TopicID)
	rctx, cancel := t.request(ctx, int64(len(b)))
	defer cancel()
	if _, err := t.store.Put(rctx, key, object.Bytes(b), object.PutOptions{ContentType: "application/json"}); err != nil {
		return storeError(ctx, "put", key, err)
	}
	return nil
}

// UnfinishedPurges lists the tombstones of a cluster whose purge is not done: what
// a new controller goes on with.
func (t *Tier) UnfinishedPurges(ctx context.Context, cluster string) ([]Tombstone, error) {
	if cluster == "" {
		cluster = t.cfg.Cluster
	}
	ctx = object.WithPurpose(ctx, object.PurposeGC)
	prefix := cluster + "/deleted/"
	var out []Tombstone
	err := object.ListAll(ctx, t.store, prefix, func(info object.Info) error {
		id, ok := strings.CutSuffix(strings.TrimPrefix(info.Key, prefix), jsonSuffix)
		if !ok {
			return nil
		}
		s, err := t.tombstone(ctx, cluster, id)
		if err == nil && s != nil && s.DoneMS == 0 {
			out = append(out, *s)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list unfinished purges: %w", err)
	}
	return out, nil
}
