package integration

import (
	"context"
	"fmt"
	"testing"

	"github.com/IBM/sarama"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/integration/harness"
)

// sendOffset commits offset as that of partition 0 of topic in the group, in the producer's
// transaction. Sarama sends the next offset itself.
func (p *confluentTxn) sendOffset(topic, group string, offset int64) error {
	meta, err := kafka.NewTestConsumerGroupMetadata(group)
	if err != nil {
		return err
	}
	return p.p.SendOffsetsToTransaction(p.ctx, []kafka.TopicPartition{{Topic: &topic, Offset: kafka.Offset(offset)}}, meta)
}

func (p *saramaTxn) sendOffset(topic, group string, offset int64) error {
	return p.p.AddOffsetsToTxn(map[string][]*sarama.PartitionOffsetMetadata{topic: {{Offset: offset}}}, group)
}

// TestOffsetsFollowTheirTransaction has clients that add the offsets' partition to the transaction
// themselves commit a group's offset in it: it counts after the commit, and not after an abort. The
// group has no member, and its coordinator was never asked for.
func TestOffsetsFollowTheirTransaction(t *testing.T) {
	b := harness.Start(t, harness.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), harness.Late)
	defer cancel()
	for _, c := range txnClients[1:] {
		topic, group := "offsets-"+c.name, "group-"+c.name
		b.CreateTopic(t, topic, 1, nil)
		p := mustTxn(t, ctx, b, c.producer, "offsets-"+c.name)
		defer p.close()
		for i, commit := range []bool{true, false} {
			must(t, p.begin())
			must(t, p.send(topic, 0, "v"))
			if err := p.(interface {
				sendOffset(string, string, int64) error
			}).sendOffset(topic, group, int64(10+i)); err != nil {
				t.Fatalf("%s sends offset %d: %v", c.name, 10+i, err)
			}
			if err := p.end(commit); err != nil {
				t.Fatalf("%s ends the transaction, commit %v: %v", c.name, commit, err)
			}
		}
		harness.Eventually(t, harness.Soon, "the committed offset of "+c.name, func() error {
			req := kmsg.NewPtrOffsetFetchRequest()
			req.Group, req.RequireStable = group, true
			req.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: topic, Partitions: []int32{0}}}
			g := kmsg.NewOffsetFetchRequestGroup()
			g.Group = group
			g.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: topic, Partitions: []int32{0}}}
			req.Groups = append(req.Groups, g)
			resp, err := req.RequestWith(ctx, b.Client(t))
			if err != nil {
				return err
			}
			got := resp.Groups[0].Topics[0].Partitions[0]
			if got.ErrorCode != 0 || got.Offset != 10 {
				return fmt.Errorf("code %d, offset %d", got.ErrorCode, got.Offset)
			}
			return nil
		})
	}
}
