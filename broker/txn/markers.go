package txn

import (
	"time"

	"varve/broker/coord"
)

// whenDecided sends the markers of t once its decision is committed.
func (m *Machine) whenDecided(t *txn) func(error) {
	return func(err error) {
		if err != nil || m.txns[t.id] != t || !t.preparing() {
			return
		}
		t.sent = true
		m.sendMarkers(t)
	}
}

// sendMarkers gives away the markers that are not under way. With none left, the next tick completes
// the transaction.
func (m *Machine) sendMarkers(t *txn) {
	t.retryAt = time.Time{}
	if len(t.left) == 0 {
		t.retryAt = time.UnixMilli(t.updateMS)
		m.schedule(t)
		return
	}
	var out []Marker
	for _, p := range t.parts {
		if underWay, left := t.left[p]; !left || underWay {
			continue
		}
		t.left[p] = true
		out = append(out, Marker{
			Marker:    coord.Marker{ProducerID: t.producerID, ProducerEpoch: t.epoch, CoordinatorEpoch: m.epoch, Commit: t.commits()},
			Partition: p, Bumped: t.version >= V2,
		})
	}
	m.schedule(t)
	if len(out) > 0 {
		m.send(m, t.id, out)
	}
}

// complete is the record that ends a transaction; whoever waited for it goes on after it.
func (m *Machine) complete(t *txn, nowMS int64) coord.Record {
	next := t.completed(nowMS)
	m.release(t)
	return next.record(t.id)
}

// markersDone takes what became of markers: of those that are not committed, some are tried again.
func (m *Machine) markersDone(id string, markers []Marker, errs []error, now time.Time) coord.Step {
	t := m.txns[id]
	if t == nil || !t.preparing() || t.producerID != markers[0].ProducerID || t.epoch != markers[0].ProducerEpoch {
		return coord.Step{}
	}
	for i, mk := range markers {
		if errs[i] == nil {
			delete(t.left, mk.Partition)
			continue
		}
		t.left[mk.Partition] = false
		t.retryAt = now.Add(retryMarkers)
	}
	if len(t.left) == 0 {
		return coord.Step{Records: []coord.Record{m.complete(t, now.UnixMilli())}}
	}
	m.schedule(t)
	return coord.Step{}
}
