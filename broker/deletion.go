package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"varve/broker/meta"
	"varve/broker/partition"
)

// deletion is the task that removes what deleted topics left: directories first, then objects. It
// starts only from raft's list of deleted topics, which is the positive proof, and goes on after a
// restart, because the id stays in that list until everything is gone (design 8.5).
type deletion struct {
	mu     sync.Mutex
	queue  []deletedTopic // bounded by raft's list of deleted topics
	signal chan struct{}
}

type deletedTopic struct {
	topic    *meta.DeletedTopic
	replicas []*partition.Replica
	local    bool      // nothing of it is left on this broker's disk
	after    time.Time // not before; zero: at once
}

func (d *deletion) init() { d.signal = make(chan struct{}, 1) }

func (d *deletion) add(t *meta.DeletedTopic, gone []*partition.Replica) {
	item := deletedTopic{topic: t}
	for _, r := range gone {
		if r.ID().TopicID == t.ID {
			item.replicas = append(item.replicas, r)
		}
	}
	d.mu.Lock()
	d.queue = append(d.queue, item)
	d.mu.Unlock()
	select {
	case d.signal <- struct{}{}:
	default:
	}
}

func (d *deletion) back(item deletedTopic) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue = append(d.queue, item)
}

func (d *deletion) take() []deletedTopic {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.queue
	d.queue = nil
	return out
}

// storelessRetry is how often a broker without a store says that it cannot delete a topic's objects.
const storelessRetry = time.Hour

// deletionRetry is how soon a deletion that failed (a bucket that is away) is tried again.
const deletionRetry = 10 * time.Second

func (b *Broker) deletionLoop(ctx context.Context) {
	retry := time.NewTicker(deletionRetry)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.deletion.signal:
		case <-retry.C:
		}
		items := b.deletion.take()
		for i := range items { // disks first: a bucket that is away must not keep them full
			b.deleteLocal(&items[i])
		}
		for _, item := range items {
			if time.Now().Before(item.after) {
				b.deletion.back(item)
				continue
			}
			err := b.deleteTopic(ctx, item)
			var later *notYet
			switch {
			case err == nil:
				b.log.Info("topic deleted, nothing of it is left", "topic", item.topic.Name, "id", item.topic.ID.String())
				continue
			case errors.As(err, &later):
				item.after = later.again
			case ctx.Err() == nil:
				b.log.Warn("deletion of a topic is not finished, will be tried again", "topic", item.topic.Name, "err", err)
			}
			b.deletion.back(item)
		}
	}
}

// deleteLocal removes the logs and states of a deleted topic; what fails is tried again.
func (b *Broker) deleteLocal(item *deletedTopic) {
	if item.local {
		return
	}
	if err := b.removeLocal(item); err != nil {
		b.log.Warn("deletion of a topic is not finished, will be tried again", "topic", item.topic.Name, "err", err)
		return
	}
	item.local = true
}

func (b *Broker) removeLocal(item *deletedTopic) error {
	t := item.topic
	for _, r := range item.replicas {
		if err := r.Stop(true); err != nil {
			return fmt.Errorf("remove %s: %w", r.ID(), err)
		}
	}
	dir := filepath.Join(b.topicsDir(), t.ID.String())
	if err := b.fs.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	for i := range t.Partitions {
		id := partition.ID{Topic: t.Name, TopicID: t.ID, Partition: i}
		if err := b.states.Delete(id); err != nil {
			return fmt.Errorf("forget %s: %w", id, err)
		}
	}
	return nil
}

// deleteTopic finishes a deletion: the objects, then the id in raft's list.
func (b *Broker) deleteTopic(ctx context.Context, item deletedTopic) error {
	t := item.topic
	switch {
	case !item.local:
		return &notYet{time.Now().Add(deletionRetry)}
	case t.Tiered && b.tier == nil: // its objects are in a store that this start was not told of
		b.log.Warn("objects of a deleted topic wait for a start with --store", "topic", t.Name, "id", t.ID.String())
		return &notYet{time.Now().Add(storelessRetry)}
	case t.Tiered:
		purge, err := b.tier.PurgeTopic(ctx, "", t.Name, t.ID.String(), nil)
		if err != nil {
			return err
		}
		if !purge.Done {
			return &notYet{purge.Again}
		}
	}
	_, err := b.node.ProposeOne(ctx, &meta.FinishDeleteTopic{TopicID: t.ID})
	if errors.Is(err, meta.ErrUnknownTopic) {
		return nil
	}
	return err
}

// notYet says that a deletion goes on later; of a purge, that the bucket must be listed once more: a
// PUT that was under way at the deletion may land late.
type notYet struct{ again time.Time }

func (e *notYet) Error() string { return "the deletion goes on at " + e.again.String() }

// moveStray moves directories of topic ids that raft does not list, neither as topics nor as
// deleted, out of the way. They are reported and never removed: absence of metadata is no proof.
func (b *Broker) moveStray(im *meta.Image) error {
	entries, err := b.fs.ReadDir(b.topicsDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	for _, e := range entries {
		id, err := meta.ParseTopicID(e.Name())
		if err == nil && (im.TopicByID(id) != nil || im.DeletedTopic(id) != nil) {
			continue
		}
		stray := filepath.Join(b.cfg.DataDir, "stray")
		if err := b.fs.MkdirAll(stray); err != nil {
			return fmt.Errorf("make %s: %w", stray, err)
		}
		from := filepath.Join(b.topicsDir(), e.Name())
		to := filepath.Join(stray, fmt.Sprintf("%s.%d", e.Name(), time.Now().UnixMilli()))
		if err := b.fs.Rename(from, to); err != nil {
			return fmt.Errorf("move stray directory: %w", err)
		}
		b.log.Warn("a directory of an unknown topic was moved aside; delete it once you are sure that nobody needs it",
			"from", from, "to", to)
	}
	return nil
}

func (b *Broker) topicsDir() string { return filepath.Join(b.cfg.DataDir, "topics") }
