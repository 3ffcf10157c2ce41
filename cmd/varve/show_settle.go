package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"varve/broker"
)

// settleStall is how long uploads may stand still before the show gives up.
const settleStall = 60 * time.Second

// requestCount is what the broker asked the store for, as far as the report shows it.
type requestCount struct{ put, get int64 }

func (s *show) node() adminNode { return adminNode{url: "http://" + s.child.admin} }

func (s *show) tierTopic(ctx context.Context) (broker.TierTopic, error) {
	var t broker.TierTopic
	err := s.node().call(ctx, http.MethodGet, topicPath(showTopic), &t)
	return t, err
}

func (s *show) requests(ctx context.Context) (requestCount, error) {
	var status broker.TierStatus
	err := s.node().call(ctx, http.MethodGet, tierPath+"status", &status)
	return requestCount{status.Requests.Put, status.Requests.Get}, err
}

// settle waits until every sealed segment is in the bucket and those over the local limit are off
// the disk.
func (s *show) settle(ctx context.Context) error {
	began := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	bar := newProgress(s.a.stdout, "settle", s.poured.bytes, false)
	defer bar.clear()
	least, moved := int64(-1), time.Now()
	for {
		topic, err := s.tierTopic(ctx)
		if err != nil {
			return fmt.Errorf("settle: %w", err)
		}
		sum := sumPartitions(topic)
		left := sum.Pending.UploadBytes + sum.Pending.DropBytes
		if sum.Pending.UploadSegments == 0 && sum.Pending.DropSegments == 0 && sum.Objects > 0 {
			bar.finish("%s in %s objects, %s of it no longer on disk, after %.1f s", humanBytes(sum.Bytes.Both+sum.Bytes.ColdOnly),
				humanCount(sum.Objects), humanBytes(sum.Bytes.ColdOnly), time.Since(began).Seconds())
			return nil
		}
		if least < 0 || left < least {
			least, moved = left, time.Now()
		}
		if time.Since(moved) > settleStall {
			return fmt.Errorf("settle: %s wait to be uploaded and %s to leave the disk, and nothing has moved for %s; varve tier explain %s/0 says why",
				humanBytes(sum.Pending.UploadBytes), humanBytes(sum.Pending.DropBytes), settleStall, showTopic)
		}
		bar.set(max(0, s.poured.bytes-left))
		select {
		case <-tick.C:
		case <-s.child.run.done:
			return s.child.run.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sumPartitions adds up the bytes, objects and pending work of all partitions.
func sumPartitions(t broker.TierTopic) broker.TierPartition {
	var sum broker.TierPartition
	for _, p := range t.Partitions {
		sum.Objects += p.Objects
		sum.Bytes.HotOnly += p.Bytes.HotOnly
		sum.Bytes.Both += p.Bytes.Both
		sum.Bytes.ColdOnly += p.Bytes.ColdOnly
		sum.Bytes.Stored += p.Bytes.Stored
		sum.Pending.UploadSegments += p.Pending.UploadSegments
		sum.Pending.UploadBytes += p.Pending.UploadBytes
		sum.Pending.DropSegments += p.Pending.DropSegments
		sum.Pending.DropBytes += p.Pending.DropBytes
	}
	return sum
}

// kill ends the broker without warning and starts it again.
func (s *show) kill(ctx context.Context) error {
	var err error
	if s.killed, err = s.requests(ctx); err != nil {
		return fmt.Errorf("count requests: %w", err)
	}
	if err := s.child.kill(); err != nil {
		return err
	}
	began := time.Now()
	if err := s.child.start(ctx); err != nil {
		return err
	}
	s.printf("%s and started again: it answers after %.2f s", actName("kill -9"), time.Since(began).Seconds())
	return nil
}
