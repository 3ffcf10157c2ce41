package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/partition"
)

// describeProducers tells what partitions know of their producers (KIP-664).
func (a *API) describeProducers(_ context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.DescribeProducersRequest)
	resp := req.ResponseKind().(*kmsg.DescribeProducersResponse)
	for _, t := range req.Topics {
		ot := kmsg.NewDescribeProducersResponseTopic()
		ot.Topic = t.Topic
		topic := a.cfg.Set.ByName(t.Topic)
		for _, p := range t.Partitions {
			op := kmsg.NewDescribeProducersResponseTopicPartition()
			op.Partition, op.ActiveProducers = p, []kmsg.DescribeProducersResponseTopicPartitionActiveProducer{}
			states, err := producerStates(topic, p)
			if err != nil {
				op.ErrorCode, op.ErrorMessage = codeAndMessage(err)
			}
			for _, s := range states {
				ap := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
				ap.ProducerID, ap.ProducerEpoch, ap.LastSequence = s.ID, int32(s.Epoch), s.LastSequence
				ap.LastTimestamp, ap.CoordinatorEpoch, ap.CurrentTxnStartOffset = s.LastTimestamp, s.CoordinatorEpoch, s.TxnFirst
				op.ActiveProducers = append(op.ActiveProducers, ap)
			}
			ot.Partitions = append(ot.Partitions, op)
		}
		resp.Topics = append(resp.Topics, ot)
	}
	return resp, nil
}

func producerStates(t *partition.Topic, p int32) ([]partition.ProducerState, error) {
	if t == nil || t.Partition(p) == nil {
		return nil, kerr.UnknownTopicOrPartition
	}
	rep := t.Partition(p)
	if !rep.IsLeader() {
		return nil, partition.ErrNotLeader
	}
	return rep.ProducerStates()
}
