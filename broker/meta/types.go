package meta

import (
	"iter"
	"slices"
)

// Broker is a registered broker. It is never changed in place.
type Broker struct {
	ID NodeID `json:"id"`
	// Epoch is the raft index of the registration, so every incarnation has a higher one.
	Epoch int64 `json:"epoch"`
	// Incarnation is the random id of the process that registered.
	Incarnation string `json:"incarnation"`
	DirectoryID string `json:"directory_id"`
	// Fenced brokers lead nothing and count in no ISR.
	Fenced bool `json:"fenced"`
	// Host and Port are what clients are told; Internal is the address for other brokers.
	Host     string `json:"host"`
	Port     int32  `json:"port"`
	Rack     string `json:"rack,omitempty"`
	Internal string `json:"internal,omitempty"`
}

// Topic is a topic and its partitions. It is never changed in place; Configs is read only.
type Topic struct {
	Name string
	ID   TopicID
	// Configs holds the keys set on the topic, nothing else; may be nil.
	Configs    map[string]string
	Partitions PartitionList
	// CreatedMS is the proposer's clock at creation; CreatedIndex and ConfigIndex are the raft
	// indexes of the creation and of the last change of Configs.
	CreatedMS    int64
	CreatedIndex uint64
	ConfigIndex  uint64
	// cachedUntil is the raft index up to which the topic was write.caching: 0 never,
	// cachedNow while it is. A broker whose epoch is at or below it wrote without fdatasync in
	// that incarnation and loses its seats after an unclean stop (DESIGN section 6, Election).
	cachedUntil uint64
}

// cachedNow as cachedUntil says that the topic is write.caching at present.
const cachedNow = ^uint64(0)

// Partition is what the cluster agreed on about a partition. It is never changed in place.
//
//	LogStart <= TieredEnd()     ISR, ELR and Replicas: ISR and ELR are disjoint parts of Replicas
//	Leader is NoNode or in ISR  LeaderEpoch and PartitionEpoch never fall
type Partition struct {
	Leader      NodeID `json:"leader"`
	LeaderEpoch int32  `json:"leader_epoch"`
	// PartitionEpoch counts every change of leader, ISR or replicas; alter_partition compares it.
	PartitionEpoch int32    `json:"partition_epoch"`
	Replicas       []NodeID `json:"replicas"`
	ISR            []NodeID `json:"isr"`
	// ELR holds the eligible leader replicas (KIP-966): out of the ISR, but sure to have
	// everything below the high watermark because the ISR has been below min ISR since.
	ELR []NodeID `json:"elr,omitempty"`
	// LastKnownLeader is the newest leader; it is elected when ISR and ELR are empty and it registers.
	LastKnownLeader NodeID `json:"last_known_leader"`
	// LogStart is the first offset that retention still allows. It never falls.
	LogStart int64 `json:"log_start,omitempty"`
	// Tier is the committed manifest; the zero value means that nothing is tiered.
	Tier TierPointer `json:"tier,omitzero"`
}

// TierPointer is the commit point of a partition's cold range (DESIGN section 8.2).
type TierPointer struct {
	// Name is the manifest object's name; empty before the first commit.
	Name string `json:"name,omitempty"`
	CRC  uint32 `json:"crc32c,omitempty"`
	// LogStart and TieredEnd are those of the manifest: it covers [LogStart, TieredEnd).
	LogStart  int64 `json:"log_start,omitempty"`
	TieredEnd int64 `json:"tiered_end,omitempty"`
	LastEpoch int32 `json:"last_epoch,omitempty"`
	Bytes     int64 `json:"bytes,omitempty"`
	// LogIndex is the raft index of the commit; objects dropped by it wait for every broker to pass it.
	LogIndex uint64 `json:"log_index,omitempty"`
}

// TieredEnd is the end, exclusive, of what the cold tier covers; never below LogStart.
func (p *Partition) TieredEnd() int64 { return max(p.Tier.TieredEnd, p.LogStart) }

// HasReplica tells whether the broker holds a copy.
func (p *Partition) HasReplica(id NodeID) bool { return slices.Contains(p.Replicas, id) }

// InISR tells whether the broker is in the committed ISR.
func (p *Partition) InISR(id NodeID) bool { return slices.Contains(p.ISR, id) }

// DeletedTopic is a topic that was deleted and whose id is kept until directories and objects
// are gone: the positive proof without which nobody removes anything.
type DeletedTopic struct {
	Name       string  `json:"name"`
	ID         TopicID `json:"id"`
	Partitions int32   `json:"partitions"`
	// Tiered says that a manifest was committed or the topic was tiered, so a purge has to run.
	Tiered bool `json:"tiered"`
	// Index is the raft index of the deletion, DeletedMS the proposer's clock.
	Index     uint64 `json:"index"`
	DeletedMS int64  `json:"deleted_ms"`
}

// partitionChunk is how many partitions a change copies the pointers of: at 100,000 partitions in
// one topic 256 keeps both levels near 400 words.
const partitionChunk = 256

// PartitionList is the immutable list of a topic's partitions, shared by chunk between images.
type PartitionList struct {
	chunks [][]*Partition // all but the last have partitionChunk entries
	n      int
}

func newPartitionList(parts []*Partition) PartitionList {
	l := PartitionList{n: len(parts)}
	for chunk := range slices.Chunk(parts, partitionChunk) {
		l.chunks = append(l.chunks, slices.Clip(chunk))
	}
	return l
}

// Len is the number of partitions.
func (l PartitionList) Len() int { return l.n }

// At is partition i, or nil if there is none.
func (l PartitionList) At(i int32) *Partition {
	if i < 0 || int(i) >= l.n {
		return nil
	}
	return l.chunks[i/partitionChunk][i%partitionChunk]
}

// All yields number and partition in order.
func (l PartitionList) All() iter.Seq2[int32, *Partition] {
	return func(yield func(int32, *Partition) bool) {
		for c, chunk := range l.chunks {
			for i, p := range chunk {
				if !yield(int32(c*partitionChunk+i), p) {
					return
				}
			}
		}
	}
}

// with is the list in which partition i is p. i must exist.
func (l PartitionList) with(i int32, p *Partition) PartitionList {
	chunks := slices.Clone(l.chunks)
	chunk := slices.Clone(chunks[i/partitionChunk])
	chunk[i%partitionChunk] = p
	chunks[i/partitionChunk] = chunk
	return PartitionList{chunks, l.n}
}

// mapAll is the list with f of each partition; chunks in which f changes nothing stay shared.
func (l PartitionList) mapAll(f func(int32, *Partition) *Partition) (PartitionList, bool) {
	var chunks [][]*Partition
	for c, old := range l.chunks {
		var fresh []*Partition
		for i, p := range old {
			changed := f(int32(c*partitionChunk+i), p)
			if changed == p {
				continue
			}
			if fresh == nil {
				fresh = slices.Clone(old)
			}
			fresh[i] = changed
		}
		if fresh == nil {
			continue
		}
		if chunks == nil {
			chunks = slices.Clone(l.chunks)
		}
		chunks[c] = fresh
	}
	if chunks == nil {
		return l, false
	}
	return PartitionList{chunks, l.n}, true
}

// append is the list with more partitions at its end.
func (l PartitionList) append(parts []*Partition) PartitionList {
	all := make([]*Partition, 0, l.n+len(parts))
	for _, chunk := range l.chunks {
		all = append(all, chunk...)
	}
	return newPartitionList(append(all, parts...))
}
