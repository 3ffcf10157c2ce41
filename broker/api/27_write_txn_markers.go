package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/coord"
	"varve/broker/txn"
)

// writeTxnMarkers is what a coordinator on another broker sends, and an administrator who ends a
// hanging transaction (KIP-664).
func (a *API) writeTxnMarkers(ctx context.Context, c *call) (kmsg.Response, error) {
	req := c.msg.(*kmsg.WriteTxnMarkersRequest)
	resp := req.ResponseKind().(*kmsg.WriteTxnMarkersResponse)
	var markers []txn.Marker
	for _, m := range req.Markers {
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				markers = append(markers, txn.Marker{
					Marker: coord.Marker{
						ProducerID: m.ProducerID, ProducerEpoch: m.ProducerEpoch, CoordinatorEpoch: m.CoordinatorEpoch, Commit: m.Committed,
					},
					Partition: txn.Partition{Topic: t.Topic, Partition: p}, Bumped: m.TransactionVersion >= int8(txn.V2),
				})
			}
		}
	}
	codes := a.writeMarkers(ctx, markers)
	i := 0
	for _, m := range req.Markers {
		om := kmsg.NewWriteTxnMarkersResponseMarker()
		om.ProducerID = m.ProducerID
		for _, t := range m.Topics {
			ot := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
			ot.Topic = t.Topic
			for _, p := range t.Partitions {
				op := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
				op.Partition, op.ErrorCode = p, codes[i]
				ot.Partitions = append(ot.Partitions, op)
				i++
			}
			om.Topics = append(om.Topics, ot)
		}
		resp.Markers = append(resp.Markers, om)
	}
	return resp, nil
}

// writeMarkers writes markers and waits for them: one code each.
func (a *API) writeMarkers(ctx context.Context, markers []txn.Marker) []int16 {
	codes := make([]int16, len(markers))
	type answer struct {
		i   int
		err error
	}
	answers := make(chan answer, len(markers))
	for i, m := range markers {
		switch {
		case a.cfg.Markers == nil || m.ProducerID < 0 || m.ProducerEpoch < 0:
			answers <- answer{i, kerr.InvalidRequest}
		default:
			a.cfg.Markers.Write(markers[i:i+1], func(_ int, err error) { answers <- answer{i, err} })
		}
		codes[i] = kerr.RequestTimedOut.Code
	}
	for range markers {
		select {
		case r := <-answers:
			codes[r.i] = 0
			if r.err != nil {
				codes[r.i] = errorCode(r.err).Code
			}
		case <-ctx.Done():
			return codes
		}
	}
	return codes
}
