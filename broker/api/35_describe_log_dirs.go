package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/partition"
)

// describeLogDirs shows the data directory and, from leaders only so that replicas do not count it
// several times, what lies in the object store as a directory of its own.
func (a *API) describeLogDirs(_ context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.DescribeLogDirsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeLogDirsResponse)
	local := kmsg.NewDescribeLogDirsResponseDir()
	local.Dir = a.cfg.Broker.LogDir
	var err error
	if local.TotalBytes, local.UsableBytes, err = a.cfg.Broker.Usage(); err != nil {
		local.ErrorCode = kerr.KafkaStorageError.Code
		a.cfg.Log.Warn("size of the data directory not known", "err", err)
	}
	remote := kmsg.NewDescribeLogDirsResponseDir()
	remote.Dir, remote.TotalBytes, remote.UsableBytes = a.cfg.Broker.RemoteDir, -1, -1
	for name, parts := range a.askedLogDirs(req) {
		lt, rt := kmsg.NewDescribeLogDirsResponseDirTopic(), kmsg.NewDescribeLogDirsResponseDirTopic()
		lt.Topic, rt.Topic = name, name
		for _, rep := range parts {
			lp := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
			lp.Partition, lp.Size = rep.ID().Partition, rep.LocalBytes()
			lt.Partitions = append(lt.Partitions, lp)
			if bytes := rep.TieredBytes(); bytes > 0 && rep.IsLeader() {
				rp := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
				rp.Partition, rp.Size = rep.ID().Partition, bytes
				rt.Partitions = append(rt.Partitions, rp)
			}
		}
		local.Topics = append(local.Topics, lt)
		if len(rt.Partitions) > 0 {
			remote.Topics = append(remote.Topics, rt)
		}
	}
	resp.Dirs = append(resp.Dirs, local)
	if a.cfg.Broker.RemoteDir != "" {
		resp.Dirs = append(resp.Dirs, remote)
	}
	return resp, nil
}

// askedLogDirs resolves the request; null means every topic, unknown names are left out as in Kafka.
func (a *API) askedLogDirs(req *kmsg.DescribeLogDirsRequest) map[string][]*partition.Replica {
	out := map[string][]*partition.Replica{}
	if req.Topics == nil {
		for _, t := range a.cfg.Set.Topics() {
			out[t.Name] = t.Partitions()
		}
		return out
	}
	for _, rt := range req.Topics {
		t := a.cfg.Set.ByName(rt.Topic)
		if t == nil {
			continue
		}
		for _, i := range rt.Partitions {
			if rep := t.Partition(i); rep != nil {
				out[rt.Topic] = append(out[rt.Topic], rep)
			}
		}
	}
	return out
}
