package meta

// PartitionKey names a partition.
type PartitionKey struct {
	TopicID   TopicID
	Partition int32
}

// Delta lists what differs between two successive images, so that a reader need not compare them.
// An entry may appear twice; what it became stands in the new image.
type Delta struct {
	// Index is the raft index of the new image.
	Index uint64
	// Reset says that everything may differ: the first call of a watcher, or a snapshot was restored.
	Reset bool

	TopicsCreated []TopicID
	// TopicsDeleted are in DeletedTopics of the new image until they are in DeletesFinished.
	TopicsDeleted   []TopicID
	DeletesFinished []TopicID
	// TopicsChanged had their configs or number of partitions changed.
	TopicsChanged []TopicID
	// Partitions had leader, epoch, replicas, ISR, LogStart or tier changed. Those of created
	// topics are not listed.
	Partitions []PartitionKey
	// Brokers were registered, fenced or unfenced, or had their configs changed.
	Brokers []NodeID
	// ClusterConfigs says that the configs for all brokers changed.
	ClusterConfigs bool
	// Quotas says that client quotas changed.
	Quotas bool
}

// Empty tells whether nothing changed.
func (d *Delta) Empty() bool {
	return !d.Reset && !d.ClusterConfigs && !d.Quotas && len(d.TopicsCreated)+len(d.TopicsDeleted)+len(d.DeletesFinished)+
		len(d.TopicsChanged)+len(d.Partitions)+len(d.Brokers) == 0
}

func (d *Delta) partition(id TopicID, p int32) {
	d.Partitions = append(d.Partitions, PartitionKey{id, p})
}

// mark and reset undo what a refused command listed.
func (d *Delta) mark() Delta { return *d }

func (d *Delta) reset(mark Delta) { *d = mark }
