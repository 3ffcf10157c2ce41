// Package meta holds what the cluster knows about itself: brokers, topics, partitions, configs,
// tier pointers and producer id blocks. It owns the raft node, the raft store in data/raft, the
// identity of the data directory, the closed set of commands and the state machine that applies
// them (DESIGN section 6).
//
// It refuses to know logs, sockets and buckets: a command is decided from the state machine alone,
// its Apply does no I/O and reads no clock, and everything random or timed in it was chosen by
// the proposer. Gossip never reaches it other than as a command.
//
// Readers take the Image: immutable, copied by structure, behind one atomic pointer. All methods
// of Node and Image may be called from several goroutines at once.
package meta
