package harness

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TryFetch is Fetch for a broker that may end the connection, and for other goroutines than the
// test's.
func TryFetch(r *Raw, topic string, partition int32, offset int64) (kmsg.FetchResponseTopicPartition, error) {
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = partition, offset, 4<<20
	ft := kmsg.NewFetchRequestTopic()
	ft.Topic, ft.Partitions = topic, append(ft.Partitions, part)
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = 500, 1, 50<<20, -1
	req.Topics = append(req.Topics, ft)
	resp, err := r.TryDo(12, req)
	if err != nil {
		return kmsg.FetchResponseTopicPartition{}, err
	}
	fetch := resp.(*kmsg.FetchResponse)
	if fetch.ErrorCode != 0 || len(fetch.Topics) != 1 || len(fetch.Topics[0].Partitions) != 1 {
		return kmsg.FetchResponseTopicPartition{}, fmt.Errorf("fetch: error code %d, %d topics", fetch.ErrorCode, len(fetch.Topics))
	}
	return fetch.Topics[0].Partitions[0], nil
}

// TryProduce is ProduceBatch for a broker that may end the connection.
func TryProduce(r *Raw, topic string, partition int32, batch []byte) (kmsg.ProduceResponseTopicPartition, error) {
	part := kmsg.NewProduceRequestTopicPartition()
	part.Partition, part.Records = partition, batch
	pt := kmsg.NewProduceRequestTopic()
	pt.Topic, pt.Partitions = topic, append(pt.Partitions, part)
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, int32(Soon.Milliseconds())
	req.Topics = append(req.Topics, pt)
	resp, err := r.TryDo(9, req)
	if err != nil {
		return kmsg.ProduceResponseTopicPartition{}, err
	}
	return resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0], nil
}
