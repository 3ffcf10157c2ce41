package api

import (
	"context"
	"path/filepath"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// alterReplicaLogDirs moves replicas between data directories. There is one: what is to be in it is
// there, and every other is unknown.
func (a *API) alterReplicaLogDirs(_ context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.AlterReplicaLogDirsRequest)
	resp := req.ResponseKind().(*kmsg.AlterReplicaLogDirsResponse)
	at := map[string]int{} // one row a topic, also if several directories name it
	for _, dir := range req.Dirs {
		own := sameDir(dir.Dir, a.cfg.Broker.LogDir)
		for _, rt := range dir.Topics {
			i, ok := at[rt.Topic]
			if !ok {
				i = len(resp.Topics)
				at[rt.Topic] = i
				out := kmsg.NewAlterReplicaLogDirsResponseTopic()
				out.Topic = rt.Topic
				resp.Topics = append(resp.Topics, out)
			}
			for _, p := range rt.Partitions {
				out := kmsg.NewAlterReplicaLogDirsResponseTopicPartition()
				out.Partition = p
				switch t := a.cfg.Set.ByName(rt.Topic); {
				case !own:
					out.ErrorCode = kerr.LogDirNotFound.Code
				case t == nil || t.Partition(p) == nil:
					out.ErrorCode = kerr.UnknownTopicOrPartition.Code
				}
				resp.Topics[i].Partitions = append(resp.Topics[i].Partitions, out)
			}
		}
	}
	return resp, nil
}

func sameDir(asked, own string) bool {
	if asked == own {
		return true
	}
	full, err := filepath.Abs(own)
	return err == nil && filepath.IsAbs(asked) && filepath.Clean(asked) == full
}
