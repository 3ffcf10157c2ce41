package meta

import (
	"fmt"
	"testing"
)

// BenchmarkCommitTier applies commits to a cluster of 100,000 partitions: as one topic, as a
// hundred, and as a hundred thousand.
func BenchmarkCommitTier(b *testing.B) {
	for _, topics := range []int{1, 100, 100_000} {
		b.Run(fmt.Sprintf("topics=%d", topics), func(b *testing.B) {
			im := newImage()
			im.putBroker(&Broker{ID: 1, Epoch: 1})
			per := 100_000 / topics
			ids := make([]TopicID, topics)
			for i := range topics {
				parts := make([]*Partition, per)
				for j := range parts {
					parts[j] = &Partition{Leader: 1, Replicas: []NodeID{1}, ISR: []NodeID{1}}
				}
				ids[i] = TopicID{byte(i * 31), byte(i >> 8), byte(i), byte(i >> 16), 1}
				im.addTopic(&Topic{Name: fmt.Sprintf("topic-%06d", i), ID: ids[i], Partitions: newPartitionList(parts)})
			}
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; b.Loop(); n++ {
				id, p := ids[n*7919%topics], int32(n*104729%per)
				t := &tx{img: *im, index: uint64(n), broker: 1, epoch: 1}
				c := &CommitTier{
					TopicID: id, Partition: p, BrokerEpoch: 1, Prev: im.Partition(id, p).Tier.Name,
					Name: fmt.Sprintf("m%d", n), TieredEnd: int64(n),
				}
				if _, err := t.run(c); err != nil {
					b.Fatal(err)
				}
				next := t.img
				im = &next
			}
		})
	}
}

func BenchmarkRegisterBroker(b *testing.B) {
	w := newWorld(b)
	w.boot(1, testDirA, true)
	for i := range 10 {
		w.topic(1, fmt.Sprintf("t%d", i), byte(i+1), 10_000, nil, 1)
	}
	for n := 0; b.Loop(); n++ {
		w.boots = n % 100
		w.boot(1, testDirA, true)
	}
}

func BenchmarkTopicByID(b *testing.B) {
	im := newImage()
	ids := make([]TopicID, 10_000)
	for i := range ids {
		ids[i] = TopicID{byte(i * 31), byte(i >> 8), byte(i), 1}
		im.addTopic(&Topic{Name: fmt.Sprint(i), ID: ids[i]})
	}
	for n := 0; b.Loop(); n++ {
		if im.TopicByID(ids[n%len(ids)]) == nil {
			b.Fatal("lost")
		}
	}
}
