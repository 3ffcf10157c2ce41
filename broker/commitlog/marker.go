package commitlog

import "varve/broker/record"

// marker is what the producer rules need of the control batch that ends a transaction.
type marker struct {
	Commit           bool
	CoordinatorEpoch int32
}

// markerLimit bounds what is decoded of a control batch: one record with a 4-byte key and a
// 6-byte value, and room for versions to come.
const markerLimit = 4096

// parseMarker reads the first record of a control batch; ok is false for control records that end
// no transaction.
func parseMarker(b record.Batch) (m marker, ok bool) {
	if len(b) < record.HeaderLen {
		return marker{}, false
	}
	for rec, err := range b.Records(markerLimit) {
		if err != nil {
			return marker{}, false
		}
		t, err := record.ParseControl(rec)
		if err != nil || (t != record.ControlAbort && t != record.ControlCommit) {
			return marker{}, false
		}
		epoch, err := record.ParseEndTxnMarker(rec)
		if err != nil {
			return marker{}, false
		}
		return marker{Commit: t == record.ControlCommit, CoordinatorEpoch: epoch}, true
	}
	return marker{}, false
}
