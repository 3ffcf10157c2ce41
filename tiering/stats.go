package tiering

import "sync/atomic"

// stats are the counters behind Stats.
type stats struct {
	gets, getBytes, getErrors            atomic.Int64
	missing, corrupt                     atomic.Int64
	memoryHits, diskHits, misses         atomic.Int64
	diskWrites, diskShed, diskRejected   atomic.Int64
	diskErrors, diskCorrupt, diskEvicted atomic.Int64
	readBytes, uploads, uploadBytes      atomic.Int64
	uploadErrors, collected, ahead       atomic.Int64
	diskGivenBack                        atomic.Int64
}

// Stats is a snapshot of what a Tier has done and holds.
type Stats struct {
	Gets, GetBytes, GetErrors            int64 // ranged GETs of objects and indexes
	Missing, Corrupt                     int64 // named and not there; there and wrong
	MemoryHits, DiskHits, Misses         int64 // chunks that readers asked for, by where they were
	DiskWrites, DiskShed, DiskRejected   int64 // extents written, dropped for a full queue, not admitted
	DiskErrors, DiskCorrupt, DiskEvicted int64
	DiskGivenBack                        int64 // extents removed because the disk was short of space
	ReadBytes                            int64 // handed to readers
	ReadAheads                           int64 // GETs made before anybody asked
	Uploads, UploadBytes, UploadErrors   int64
	Collected                            int64 // objects, pages and manifests physically deleted

	Streams     int   // sequential readers remembered
	MemoryBytes int64 // memory cache
	DiskBytes   int64 // disk cache
}

// Stats returns the counters for metrics.
func (t *Tier) Stats() Stats {
	c := &t.stats
	s := Stats{
		Gets: c.gets.Load(), GetBytes: c.getBytes.Load(), GetErrors: c.getErrors.Load(),
		Missing: c.missing.Load(), Corrupt: c.corrupt.Load(),
		MemoryHits: c.memoryHits.Load(), DiskHits: c.diskHits.Load(), Misses: c.misses.Load(),
		DiskWrites: c.diskWrites.Load(), DiskShed: c.diskShed.Load(), DiskRejected: c.diskRejected.Load(),
		DiskErrors: c.diskErrors.Load(), DiskCorrupt: c.diskCorrupt.Load(), DiskEvicted: c.diskEvicted.Load(),
		DiskGivenBack: c.diskGivenBack.Load(), ReadBytes: c.readBytes.Load(), ReadAheads: c.ahead.Load(),
		Uploads: c.uploads.Load(), UploadBytes: c.uploadBytes.Load(), UploadErrors: c.uploadErrors.Load(),
		Collected: c.collected.Load(),
		Streams:   int(t.streamCount.Load()), MemoryBytes: int64(t.chunks.cache.WeightedSize()),
	}
	if t.disk != nil {
		s.DiskBytes = t.disk.usedBytes()
	}
	return s
}
