package commitlog

import "time"

// Config is what a topic's configuration decides for its logs. It may change at any time.
type Config struct {
	SegmentBytes   int64         // roll when an append would exceed it. 0: 128 MiB
	SegmentAge     time.Duration // roll a segment whose first append is older. 0: never
	IndexInterval  int           // bytes between index entries. 0: DefaultIndexInterval
	RecycleWindow  time.Duration // a recycled file is taken if the last segment filled within it. 0: never
	RecycleOwn     bool          // reuse this partition's own old files without zeroing them
	WriteCaching   bool          // acks do not wait for the disk: flush lazily
	FlushEvery     time.Duration // of a WriteCaching log. 0: 1 s
	ProducerExpiry time.Duration // forget idle producers. 0: 24 h
	MaxProducers   int           // remembered at most. 0: 100,000
	Internal       bool          // may use the disk reserve
}

func (c Config) withDefaults() Config {
	if c.SegmentBytes <= 0 {
		c.SegmentBytes = 128 << 20
	}
	c.SegmentBytes = min(c.SegmentBytes, maxSegmentBytes)
	if c.IndexInterval <= 0 {
		c.IndexInterval = DefaultIndexInterval
	}
	if c.FlushEvery <= 0 {
		c.FlushEvery = defaultFlushEvery
	}
	if c.ProducerExpiry <= 0 {
		c.ProducerExpiry = 24 * time.Hour
	}
	if c.MaxProducers <= 0 {
		c.MaxProducers = 100_000
	}
	return c
}

// Options say how to open one log.
type Options struct {
	Dir        string // <data>/topics/<topicID>/<partition>
	Config     Config
	Checkpoint *Checkpoint // the last one taken, nil for none: a hint, believed only where the log proves it
	Clean      bool        // the clean-stop marker is valid: Checkpoint describes the log exactly
	// OnDurable is called by a flush worker after Durable rose, one call at a time for a log, with
	// no lock held. durable is at most LEO; after a truncation it may lie above the new Durable,
	// which Log.Durable always tells. It must not block for long. May be nil.
	OnDurable func(durable int64)
	LogStart  int64 // from raft: epochs below it are forgotten
	TieredEnd int64 // from raft: nothing is ever appended below it
	// Border is asked, at most once, where a log may begin whose segments below TieredEnd are damaged, if
	// its own index files cannot tell the state there. nil: nobody knows. Its error is that of Open.
	Border func() (Border, error)
}

// Border is a place where a log may begin: the epoch history below it, and the producer state as of it
// (a snapshot, may be empty).
type Border struct {
	Offset    int64
	Epochs    []EpochStart
	Producers []byte
}
