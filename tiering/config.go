package tiering

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"varve/tiering/object"
)

// Splitter reads the head of the batch at the start of b: its total size and its
// first and last offset (inclusive). It fails if b holds less than the whole batch.
type Splitter func(b []byte) (size int, first, last int64, err error)

// TimestampSearch finds, in one whole batch, the first record whose timestamp is
// at least ts and whose offset is at least from.
type TimestampSearch func(batch []byte, ts, from int64) (offset, timestamp int64, ok bool, err error)

// Config is what a Tier is made from. Zero values mean the defaults named here.
type Config struct {
	Store   object.Store
	Cluster string // first element of every key, unless a PartitionID names another

	CacheDir    string // disk cache; empty: none
	CacheBytes  int64  // its limit; 0 with a CacheDir: 10 GiB
	MemoryBytes int64  // buffers of reads and the memory cache together; 128 MiB
	SpoolDir    string // upload files; needed to upload

	UploadSlots int // uploads at once; 2. Each takes about 5 MiB of memory and one spool file
	ReadSlots   int // GETs of chunks at once; 16

	// StorageClass of objects, as the store names it; empty: the bucket's default. Manifests, pages
	// and topic.json, which are small and read first, always have the default.
	StorageClass string

	UploadBytesPerSecond int64 // 0: no limit
	ReadBytesPerSecond   int64 // 0: no limit

	// DiskSpare is how many bytes of the cache's disk are free beyond the reserve that the log needs,
	// negative if it is short of them. The disk cache lives on what is spare and gives space back
	// when it is not, whoever took it. It is asked once a second. Nil: without limit.
	DiskSpare func() int64

	// HotRequests counts the requests that cold reads should not be in the way of; while it
	// grows, large GETs take turns. Nil: never.
	HotRequests func() int64

	// ReaderGrace is how long a dropped object stays for readers that found it
	// before it was dropped; 10 min.
	ReaderGrace time.Duration
	// ManifestHistory is how long a superseded manifest stays; 24 h.
	ManifestHistory time.Duration

	Split      Splitter        // needed to read
	Timestamps TimestampSearch // needed by OffsetForTimestamp

	Now    func() time.Time
	Log    *slog.Logger
	OnStep func(step string) // called after each step that a crash could follow; tests

	// For tests; a user has no reason to change the formats' sizes.
	ChunkBytes  int // 1 MiB
	PageEntries int // 1024
	// MaxDeleted bounds the keys of one partition that wait for their deletion; 16384.
	MaxDeleted int
}

const (
	defaultChunkBytes = 1 << 20
	minMemoryBytes    = 8 << 20 // one GET of the largest size and what it unpacks to

	// minRun and maxRun bound one ranged GET of read-ahead. Below 1 MiB the cost of
	// a request shows; above 4 MiB the first byte waits for nothing.
	minRun = 1 << 20
	maxRun = 4 << 20
	// maxWindow is four GETs of the largest size in flight.
	maxWindow = 4 * maxRun

	maxStreams     = 8   // sequential readers remembered a partition
	maxTierStreams = 512 // and in all
	streamIdle     = 30 * time.Second
	viewIdle       = 10 * time.Minute
	readerActive   = 3 * time.Second
	sweepEvery     = time.Second
	maxWritten     = 4 // manifests written here and perhaps committed, a partition
	maxWarming     = 8 // reads whose callers left, a partition; more are dropped
	failedKeep     = time.Minute
	maxDiskQueue   = 32 // cache writes waiting; more are shed

	spaceEvery = time.Second // a log that writes 200 MB/s does not use maxHeadroom up in that time
	// maxHeadroom is what the disk cache leaves free beyond the reserve, or an eighth of its own limit
	// if that is less: without it, log and cache would meet at the reserve, and appends be refused
	// until the cache has noticed.
	maxHeadroom = 256 << 20
	// maxGiveBack extents are removed at a time, so that a queued write waits some milliseconds for
	// it; of 1 MiB each they are 1 GiB a second.
	maxGiveBack = 1024

	uploadTries       = 3
	uploadBackoff     = 200 * time.Millisecond
	maxClockDrift     = 5 * time.Minute
	brakeWindow       = time.Hour
	brakeForget       = 3 * time.Hour
	minKeptManifests  = 2
	firstManifestRead = 128 << 10
	// defaultMaxDeleted keys of some 120 bytes are 2 MiB in a manifest that every upload writes again.
	// Half would hold up somebody who deletes a terabyte of small objects, twice makes uploads slow
	// for as long as the store refuses deletions.
	defaultMaxDeleted = 16 << 10
	// verifyBytes is one GET of reading an upload back; half doubles the requests, twice would be
	// more memory than the upload itself takes.
	verifyBytes = 2 << 20
)

func (c *Config) setDefaults() {
	set := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	if c.CacheDir != "" {
		set(&c.CacheBytes, 10<<30)
	}
	set(&c.MemoryBytes, 128<<20)
	if c.UploadSlots == 0 {
		c.UploadSlots = 2
	}
	if c.ReadSlots == 0 {
		c.ReadSlots = 16
	}
	if c.ReaderGrace == 0 {
		c.ReaderGrace = 10 * time.Minute
	}
	if c.ManifestHistory == 0 {
		c.ManifestHistory = 24 * time.Hour
	}
	if c.ChunkBytes == 0 {
		c.ChunkBytes = defaultChunkBytes
	}
	if c.PageEntries == 0 {
		c.PageEntries = defaultPageEntries
	}
	if c.MaxDeleted == 0 {
		c.MaxDeleted = defaultMaxDeleted
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.DiskSpare == nil {
		c.DiskSpare = func() int64 { return math.MaxInt64 }
	}
	if c.OnStep == nil {
		c.OnStep = func(string) {}
	}
}

// Validate names all faults at once.
func (c *Config) Validate() error {
	var errs []error
	bad := func(cond bool, format string, args ...any) {
		if cond {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(c.Store == nil, "no object store")
	bad(c.MemoryBytes < minMemoryBytes, "memory of %d bytes, at least %d", c.MemoryBytes, minMemoryBytes)
	bad(c.CacheBytes < 0, "cache of %d bytes", c.CacheBytes)
	bad(c.UploadSlots < 1, "%d upload slots", c.UploadSlots)
	bad(c.ReadSlots < 1, "%d read slots", c.ReadSlots)
	bad(c.ChunkBytes < 1 || c.ChunkBytes > maxBlockBytes, "chunks of %d bytes, 1 to %d", c.ChunkBytes, maxBlockBytes)
	bad(c.PageEntries < 1 || c.PageEntries > defaultPageEntries, "pages of %d entries, 1 to %d", c.PageEntries, defaultPageEntries)
	bad(c.MaxDeleted < 0, "%d keys may wait for deletion", c.MaxDeleted)
	bad(c.UploadBytesPerSecond < 0 || c.ReadBytesPerSecond < 0, "negative rate")
	bad(c.ReaderGrace < 0 || c.ManifestHistory < 0, "negative grace")
	return errors.Join(errs...)
}
