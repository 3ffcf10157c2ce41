// Package tiering keeps the long tail of partitions in an object store. It owns
// the cold object format (LZ4 frames and an index, FORMAT.md), the manifests that
// say which objects make up a partition's cold range, and everything that writes
// or reads them: upload, cold read with its caches and read-ahead, lookups,
// retention, deletion, topic descriptors and the purge of deleted topics.
//
// It refuses to know what a record is. Batches come as bytes with their offsets,
// epochs and timestamps as values; the two questions that need the inside of a
// batch are functions in Config. It refuses to know about raft too: the caller
// says which manifest is committed (SetPointer), and proposes the Commits that
// this package returns. Nothing that it writes is referenced before the caller's
// commit is applied.
//
// A Tier and its Partitions may be used by any number of goroutines at once,
// except that Upload, Retain and Collect of one partition are called one at a
// time by the one goroutine that proposes its commits (design, section 8.2).
//
// Lock order: Tier.mu, then Partition.mu, then stream.mu, then chunkSet.mu; the
// disk catalogue's and the slab pool's are taken last and alone. No lock is held
// over a request or a file access.
package tiering
