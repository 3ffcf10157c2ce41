package broker

import (
	"sync/atomic"

	"varve/broker/admin"
)

// readiness remembers what a start has reached.
type readiness struct{ done atomic.Bool }

func (r *readiness) setRecovered()   { r.done.Store(true) }
func (r *readiness) recovered() bool { return r.done.Load() }

// readyReport says whether clients can be served: logs recovered, registered and unfenced, a
// controller known. The object store may be down; that is degraded and still ready.
func (b *Broker) readyReport() admin.ReadyReport {
	var report admin.ReadyReport
	report.Add("storage", !b.failed(), "no storage error so far", "a storage error ended this broker")
	report.Add("logs", b.ready.recovered(), "recovered", "being recovered")
	if !b.ready.recovered() { // until then Open is still writing the fields that are read below
		report.Add("registration", false, "", "the broker is starting")
		return report
	}
	self := b.node.Image().Broker(b.cfg.NodeID)
	report.Add("registration", self != nil && !self.Fenced && b.node.BrokerEpoch() > 0, "registered", "fenced")
	report.Add("controller", b.node.ControllerID() > 0, "known", "no metadata controller")
	state, detail := b.store.health()
	report.AddDegraded("object store", state != "degraded", detail)
	return report
}
