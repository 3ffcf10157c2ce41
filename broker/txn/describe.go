package txn

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

// Description is what DescribeTransactions tells.
type Description struct {
	Producer
	State     State
	TimeoutMS int32
	StartMS   int64 // -1 outside a transaction
	Parts     []Partition
}

func (t *txn) describe() Description {
	return Description{
		Producer: Producer{t.id, t.producerID, t.epoch}, State: t.state, TimeoutMS: t.timeoutMS, StartMS: t.startMS, Parts: t.parts,
	}
}

// Filter selects what ListTransactions lists; empty lists and zero values select everything.
type Filter struct {
	States      []State
	ProducerIDs []int64
	Running     time.Duration  // open for longer than this (KIP-994); negative: all
	Pattern     *regexp.Regexp // the whole transactional id (KIP-1152)
}

func (f *Filter) takes(t *txn, now time.Time) bool {
	switch {
	case len(f.States) > 0 && !slices.Contains(f.States, t.state):
		return false
	case len(f.ProducerIDs) > 0 && !slices.Contains(f.ProducerIDs, t.producerID):
		return false
	case f.Running >= 0 && (t.startMS < 0 || now.Sub(time.UnixMilli(t.startMS)) <= f.Running):
		return false
	}
	return f.Pattern == nil || f.Pattern.MatchString(t.id)
}

// list is the transactions that f takes, by id.
func (m *Machine) list(f Filter, now time.Time) []Description {
	var out []Description
	for _, t := range m.txns {
		if f.takes(t, now) {
			d := t.describe()
			d.Parts = nil
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b Description) int { return strings.Compare(a.TxnID, b.TxnID) })
	return out
}
