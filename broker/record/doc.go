// Package record knows the Kafka record batch, format version 2 (KIP-98), as bytes: a view over
// one batch, the records in it, batches that we build ourselves, the checks that a batch from a
// producer must pass, control batches and the five codecs. It refuses to know of logs, topics,
// offsets that are right or wrong for a partition, and of Kafka's error codes.
//
// Batches arrive from sockets, disks and buckets. Nothing here panics on such bytes, and nothing
// is allocated because of a number found in them before that number was checked against the
// bytes that are there or against the caller's limit. All functions may be called concurrently;
// two callers that share one Batch may both read it, and whoever calls a setter owns it alone.
package record
