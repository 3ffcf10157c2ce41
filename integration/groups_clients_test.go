package integration

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	confluent "github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kversion"

	"varve/integration/harness"
)

// versionsBefore caps one key of a franz-go client below a version.
func versionsBefore(key, version int16) *kversion.Versions {
	v := kversion.Stable()
	v.SetMaxKeyVersion(key, version-1)
	return v
}

var saramaGroup = groupClient{"sarama", func(t testing.TB, b *harness.Broker, group, topic string, got func(int32, int64)) func() {
	c := saramaConfig()
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Group.Session.Timeout = 10 * time.Second
	c.Consumer.Group.Heartbeat.Interval = time.Second
	c.Consumer.Return.Errors = false
	g, err := sarama.NewConsumerGroup([]string{b.Addr}, group, c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := g.Consume(ctx, []string{topic}, saramaHandler(got)); errors.Is(err, sarama.ErrClosedConsumerGroup) {
				return
			}
		}
	}()
	leave := sync.OnceFunc(func() {
		stop()
		<-done
		if err := g.Close(); err != nil {
			t.Errorf("leave: %v", err)
		}
	})
	t.Cleanup(leave)
	return leave
}}

type saramaHandler func(int32, int64)

func (saramaHandler) Setup(sarama.ConsumerGroupSession) error { return nil }

func (saramaHandler) Cleanup(s sarama.ConsumerGroupSession) error {
	s.Commit()
	return nil
}

func (h saramaHandler) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case m, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			h(m.Partition, m.Offset)
			s.MarkMessage(m, "")
		case <-s.Context().Done():
			return nil
		}
	}
}

var kafkaGoGroup = groupClient{"kafka-go", func(t testing.TB, b *harness.Broker, group, topic string, got func(int32, int64)) func() {
	r := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{b.Addr}, GroupID: group, Topic: topic, StartOffset: kafka.FirstOffset, MaxWait: 200 * time.Millisecond,
		SessionTimeout: 10 * time.Second, HeartbeatInterval: time.Second, JoinGroupBackoff: time.Second,
	})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			m, err := r.FetchMessage(ctx)
			if errors.Is(err, io.EOF) || ctx.Err() != nil {
				return
			}
			if err == nil {
				got(int32(m.Partition), m.Offset)
				_ = r.CommitMessages(ctx, m) // a rebalance under way: it is read and committed again
			}
		}
	}()
	leave := sync.OnceFunc(func() {
		stop()
		<-done
		if err := r.Close(); err != nil {
			t.Errorf("leave: %v", err)
		}
	})
	t.Cleanup(leave)
	return leave
}}

var confluentGroup = groupClient{"confluent-kafka-go", func(t testing.TB, b *harness.Broker, group, topic string, got func(int32, int64)) func() {
	c, err := confluent.NewConsumer(&confluent.ConfigMap{
		"bootstrap.servers": b.Addr, "group.id": group, "auto.offset.reset": "earliest", "session.timeout.ms": 10000,
		"heartbeat.interval.ms": 1000, "partition.assignment.strategy": "cooperative-sticky", "enable.auto.commit": false,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Subscribe(topic, nil); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			m, err := c.ReadMessage(100 * time.Millisecond)
			if err == nil {
				got(m.TopicPartition.Partition, int64(m.TopicPartition.Offset))
				_, _ = c.CommitMessage(m) // a rebalance under way: it is read and committed again
			}
		}
	}()
	leave := sync.OnceFunc(func() {
		stop()
		<-done
		if err := c.Close(); err != nil {
			t.Errorf("leave: %v", err)
		}
	})
	t.Cleanup(leave)
	return leave
}}
