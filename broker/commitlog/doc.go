// Package commitlog is the local log of one partition: segments of record batches exactly as on
// the wire, their sparse indexes, the leader-epoch history, the producer state, recovery after a
// crash, and the recycling of segment files. It owns everything below
// topics/<topicID>/<partition> and the pool/ folder of a data directory. It refuses to know who
// leads, what is committed, what is tiered where, and any Kafka error code.
//
// An acknowledged record is never lost, changed, duplicated or reordered by this package:
//
//	LocalStart <= Durable <= LEO
//
// where [LocalStart, Durable) has been fdatasynced together with the names of its files. What a
// reader is given stays what it is while its Span is held, whatever is dropped, truncated,
// reset or recycled meanwhile.
//
// # Concurrency
//
// Every method of Env and Log may be called from any goroutine. Locks, outer before inner:
//
//	Log.flushMu   one flush, checkpoint, truncation, reset, drop or close of a log at a time
//	Log.mu        positions, epochs, producers, the active segment
//	segment.io    one segment's open file and its pins
//	Env locks     queue, dirs, open files, index cache, pool: leaves, never held together
//
// fdatasync and directory syncs run under flushMu alone, so appends and reads go on beside them.
//
// Goroutines, all started by NewEnv and waited for by Env.Close: FlushParallel flush workers
// (fdatasync of dirty logs, in the order in which they became dirty), one janitor (index files of
// sealed segments, zeroing of recycled files, free space, lazy flushes of write.caching logs), and
// one watchdog when DiskTimeout is set. An idle Log has none, and no open file.
//
// # Order of durable steps
//
//	append    data, fdatasync, file name (directory sync), then Durable
//	roll      new name beside the old file; the old one is synced before Durable passes its end;
//	          index: temp file, fdatasync, rename, directory sync, in segment order
//	recycle   rename pool -> partition, both directories synced before Durable passes the base
//	drop      start file first (durable), then files; what lies below the start file's base is void
//	truncate  start file with the next generation, then indexes and segments from the top down
//	reset     start file with the void mark, files, start file without the mark
//	compact   new data and index under temporary names, swap file, their names, old files, no swap file
//
// # Crash points
//
// EnvConfig.OnStep is called with these names, right where they happen: append.written,
// flush.synced, flush.dirs, roll.created, roll.before-index, roll.index-written, roll.renamed,
// recycle.taken, recycle.returned, recycle.zeroed, drop.before-unlink, drop.unlinked,
// truncate.marked, truncate.removed, truncate.cut, reset.marked, reset.removed, reset.done,
// recover.cut, recover.synced, checkpoint.taken, compact.written, compact.synced, compact.prepared,
// compact.marked, compact.renamed, compact.removed, compact.done.
package commitlog
