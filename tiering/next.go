package tiering

import (
	"maps"
	"slices"
)

// step is one change of a manifest: what the next one differs in. All of it are
// values, so that the transition is a pure function.
type step struct {
	id          PartitionID
	prevName    string // empty for the first manifest
	leaderEpoch int32
	nonce       string
	nowMS       int64
	config      map[string]string // nil keeps the last
	logStart    int64             // raised to at least the last one
	add         *Entry            // appended, or nil
	dropped     []Entry           // every entry with prev.LogStart <= Last < logStart
	collected   map[string]bool   // keys that are physically gone
	spill       *PageRef          // page that takes over the oldest entries, or nil
}

// next builds the manifest that replaces m, which is nil for the first one.
func (m *Manifest) next(s step) *Manifest {
	if m == nil {
		m = &Manifest{LogStart: s.logStart, TieredEnd: s.logStart}
	}
	n := &Manifest{
		Version: formatVersion, Prev: s.prevName,
		Cluster: s.id.Cluster, Topic: s.id.Topic, TopicID: s.id.TopicIDText, Partition: s.id.Partition,
		LeaderEpoch: s.leaderEpoch, Seq: m.Seq + 1, CreatedMS: s.nowMS,
		Config: m.Config, LogStart: max(m.LogStart, s.logStart), TieredEnd: m.TieredEnd,
		Count: m.Count, RawBytes: m.RawBytes, StoredBytes: m.StoredBytes, Records: m.Records,
		Epochs: slices.Clone(m.Epochs), Entries: slices.Clone(m.Entries), Pages: slices.Clone(m.Pages),
	}
	n.Name = manifestName(n.LeaderEpoch, n.Seq, s.nonce)
	if s.config != nil {
		n.Config = maps.Clone(s.config)
	}
	n.Deleted = carryDeleted(m.Deleted, s)
	if e := s.add; e != nil {
		n.Entries = append(n.Entries, *e)
		n.Epochs = appendEpochs(n.Epochs, e.Epochs)
		n.Count++
		n.RawBytes += e.RawBytes
		n.StoredBytes += e.StoredBytes
		n.Records += e.Records
		n.TieredEnd = e.Last + 1
	}
	n.TieredEnd = max(n.TieredEnd, n.LogStart)
	n.drop(s.dropped)
	if s.spill != nil {
		n.Entries = slices.Clone(n.Entries[s.spill.Count:])
		n.Pages = append(n.Pages, *s.spill)
	}
	n.Epochs = epochsFrom(n.Epochs, n.LogStart)
	if len(n.Entries) == 0 && len(n.Pages) == 0 {
		n.Epochs = nil
	}
	return n
}

// carryDeleted keeps what still waits, and dates what the last manifest dropped:
// that manifest is committed now, or it would not be the last.
func carryDeleted(deleted []Deleted, s step) []Deleted {
	out := make([]Deleted, 0, len(deleted)+len(s.dropped))
	for _, d := range deleted {
		if s.collected[d.Key] {
			continue
		}
		if d.SinceMS == 0 {
			d.SinceMS = s.nowMS
		}
		out = append(out, d)
	}
	return out
}

// drop moves entries that lie below LogStart to the deletion list, and with them
// the pages that have no live entry left. A page that has some stays as it is:
// LogStart hides the others.
func (m *Manifest) drop(dropped []Entry) {
	for i := range dropped {
		e := &dropped[i]
		m.Count--
		m.RawBytes -= e.RawBytes
		m.StoredBytes -= e.StoredBytes
		m.Records -= e.Records
		if !isForeign(e.Key) {
			m.Deleted = append(m.Deleted, Deleted{Key: e.Key, Last: e.Last, StoredBytes: e.StoredBytes})
		}
	}
	for len(m.Pages) > 0 && m.Pages[0].Last < m.LogStart {
		p := m.Pages[0]
		if !isForeign(p.Key) {
			m.Deleted = append(m.Deleted, Deleted{Key: p.Key, Last: p.Last, StoredBytes: p.Size})
		}
		m.Pages = m.Pages[1:]
	}
	for len(m.Entries) > 0 && m.Entries[0].Last < m.LogStart {
		m.Entries = m.Entries[1:]
	}
}
