package broker

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fillRequest makes a request of every served key ask for something that is there.
func fillRequest(t *testing.T, req kmsg.Request, id [16]byte, brokerEpoch int32) {
	t.Helper()
	const topic = "t"
	if fillAdminRequest(req, topic) {
		return
	}
	switch r := req.(type) {
	case *kmsg.ProduceRequest:
		*r = *produceOf(r.Version, -1, topic, id, map[int32][]byte{0: batchOf(t, 2, 10)})
	case *kmsg.FetchRequest:
		full := fetchOf(r.Version, 0, -1, topic, 0, 0)
		full.Topics[0].TopicID = id
		*r = *full
	case *kmsg.ListOffsetsRequest:
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic = topic
		for _, ts := range []int64{-1, -2, 0, 1 << 60} {
			rp := kmsg.NewListOffsetsRequestTopicPartition()
			rp.Timestamp = ts
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Topics = append(r.Topics, rt)
	case *kmsg.MetadataRequest:
		for _, name := range []string{topic, "missing"} {
			rt := kmsg.NewMetadataRequestTopic()
			rt.Topic = kmsg.StringPtr(name)
			r.Topics = append(r.Topics, rt)
		}
		r.IncludeTopicAuthorizedOperations, r.IncludeClusterAuthorizedOperations = true, true
	case *kmsg.FindCoordinatorRequest:
		r.CoordinatorKey, r.CoordinatorKeys = "g", []string{"g"}
	case *kmsg.ApiVersionsRequest:
		r.ClientSoftwareName, r.ClientSoftwareVersion = "test", "1"
		r.NodeID = -1
	case *kmsg.CreateTopicsRequest:
		made := createOf("made", 1, nil)
		made.Version, made.ValidateOnly = r.Version, true
		made.Topics = append(made.Topics, createOf(topic, 1, nil).Topics...)
		*r = *made
	case *kmsg.DeleteTopicsRequest:
		r.TopicNames = []string{"missing"}
		rt := kmsg.NewDeleteTopicsRequestTopic()
		rt.TopicID = [16]byte{9}
		r.Topics = append(r.Topics, rt)
	case *kmsg.DeleteRecordsRequest:
		rt := kmsg.NewDeleteRecordsRequestTopic()
		rt.Topic = topic
		rt.Partitions = append(rt.Partitions, kmsg.DeleteRecordsRequestTopicPartition{Partition: 1, Offset: 0})
		r.Topics, r.TimeoutMillis = append(r.Topics, rt), 1000
	case *kmsg.OffsetForLeaderEpochRequest:
		rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
		rt.Topic = topic
		rp := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		rp.LeaderEpoch = brokerEpoch
		rt.Partitions = append(rt.Partitions, rp)
		r.Topics = append(r.Topics, rt)
	case *kmsg.DescribeConfigsRequest:
		for kind, name := range map[kmsg.ConfigResourceType]string{kmsg.ConfigResourceTypeTopic: topic, kmsg.ConfigResourceTypeBroker: "1"} {
			rr := kmsg.NewDescribeConfigsRequestResource()
			rr.ResourceType, rr.ResourceName = kind, name
			r.Resources = append(r.Resources, rr)
		}
		r.IncludeSynonyms, r.IncludeDocumentation = true, true
	case *kmsg.AlterConfigsRequest:
		rr := kmsg.NewAlterConfigsRequestResource()
		rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeTopic, topic
		r.Resources, r.ValidateOnly = append(r.Resources, rr), true
	case *kmsg.IncrementalAlterConfigsRequest:
		rr := kmsg.NewIncrementalAlterConfigsRequestResource()
		rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeTopic, topic
		rr.Configs = append(rr.Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: "retention.ms", Value: kmsg.StringPtr("7")})
		r.Resources, r.ValidateOnly = append(r.Resources, rr), true
	case *kmsg.CreatePartitionsRequest:
		rt := kmsg.NewCreatePartitionsRequestTopic()
		rt.Topic, rt.Count = topic, 5
		r.Topics, r.ValidateOnly = append(r.Topics, rt), true
	case *kmsg.DescribeClusterRequest:
		r.EndpointType, r.IncludeClusterAuthorizedOperations = 1, true
	}
}

func TestEveryServedVersionIsAnsweredInTheBytesThatKmsgWrites(t *testing.T) {
	b := protoBroker(t, func(c *Config) { c.AutoCreateTopics = false })
	c := dialProto(t, b)
	id := c.makeTopic("t", 2, nil)
	probe := kmsg.NewPtrApiVersionsRequest()
	probe.Version, probe.ClientSoftwareName, probe.ClientSoftwareVersion = 3, "test", "1"
	keys := ask[*kmsg.ApiVersionsResponse](c, probe).ApiKeys
	if len(keys) < 18 {
		t.Fatalf("%d keys", len(keys))
	}
	for _, k := range keys {
		first := k.MinVersion
		if k.ApiKey == 0 {
			if first != 0 {
				t.Errorf("Produce starts at %d, old librdkafka wants to see 0", first)
			}
			first = 3
		}
		for v := first; v <= k.MaxVersion; v++ {
			req := kmsg.RequestForKey(k.ApiKey)
			if d, ok := req.(interface{ Default() }); ok {
				d.Default()
			}
			req.SetVersion(v)
			fillRequest(t, req, id, replicaOf(t, b, "t", 0).LeaderEpoch())
			c.send(req)
			body := c.receive(req)
			resp := req.ResponseKind()
			resp.SetVersion(v)
			if err := resp.ReadFrom(body); err != nil {
				t.Errorf("%s v%d: %v", kmsg.NameForKey(k.ApiKey), v, err)
				continue
			}
			if again := resp.AppendTo(nil); !bytes.Equal(again, body) {
				t.Errorf("%s v%d: read and written again it is\n%x, was\n%x", kmsg.NameForKey(k.ApiKey), v, again, body)
			}
			checkAnswer(t, v, resp)
		}
	}
}

// checkAnswer looks for what clients insist on.
func checkAnswer(t *testing.T, v int16, resp kmsg.Response) {
	t.Helper()
	switch r := resp.(type) {
	case *kmsg.ProduceResponse:
		if p := r.Topics[0].Partitions[0]; p.ErrorCode != 0 || p.BaseOffset < 0 {
			t.Errorf("Produce v%d: %+v", v, p)
		}
	case *kmsg.FetchResponse:
		for i, p := range fetched(r) {
			if p.ErrorCode != 0 || p.RecordBatches == nil {
				t.Errorf("Fetch v%d: partition %d code %d, records null %v", v, i, p.ErrorCode, p.RecordBatches == nil)
			}
		}
	case *kmsg.MetadataResponse:
		if len(r.Brokers) != 1 || r.Brokers[0].NodeID < 1 || len(r.Topics) != 2 || r.Topics[0].ErrorCode != 0 ||
			r.Topics[1].ErrorCode != kerr.UnknownTopicOrPartition.Code {
			t.Errorf("Metadata v%d: %+v", v, r)
		}
	case *kmsg.ListOffsetsResponse:
		p := r.Topics[0].Partitions
		if p[0].ErrorCode != 0 || p[0].Offset <= 0 || p[1].Offset != 0 || p[2].Offset != 0 || p[3].Offset != -1 {
			t.Errorf("ListOffsets v%d: %+v", v, p)
		}
	case *kmsg.CreateTopicsResponse:
		if r.Topics[0].ErrorCode != 0 || r.Topics[1].ErrorCode != kerr.TopicAlreadyExists.Code || v >= 5 && r.Topics[1].Configs == nil {
			t.Errorf("CreateTopics v%d: %+v", v, r.Topics)
		}
	case *kmsg.DescribeTopicPartitionsResponse:
		for _, topic := range r.Topics {
			for _, p := range topic.Partitions {
				if p.EligibleLeaderReplicas == nil || p.LastKnownELR == nil {
					t.Errorf("DescribeTopicPartitions: null lists in %+v", p)
				}
			}
		}
	}
}

func TestAnUnknownApiVersionsVersionIsAnsweredInVersion0(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	req := kmsg.NewPtrApiVersionsRequest()
	req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = 99, "test", "1"
	c.send(req)
	body := c.receive(req)
	resp := kmsg.NewPtrApiVersionsResponse()
	if err := resp.ReadFrom(body); err != nil || resp.ErrorCode != kerr.UnsupportedVersion.Code || len(resp.ApiKeys) == 0 {
		t.Fatalf("%v %+v", err, resp)
	}
}

func TestAllTopicsAreAskedForByNullOrInVersion0ByNothing(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	c.makeTopic("a", 1, nil)
	c.makeTopic("b", 1, nil)
	for v, want := range map[int16][2]int{0: {2, 2}, 1: {2, 0}, 9: {2, 0}, 13: {2, 0}} {
		for i, topics := range [][]kmsg.MetadataRequestTopic{nil, {}} {
			req := kmsg.NewPtrMetadataRequest()
			req.Version, req.Topics = v, topics
			if got := len(ask[*kmsg.MetadataResponse](c, req).Topics); got != want[i] {
				t.Errorf("v%d, null %v: %d topics, want %d", v, i == 0, got, want[i])
			}
		}
	}
}
